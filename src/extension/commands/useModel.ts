/**
 * Evaluate: the loss of a run's model on rows of data, or its accuracy on test sets. It is long, shows that it runs, and can be cancelled.
 * The rule to keep: a figure is shown with what it was measured on.
 */
import path from "node:path";
import * as vscode from "vscode";
import type { TaskResult } from "../../protocol/evaluationTasks.ts";
import { parseRunFile } from "../../protocol/runConfig.ts";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import type { RunSession } from "../runs/runSession.ts";
import { shortName } from "../views/runText.ts";
import { cancellable } from "./cancellable.ts";
import { evaluateByTask, type TaskAnswers, taskSteps } from "./evaluateByTask.ts";
import { formatCount } from "./format.ts";
import { type Answer, askAll, back, pickStep, type Step } from "./multiStep.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

export function useModel(parts: ShellParts): Handlers<"evaluate"> {
  return { evaluate: (argument) => evaluate(parts, argument) };
}

/** A run's resolved configuration. */
export async function configOf(runFolder: string) {
  const file = path.join(runFolder, "run.yaml");
  return parseRunFile(new TextDecoder().decode(await vscode.workspace.fs.readFile(vscode.Uri.file(file))), file);
}

interface EvaluateAnswers extends TaskAnswers {
  data: string;
}

async function evaluate(parts: ShellParts, argument: unknown): Promise<ServiceResults["evaluate"] | readonly TaskResult[] | null> {
  const title = vscode.l10n.t("Evaluate");
  const session = await parts.targets.run(argument, title, "use");
  if (!session) return null;
  const state: EvaluateAnswers = { data: "", rows: null, byTask: false, tasks: [], tasksData: "", scoring: null };
  if (!(await askAll(title, [dataStep(parts, session), ...taskSteps(parts), rowsStep], state))) return null;
  return state.byTask ? evaluateByTask(parts, session, state) : evaluateOn(parts, session, state);
}

async function evaluateOn(parts: ShellParts, session: RunSession, { data, rows }: EvaluateAnswers): Promise<ServiceResults["evaluate"]> {
  const name = shortName(session.view);
  const result = await cancellable(vscode.l10n.t("Evaluating {0}", name), (signal) =>
    parts.service.request("evaluate", { modelOrRun: session.runFolder, data, rows }, { signal }),
  );
  const figures = [result.loss.toFixed(4), result.perplexity.toFixed(3), formatCount(result.tokens), formatCount(result.rows)];
  const text = vscode.l10n.t("{0}: loss {1}, perplexity {2}, over {3} tokens of {4} rows", name, ...figures);
  parts.log.info([`${text} (${data}, loss ${result.loss})`, ...result.notes].join("\n"));
  const showLog = vscode.l10n.t("Show Log");
  void vscode.window.showInformationMessage([`${text}.`, ...result.notes].join(" "), showLog).then((chosen) => {
    if (chosen) parts.log.show();
  });
  return result;
}

/** The run's own files first, then those of the workspace. */
function dataStep(parts: ShellParts, session: RunSession): Step<EvaluateAnswers> {
  const items = async () => {
    const [{ data }, { dataFiles }] = await Promise.all([configOf(session.runFolder), parts.known.filesNow()]);
    const known = [
      ...(data.eval ? [{ file: data.eval, description: vscode.l10n.t("held-out rows of the run") }] : []),
      { file: data.train, description: vscode.l10n.t("training rows of the run") },
      ...dataFiles
        .filter((file) => file !== data.eval && file !== data.train)
        .map((file) => ({ file, description: vscode.workspace.asRelativePath(path.dirname(file)) })),
    ];
    return [
      ...known.map(({ file, description }) => ({ label: `$(file) ${path.basename(file)}`, description, file, byTask: false })),
      {
        label: `$(checklist) ${vscode.l10n.t("By task…")}`,
        description: vscode.l10n.t("accuracy on test sets such as BoolQ, ARC or GSM8K"),
        file: "",
        byTask: true,
      },
      {
        label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`,
        description: vscode.l10n.t("a .jsonl, .json, .csv or .txt file"),
        file: "",
        byTask: false,
      },
    ];
  };
  return {
    ask: async (state, place): Promise<Answer<true>> => {
      const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose the rows to evaluate on"), items: items() });
      if (picked === undefined || picked === back) return picked;
      state.byTask = picked.byTask;
      if (state.byTask) return true;
      const filters = { [vscode.l10n.t("Data")]: ["jsonl", "json", "csv", "txt"] };
      const chosen =
        picked.file ||
        (await vscode.window.showOpenDialog({ canSelectMany: false, title: vscode.l10n.t("Choose a data file"), filters }))?.[0].fsPath;
      if (!chosen) return undefined;
      state.data = chosen;
      return true;
    },
  };
}

const rowsStep: Step<EvaluateAnswers> = {
  ask: async (state, place) => {
    const items = [
      { label: vscode.l10n.t("The first 200 rows"), rows: 200 },
      { label: vscode.l10n.t("All rows"), rows: null },
    ];
    const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose how many rows are used"), items });
    if (picked === undefined || picked === back) return picked;
    state.rows = picked.rows;
    return true;
  },
};
