/**
 * What is done with a model once it is there: Evaluate, and Merge and Export. Both are long, show that they run, and can be cancelled.
 * The rule to keep: an export goes into a folder that is new or empty; another one is asked for otherwise.
 */
import { readdir } from "node:fs/promises";
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

export function useModel(parts: ShellParts): Handlers<"evaluate" | "mergeAndExport"> {
  return { evaluate: (argument) => evaluate(parts, argument), mergeAndExport: (argument) => mergeAndExport(parts, argument) };
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

interface ExportAnswers {
  format: "merged" | "delta";
  /** Null for as the base. */
  dtype: "f32" | "bf16" | null;
  to: string;
}

async function mergeAndExport(parts: ShellParts, argument: unknown): Promise<string | null> {
  const title = vscode.l10n.t("Merge and Export");
  const session = await parts.targets.run(argument, title, "use");
  if (!session) return null;
  const state: ExportAnswers = { format: "merged", dtype: null, to: "" };
  if (!(await askAll(title, [formatStep, dtypeStep, targetStep(session)], state))) return null;
  const { dtype, ...asked } = state;
  const request = { runFolder: session.runFolder, ...asked, ...(dtype && asked.format === "merged" ? { dtype } : {}) };
  const { folder, notes } = await cancellable(vscode.l10n.t("Exporting {0}", shortName(session.view)), (signal) =>
    parts.service.request("export", request, { signal }),
  );
  const copy = vscode.l10n.t("Copy Path");
  for (const note of notes) parts.log.warn(note);
  void vscode.window.showInformationMessage([vscode.l10n.t("Exported to {0}.", folder), ...notes].join(" "), copy).then((chosen) => {
    if (chosen) void vscode.env.clipboard.writeText(folder);
  });
  return folder;
}

const formatStep: Step<ExportAnswers> = {
  ask: async (state, place) => {
    const items = [
      {
        label: vscode.l10n.t("Merged model"),
        format: "merged" as const,
        detail: vscode.l10n.t("A complete Hugging Face folder that other tools load as it is; as large as the base model."),
      },
      {
        label: vscode.l10n.t("Delta"),
        format: "delta" as const,
        detail: vscode.l10n.t("Only the trained blocks; small. It can be applied to the base model and taken out again byte for byte."),
      },
    ];
    const picked = await pickStep({
      ...place,
      placeholder: vscode.l10n.t("Choose what is written"),
      items,
      active: ({ format }) => format === state.format,
    });
    if (picked === undefined || picked === back) return picked;
    state.format = picked.format;
    return true;
  },
};

const dtypeStep: Step<ExportAnswers> = {
  applies: ({ format }) => format === "merged",
  ask: async (state, place) => {
    const items = [
      { label: vscode.l10n.t("As the base"), dtype: null, description: vscode.l10n.t("rounding to 16 bits may take small changes back") },
      { label: vscode.l10n.t("32 bits (F32)"), dtype: "f32" as const, description: vscode.l10n.t("all that was learned; twice as large as 16 bits") },
      { label: vscode.l10n.t("16 bits (BF16)"), dtype: "bf16" as const, description: vscode.l10n.t("also where the base has more") },
    ];
    const picked = await pickStep({
      ...place,
      placeholder: vscode.l10n.t("Choose how the weights are stored"),
      items,
      active: ({ dtype }) => dtype === state.dtype,
    });
    if (picked === undefined || picked === back) return picked;
    state.dtype = picked.dtype;
    return true;
  },
};

function targetStep(session: RunSession): Step<ExportAnswers> {
  return {
    ask: async (state, place): Promise<Answer<true>> => {
      const proposed = await freeFolder(session, state.format);
      for (;;) {
        const items = [
          { label: `$(new-folder) ${path.basename(proposed)}`, description: path.dirname(proposed), folder: proposed },
          { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description: vscode.l10n.t("an empty folder"), folder: "" },
        ];
        const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose the folder to write into"), items });
        if (picked === undefined || picked === back) return picked;
        const chosen = picked.folder || (await askFolder(path.dirname(proposed)));
        if (!chosen) continue;
        if (await isEmpty(chosen)) {
          state.to = chosen;
          return true;
        }
        const again = vscode.l10n.t("Choose Another Folder");
        const message = vscode.l10n.t("{0} is not empty. Nothing is written into a folder that holds something.", chosen);
        if ((await vscode.window.showWarningMessage(message, { modal: true }, again)) !== again) return undefined;
      }
    },
  };
}

/** Asks for a folder to write into. */
export async function askFolder(start: string): Promise<string | undefined> {
  const title = vscode.l10n.t("Choose an empty folder");
  const options = { canSelectFolders: true, canSelectFiles: false, title, defaultUri: vscode.Uri.file(start) };
  return (await vscode.window.showOpenDialog(options))?.[0].fsPath;
}

/** Whether a folder can be written into without touching anything: it is not there, or holds nothing. */
export async function isEmpty(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return false;
    throw error;
  }
}

/** A folder that is not there yet, in the workspace or beside the run's `.sparse-tuner`. */
async function freeFolder({ runFolder, view }: RunSession, format: string): Promise<string> {
  const parts = runFolder.split(path.sep);
  const at = parts.lastIndexOf(".sparse-tuner");
  const parent = at > 0 ? parts.slice(0, at).join(path.sep) : path.dirname(runFolder);
  for (let number = 1; ; number++) {
    const folder = path.join(parent, `${shortName(view)}-${format}${number === 1 ? "" : `-${number}`}`);
    if (await isEmpty(folder)) return folder;
  }
}
