/**
 * Plan Memory: what a run would take, by running its very steps on the device that only counts, as a text to read. Unsaved text of an open run file is
 * what is planned.
 */
import path from "node:path";
import * as vscode from "vscode";
import { type MemoryClass, memoryClasses } from "../../protocol/memory.ts";
import { runNameOf } from "../../protocol/runName.ts";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import { formatBytes, formatCount, formatPercent } from "./format.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { table } from "./textTable.ts";

type Plan = ServiceResults["plan"];

export function planMemoryCommand({ targets, service, documents }: ShellParts): Handlers<"planMemory"> {
  return {
    planMemory: async (argument) => {
      const target = await targets.either(argument, vscode.l10n.t("Plan Memory"));
      if (!target) return null;
      const runFile = target.runFile ?? vscode.Uri.file(path.join(target.runFolder ?? "", "run.yaml"));
      const text = (await vscode.workspace.openTextDocument(runFile)).getText();
      const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Planning memory") };
      const runFolder = target.runFolder ?? undefined;
      const plan = await vscode.window.withProgress(options, () => service.request("plan", { runFile: runFile.fsPath, text, runFolder }));
      const name = target.runFolder ? path.basename(target.runFolder) : runNameOf(runFile.fsPath);
      await documents.show(documents.set(vscode.l10n.t("Memory plan of {0}", name).concat(".md"), planText(plan, name)));
      return plan;
    },
  };
}

function className(name: MemoryClass): string {
  const names: Record<MemoryClass, string> = {
    weights: vscode.l10n.t("weights"),
    trainable: vscode.l10n.t("trainable copies"),
    gradients: vscode.l10n.t("gradients"),
    optimizer: vscode.l10n.t("optimizer state"),
    activations: vscode.l10n.t("activations"),
    workspace: vscode.l10n.t("workspace"),
  };
  return names[name];
}

/** The plan beside full fine-tuning's, by class, in bytes too, because figures that are rounded cannot be compared. */
export function planText(plan: Plan, name: string): string {
  const { fullFineTuning: full } = plan;
  const head = (title: string) => [title, vscode.l10n.t("this run"), vscode.l10n.t("full fine-tuning")];
  const rows = (shown: (bytes: number) => string) => [
    ...memoryClasses.map((key) => [className(key), shown(plan.bytesByClass[key]), shown(full.bytesByClass[key])]),
    [vscode.l10n.t("peak"), shown(plan.peakBytes), shown(full.peakBytes)],
  ];
  const parts = [
    `# ${vscode.l10n.t("Memory plan of {0}", name)}`,
    fitText(plan),
    ...plan.warnings.map((warning) => vscode.l10n.t("Warning: {0}", warning)),
    table([head(""), ...rows(formatBytes)]),
    [
      vscode.l10n.t("- Device: {0}", plan.device),
      vscode.l10n.t(
        "- Peak: {0}, which is {1} of full fine-tuning's {2}",
        formatBytes(plan.peakBytes),
        formatPercent(plan.peakBytes / full.peakBytes),
        formatBytes(full.peakBytes),
      ),
      vscode.l10n.t(
        "- Trained: {0} of {1} parameters ({2})",
        formatCount(plan.trainableParameters),
        formatCount(plan.totalParameters),
        formatPercent(plan.trainableParameters / plan.totalParameters),
      ),
      vscode.l10n.t(
        "- Weights, gradients and optimizer: {0} bytes a parameter; full fine-tuning {1}",
        plan.bytesPerParameter.toFixed(2),
        full.bytesPerParameter.toFixed(2),
      ),
      plan.exact
        ? vscode.l10n.t("- The plan is exact: it is what the run's own steps allocate.")
        : vscode.l10n.t("- Worst case until the blocks are chosen: the run takes at most this, wherever they lie."),
    ].join("\n"),
    table([head(vscode.l10n.t("in bytes")), ...rows(String)]),
  ];
  return `${parts.join("\n\n")}\n`;
}

function fitText({ fits, peakBytes, availableBytes, memoryProblem, cheapestChange }: Plan): string {
  if (availableBytes === null) return vscode.l10n.t("Whether it fits is not known. {0}", memoryProblem ?? "");
  if (fits) return vscode.l10n.t("It fits: {0} are free, and {1} stay free.", formatBytes(availableBytes), formatBytes(availableBytes - peakBytes));
  const missing = vscode.l10n.t(
    "It does not fit: {0} are free, and {1} are missing.",
    formatBytes(availableBytes),
    formatBytes(peakBytes - availableBytes),
  );
  return cheapestChange ? `${missing} ${cheapestChange}` : missing;
}
