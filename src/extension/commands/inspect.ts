/** Commands that open other parts of the extension: the inspector of sub-matrices, and the preview of training data. */
import path from "node:path";
import * as vscode from "vscode";
import { previewTrainingData } from "../data/previewTrainingData.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

export function inspectCommands(parts: ShellParts): Handlers<"inspectSubMatrix" | "previewTrainingData"> {
  return {
    inspectSubMatrix: async (argument) => {
      const session = await parts.targets.run(argument, vscode.l10n.t("Inspect Sub-matrix"), "use");
      if (session) await parts.inspectors.open(session);
    },
    previewTrainingData: async (argument) => {
      const target = await parts.targets.either(argument, vscode.l10n.t("Preview Training Data"));
      if (!target) return;
      await previewTrainingData(parts, target.runFile ?? vscode.Uri.file(path.join(target.runFolder ?? "", "run.yaml")));
    },
  };
}
