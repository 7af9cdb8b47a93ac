/**
 * Evaluate, by task: accuracy of a run on test sets, each beside what always giving its most frequent answer would reach. The sets' files are the
 * person's; none is fetched. How a set is scored is the core's business.
 * The rule to keep: an accuracy is never shown without its floor where there is one.
 */
import path from "node:path";
import * as vscode from "vscode";
import {
  commonsenseTasks,
  mathsTasks,
  meanOver,
  notesOf,
  otherTasks,
  standardError,
  type TaskName,
  type TaskResult,
  type TaskScoring,
  taskSets,
} from "../../protocol/evaluationTasks.ts";
import type { RunSession } from "../runs/runSession.ts";
import { shortName } from "../views/runText.ts";
import { cancellable } from "./cancellable.ts";
import { type Answer, back, pickManyStep, pickStep, type Step } from "./multiStep.ts";
import type { ShellParts } from "./shellParts.ts";
import { table } from "./textTable.ts";

/** What is asked for; `byTask` says whether it is at all. */
export interface TaskAnswers {
  byTask: boolean;
  tasks: TaskName[];
  /** A file of one task, or a folder with a file for each. */
  tasksData: string;
  scoring: TaskScoring | null;
  rows: number | null;
}

const prompts = 16;
/** Of the workspace state: where the sets were last time. */
const lastData = "evaluateByTask.data";

/** The questions, each only where it is by task. */
export function taskSteps(parts: ShellParts): Step<TaskAnswers>[] {
  const applies = ({ byTask }: TaskAnswers) => byTask;
  return [tasksStep, dataStep(parts), scoringStep].map((ask) => ({ applies, ask }));
}

/** Evaluates and shows the result as a document. */
export async function evaluateByTask(parts: ShellParts, session: RunSession, answers: TaskAnswers): Promise<readonly TaskResult[]> {
  const { tasks, tasksData: data, scoring, rows } = answers;
  await parts.context.workspaceState.update(lastData, data);
  const name = shortName(session.view);
  const { results, notes } = await cancellable(vscode.l10n.t("Evaluating {0} by task", name), (signal, say) =>
    parts.service.evaluateTasks(
      { modelOrRun: session.runFolder, tasks, data, scoring, rows, batchSize: prompts },
      ({ task, done, of }) => say(vscode.l10n.t("{0}: {1} of {2} rows", taskSets[task].title, done, of)),
      { signal },
    ),
  );
  const text = resultText(results, name, notes);
  parts.log.info(text);
  await parts.documents.show(parts.documents.set(vscode.l10n.t("Tasks of {0}", name).concat(".md"), text));
  return results;
}

/** The results as a Markdown text that reads as well plain. */
export function resultText(results: readonly TaskResult[], name: string, notes: readonly string[]): string {
  const mean = meanOver(results);
  const head = [vscode.l10n.t("Task"), vscode.l10n.t("accuracy"), "±", vscode.l10n.t("floor"), vscode.l10n.t("correct"), vscode.l10n.t("rows")];
  const rows = results.map((result) => [
    result.title,
    percent(result.accuracy),
    percent(standardError(result)),
    floorText(result.majorityFloor, result.publishedFloor !== null),
    String(result.correct),
    String(result.total),
  ]);
  const meanRow = [vscode.l10n.t("mean over tasks"), percent(mean.accuracy), "", floorText(mean.majorityFloor, false), "", ""];
  const parts = [
    `# ${vscode.l10n.t("Tasks of {0}", name)}`,
    table([head, ...rows, ...(results.length > 1 ? [meanRow] : [])]),
    legend(results).join("\n"),
    ...listOf(vscode.l10n.t("Notes"), [...notes, ...notesOf(results)]),
    ...listOf(
      vscode.l10n.t("Files"),
      results.map(({ title, file }) => `${title}: ${file}`),
    ),
  ];
  return `${parts.join("\n\n")}\n`;
}

function floorText(floor: number | null, published: boolean): string {
  if (floor === null) return "–";
  return published ? vscode.l10n.t("{0} as published", percent(floor)) : percent(floor);
}

/** What the columns and the scoring mean, as far as these results need it. */
function legend(results: readonly TaskResult[]): string[] {
  const likelihood = results.filter(({ accuracyPerToken }) => accuracyPerToken !== null);
  const written = results.filter(({ scoring }) => scoring === "generation");
  const list = (all: readonly TaskResult[], figure: (result: TaskResult) => string) =>
    all.map((result) => `${result.title} ${figure(result)}`).join(", ");
  return [
    vscode.l10n.t("- ±: standard error of the accuracy."),
    ...(results.some(({ majorityFloor }) => majorityFloor !== null)
      ? [vscode.l10n.t("- Floor: always giving the file's most frequent answer. A model that is not above it may have learnt nothing of the task.")]
      : []),
    ...(likelihood.length > 0
      ? [
          vscode.l10n.t(
            "- Scored by log-likelihood: the candidate answer with the largest sum over its tokens. By the mean per token: {0}.",
            list(likelihood, ({ accuracyPerToken }) => percent(accuracyPerToken ?? 0)),
          ),
        ]
      : []),
    ...(written.length > 0
      ? [
          vscode.l10n.t(
            "- Scored by generation: what the model writes, greedily. No answer found, counted as wrong: {0}.",
            list(written, ({ unanswered, total }) => vscode.l10n.t("{0} of {1}", unanswered ?? 0, total)),
          ),
        ]
      : []),
  ];
}

