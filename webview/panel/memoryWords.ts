/** What the classes of device memory are called, and their colours; shared by the chart, the table and the plan so that a colour means one thing. */
import { type MemoryClass, memoryClasses } from "../../src/protocol/memory.ts";
import { t } from "../strings.ts";
import type { Theme } from "../theme.ts";

/** The class's name in the display language. */
export function memoryClassName(memoryClass: MemoryClass): string {
  switch (memoryClass) {
    case "weights":
      return t("frozen weights");
    case "trainable":
      return t("trained weights");
    case "gradients":
      return t("gradients");
    case "optimizer":
      return t("optimizer state");
    case "activations":
      return t("activations");
    case "workspace":
      return t("workspace buffers");
  }
}

/** The class's colour; a legend with its name always stands beside it. Grey is for what is left over. */
export function memoryClassColor(memoryClass: MemoryClass, theme: Theme): string {
  const { series } = theme;
  // On a light ground the fifth colour is a second blue, too near to the frozen weights'.
  const order = isLight(theme) ? [0, 1, 2, 3, 5, 6] : [0, 1, 2, 3, 4, 6];
  return series[order[memoryClasses.indexOf(memoryClass)]];
}

/** The colour of full fine-tuning's line, which no class has. */
export function fullFineTuningColor(theme: Theme): string {
  return theme.series[isLight(theme) ? 4 : 5];
}

/** The colour of the graphics card's lines: no class's, and quieter than the ledger's own. */
export function cardColor(theme: Theme): string {
  return theme.mutedForeground;
}

function isLight({ kind }: Theme): boolean {
  return kind === "light" || kind === "highContrastLight";
}
