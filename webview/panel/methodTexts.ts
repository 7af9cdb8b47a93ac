/** The names of the methods and what the panel has to know of each, by the word in the run file. No DOM. */
import { t } from "../strings.ts";
import { valueAt } from "./formEdits.ts";
import type { PanelState } from "./store.ts";

/** A method's name as its authors write it; a word that is none of ours stays as it is. */
export function methodName(method: string): string {
  const names: Record<string, string> = { smt: "SMT", lors: "LoRS", lora: "LoRA", dora: "DoRA", spp: "SPP", sqft: "SQFT" };
  if (method === "full") return t("full fine-tuning");
  return Object.hasOwn(names, method) ? names[method] : method;
}

/** As a choice of the form. */
export function methodChoice(method: string): string {
  switch (method) {
    case "smt":
      return t("smt: Sparse Matrix Tuning");
    case "full":
      return t("full: full fine-tuning");
    case "lors":
      return t("lors: low-rank adapters that keep a pruned model's zeros");
    case "lora":
      return t("lora: dense low-rank adapters");
    case "dora":
      return t("dora: LoRA with a trained length of each row");
    case "spp":
      return t("spp: scales the remaining weights by row and column");
    case "sqft":
      return t("sqft: low-rank adapters under the mask, 4-bit base possible");
    default:
      return method;
  }
}

/** The method of what is shown: of the run's own events, else of its run file; null while neither is known. */
export function methodOf({ started, form }: Pick<PanelState, "started" | "form">): string | null {
  const named = started?.method ?? valueAt(form?.values, "method.name");
  return typeof named === "string" ? named : null;
}

/** Only SMT chooses blocks; what is not known yet may. */
export function choosesBlocks(state: Pick<PanelState, "started" | "form">): boolean {
  return (methodOf(state) ?? "smt") === "smt";
}

/** Its parameters stand beside frozen weights. */
export function isAdapter(method: string | null): boolean {
  return method !== null && ["lors", "lora", "dora", "spp", "sqft"].includes(method);
}