function listOf(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`## ${title}`, lines.map((line) => `- ${line}`).join("\n")];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

const tasksStep: Step<TaskAnswers>["ask"] = async (state, place) => {
  const group = (label: string, tasks: readonly TaskName[]) => [
    { label, kind: vscode.QuickPickItemKind.Separator, task: null },
    ...tasks.map((task) => ({ label: taskSets[task].title, description: task, picked: state.tasks.includes(task), task })),
  ];
  const items = [
    ...group(vscode.l10n.t("Commonsense"), commonsenseTasks),
    ...group(vscode.l10n.t("Maths"), mathsTasks),
    ...group(vscode.l10n.t("Other"), otherTasks),
  ];
  const picked = await pickManyStep({ ...place, placeholder: vscode.l10n.t("Choose the tasks"), items });
  if (picked === undefined || picked === back) return picked;
  state.tasks = picked.map(({ task }) => task).filter((task) => task !== null);
  return true;
};

/** Where the sets may be: the last place, what the workspace holds, any other. */
function dataStep(parts: ShellParts): Step<TaskAnswers>["ask"] {
  return async (state, place): Promise<Answer<true>> => {
    const many = state.tasks.length > 1;
    const items = parts.known.filesNow().then(({ dataFiles }) => {
      const last = parts.context.workspaceState.get<string>(lastData);
      const found = taskPlaces(state.tasks, dataFiles);
      return [
        // Several tasks need a folder.
        ...[...new Set([...(last && !(many && isDataFile(last)) ? [last] : []), ...found])].map((data) => ({
          label: isDataFile(data) ? `$(file) ${path.basename(data)}` : `$(folder) ${path.basename(data)}`,
          description: vscode.workspace.asRelativePath(path.dirname(data)),
          data,
          browse: null,
        })),
        ...(many
          ? []
          : [
              {
                label: `$(file) ${vscode.l10n.t("Browse for a File…")}`,
                description: vscode.l10n.t("the task's .json or .jsonl file"),
                data: "",
                browse: "file" as const,
              },
            ]),
        {
          label: `$(folder-opened) ${vscode.l10n.t("Browse for a Folder…")}`,
          description: vscode.l10n.t("with a file for each task, such as LLM-Adapters' dataset folder"),
          data: "",
          browse: "folder" as const,
        },
      ];
    });
    const placeholder = many ? vscode.l10n.t("Choose the folder with the tasks' files") : vscode.l10n.t("Choose the task's file");
    for (;;) {
      const picked = await pickStep({ ...place, placeholder, items });
      if (picked === undefined || picked === back) return picked;
      const data = picked.browse ? await browse(picked.browse) : picked.data;
      // A dialog that is closed leads back to the list.
      if (!data) continue;
      state.tasksData = data;
      return true;
    }
  };
}

function isDataFile(place: string): boolean {
  return /\.jsonl?$/i.test(place);
}

async function browse(what: "file" | "folder"): Promise<string | undefined> {
  const folder = what === "folder";
  const title = folder ? vscode.l10n.t("Choose the folder with the tasks' files") : vscode.l10n.t("Choose the task's file");
  const filters = folder ? undefined : { [vscode.l10n.t("Data")]: ["json", "jsonl"] };
  return (await vscode.window.showOpenDialog({ canSelectMany: false, canSelectFolders: folder, canSelectFiles: !folder, title, filters }))?.[0]
    .fsPath;
}

/** Files of the one task and folders that, by the names in them, hold files of the tasks. */
export function taskPlaces(tasks: readonly TaskName[], dataFiles: readonly string[]): string[] {
  const places = new Set<string>();
  for (const file of dataFiles) {
    const [folder, base] = [path.dirname(file), path.basename(file).toLowerCase()];
    const isLayout = /^test\.jsonl?$/.test(base) && tasks.some((task) => taskSets[task].folder === path.basename(folder));
    const isNamed = tasks.some((task) => [`${task}.json`, `${task}.jsonl`].includes(base));
    if (tasks.length === 1 && (isLayout || isNamed)) places.add(file);
    else if (isLayout) places.add(path.dirname(folder));
    else if (isNamed) places.add(folder);
  }
  return [...places];
}

const scoringStep: Step<TaskAnswers>["ask"] = async (state, place) => {
  const items = [
    {
      label: vscode.l10n.t("As suits each task"),
      detail: vscode.l10n.t("By log-likelihood where a task offers answers, else by generation."),
      scoring: null,
    },
    {
      label: vscode.l10n.t("By log-likelihood"),
      detail: vscode.l10n.t("Which candidate answer the model finds likeliest; fast, and less noisy for small models."),
      scoring: "logLikelihood" as const,
    },
    {
      label: vscode.l10n.t("By generation"),
      detail: vscode.l10n.t("What the model writes, read as papers read it; slow."),
      scoring: "generation" as const,
    },
  ];
  const active = ({ scoring }: { scoring: TaskScoring | null }) => scoring === state.scoring;
  const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose how answers are scored"), items, active });
  if (picked === undefined || picked === back) return picked;
  state.scoring = picked.scoring;
  return true;
};
