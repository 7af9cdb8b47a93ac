/**
 * New Run: asks for a model, data, a method, a budget and a place, and writes a run file. It starts nothing: the file is opened beside its panel, which
 * plans it.
 * The rule to keep: a file that exists is never overwritten.
 */
import { existsSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { modelPlaces } from "./modelPlaces.ts";
import { type Answer, askAll, back, inputStep, type Place, pickStep, type Step } from "./multiStep.ts";
import { type Budget, type NewRun, runFileText } from "./runFileText.ts";
import { nameProblem } from "./runFolders.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

const ending = ".sparse-tuner.yaml";

interface Answers extends NewRun {
  folder: string;
  name: string;
}

export function newRunCommand(parts: ShellParts): Handlers<"newRun"> {
  return { newRun: (argument) => newRun(parts, argument) };
}

async function newRun(parts: ShellParts, argument: unknown): Promise<vscode.Uri | null> {
  const given = typeof argument === "object" && argument !== null ? (argument as { modelFolder?: unknown }).modelFolder : undefined;
  const state: Answers = {
    model: typeof given === "string" ? given : "",
    data: "",
    method: "smt",
    budget: { key: "ratio", value: 0.0084 },
    folder: vscode.workspace.workspaceFolders?.find(({ uri }) => uri.scheme === "file")?.uri.fsPath ?? parts.context.globalStorageUri.fsPath,
    name: "",
  };
  const model: Step<Answers> = { applies: () => typeof given !== "string", ask: (answers, place) => askModel(parts, answers, place) };
  const steps = [model, { ask: askData(parts) }, { ask: askMethod }, { applies: isSmt, ask: askBudget }, { ask: askFolder(parts) }, { ask: askName }];
  if (!(await askAll(vscode.l10n.t("New Run"), steps, state))) return null;
  const uri = await write(state);
  await vscode.window.showTextDocument(uri, { viewColumn: vscode.ViewColumn.One, preview: false });
  parts.panels.openRunFile(uri);
  void parts.known.refresh();
  return uri;
}

const isSmt = ({ method }: Answers) => method === "smt";

interface PathPick extends vscode.QuickPickItem {
  /** Null opens a dialog. */
  path: string | null;
}

async function askModel(parts: ShellParts, state: Answers, place: Place): Promise<Answer<true>> {
  const items = modelPlaces(parts).then((places): PathPick[] => [
    ...places.map(({ name, folder, source }) => ({ label: `$(symbol-class) ${name}`, description: source, detail: folder, path: folder })),
    { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description: vscode.l10n.t("a folder with config.json and safetensors"), path: null },
  ]);
  return askPath(
    state,
    "model",
    { ...place, placeholder: vscode.l10n.t("Choose the model to fine-tune"), items },
    {
      canSelectFolders: true,
      title: vscode.l10n.t("Choose a model folder"),
    },
  );
}

function askData(parts: ShellParts): Step<Answers>["ask"] {
  return (state, place) => {
    const items = parts.known
      .files()
      .then(({ dataFiles }): PathPick[] => [
        ...dataFiles
          .slice(0, 500)
          .map((file) => ({ label: `$(file) ${path.basename(file)}`, description: vscode.workspace.asRelativePath(path.dirname(file)), path: file })),
        { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description: vscode.l10n.t("a .jsonl, .json, .csv or .txt file"), path: null },
      ]);
    return askPath(
      state,
      "data",
      { ...place, placeholder: vscode.l10n.t("Choose the training data"), items },
      {
        canSelectFiles: true,
        title: vscode.l10n.t("Choose a data file"),
        filters: { [vscode.l10n.t("Data")]: ["jsonl", "json", "csv", "txt"] },
      },
    );
  };
}

type PathQuestion = Place & { placeholder: string; items: Promise<PathPick[]> };

/** A path from a list, or from a dialog; a dialog that is closed leads back to the list. */
async function askPath(
  state: Answers,
  key: "model" | "data" | "folder",
  question: PathQuestion,
  dialog: vscode.OpenDialogOptions,
): Promise<Answer<true>> {
  for (;;) {
    const picked = await pickStep({ ...question, active: ({ path: file }) => file === state[key] });
    if (picked === undefined || picked === back) return picked;
    const chosen = picked.path ?? (await vscode.window.showOpenDialog({ canSelectMany: false, ...dialog }))?.[0].fsPath;
    if (!chosen) continue;
    state[key] = chosen;
    return true;
  }
}

async function askMethod(state: Answers, place: Place): Promise<Answer<true>> {
  const items = [
    {
      label: "SMT",
      method: "smt" as const,
      description: vscode.l10n.t("Sparse Matrix Tuning"),
      detail: vscode.l10n.t("Scores every block of every matrix by its gradient, then trains only the best. Takes a fraction of the memory."),
    },
    {
      label: vscode.l10n.t("Full fine-tuning"),
      method: "full" as const,
      detail: vscode.l10n.t("Trains every weight. Takes the most memory; good to compare with."),
    },
  ];
  const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose a method"), items, active: ({ method }) => method === state.method });
  if (picked === undefined || picked === back) return picked;
  state.method = picked.method;
  return true;
}

interface BudgetPick extends vscode.QuickPickItem {
  budget: Budget | null;
}

async function askBudget(state: Answers, place: Place): Promise<Answer<true>> {
  const ratio = (value: number, description: string): BudgetPick => ({
    label: `${Number((value * 100).toPrecision(3))} %`,
    description,
    budget: { key: "ratio", value },
  });
  const items: BudgetPick[] = [
    ratio(0.0084, vscode.l10n.t("of the model's weights; what the paper uses for LLaMA-7B")),
    ratio(0.0486, vscode.l10n.t("of the model's weights; nearer to full fine-tuning")),
    ratio(0.002, vscode.l10n.t("of the model's weights; the least memory")),
    { label: vscode.l10n.t("Another share…"), description: vscode.l10n.t("in percent of the model's weights"), budget: null },
    { label: vscode.l10n.t("A number of blocks…"), budget: { key: "blocks", value: 0 } },
  ];
  const same = ({ budget }: BudgetPick) => budget?.key === state.budget.key && budget.value === state.budget.value;
  for (;;) {
    const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose how much is trained"), items, active: same });
    if (picked === undefined || picked === back) return picked;
    const budget = picked.budget && picked.budget.value > 0 ? picked.budget : await askNumber(place, picked.budget ? "blocks" : "ratio");
    if (budget === undefined) return undefined;
    if (budget === back) continue;
    state.budget = budget;
    return true;
  }
}

async function askNumber(place: Place, key: "ratio" | "blocks"): Promise<Answer<Budget>> {
  const isRatio = key === "ratio";
  const entered = await inputStep({
    ...place,
    prompt: isRatio ? vscode.l10n.t("Share of the model's weights to train, in percent") : vscode.l10n.t("Number of blocks to train"),
    value: isRatio ? "1" : "128",
    problem: (text) => {
      const value = Number(text);
      if (isRatio) return value > 0 && value <= 100 ? null : vscode.l10n.t("Give a number above 0 and up to 100.");
      return Number.isInteger(value) && value >= 1 ? null : vscode.l10n.t("Give a whole number above 0.");
    },
  });
  if (entered === undefined || entered === back) return entered;
  return { key, value: isRatio ? Number((Number(entered) / 100).toPrecision(12)) : Number(entered) };
}

function askFolder(parts: ShellParts): Step<Answers>["ask"] {
  return (state, place) => {
    const folders = (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file");
    const items: PathPick[] = folders.map(({ name, uri }) => ({ label: `$(root-folder) ${name}`, description: uri.fsPath, path: uri.fsPath }));
    const browse = { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description: vscode.l10n.t("another folder"), path: null };
    const storage = parts.context.globalStorageUri.fsPath;
    if (items.length === 0) items.push({ label: `$(archive) ${vscode.l10n.t("Storage of the extension")}`, description: storage, path: storage });
    const question = {
      ...place,
      placeholder: vscode.l10n.t("Choose where the run file and its runs are saved"),
      items: Promise.resolve([...items, browse]),
    };
    return askPath(state, "folder", question, { canSelectFolders: true, title: vscode.l10n.t("Choose a folder") });
  };
}

async function askName(state: Answers, place: Place): Promise<Answer<true>> {
  const entered = await inputStep({
    ...place,
    prompt: vscode.l10n.t("Name of the run; its file is <name>{0}", ending),
    value: state.name || freeName(state),
    problem: (name) => nameProblem(state.folder, name, ending),
  });
  if (entered === undefined || entered === back) return entered;
  state.name = entered;
  return true;
}

/** From the data and the model, with a number behind it when that is taken. */
function freeName({ model, data, folder, method }: Answers): string {
  const plain = (file: string) =>
    path
      .basename(file)
      .replace(/\.[^.]+$/, "")
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-+|-+$/g, "");
  const stem = [plain(model).slice(0, 24), plain(data).slice(0, 24), method].filter(Boolean).join("-");
  for (let number = 1; ; number++) {
    const name = number === 1 ? stem : `${stem}-${number}`;
    if (!existsSync(path.join(folder, name + ending))) return name;
  }
}

async function write(answers: Answers): Promise<vscode.Uri> {
  const file = path.join(answers.folder, answers.name + ending);
  await mkdir(answers.folder, { recursive: true });
  const handle = await open(file, "wx");
  try {
    const comment = vscode.l10n.t("Sparse Tuner run file. Every key has a description: hover it. What is left out has a default.");
    await handle.writeFile(runFileText(answers, answers.folder, comment, os.EOL));
  } finally {
    await handle.close();
  }
  return vscode.Uri.file(file);
}
