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
import { type Answer, askAll, back, inputStep, type Place, type Step } from "./multiStep.ts";
import { askBudget, askMethod, askSize, hasSize, isSmt } from "./newRunMethod.ts";
import { askDataFile, askModelFolder, askPath, browseItem, type PathPick, settle } from "./pathQuestions.ts";
import { type NewRun, runFileText } from "./runFileText.ts";
import { nameProblem } from "./runFolders.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

const ending = ".sparse-tuner.yaml";

/** What a caller may know already. */
interface NewRunArgument {
  modelFolder?: unknown;
  method?: unknown;
}

interface Answers extends NewRun {
  folder: string;
  name: string;
}

export function newRunCommand(parts: ShellParts): Handlers<"newRun"> {
  return { newRun: (argument) => newRun(parts, argument) };
}

async function newRun(parts: ShellParts, argument: unknown): Promise<vscode.Uri | null> {
  const { modelFolder: given, method: wanted } = typeof argument === "object" && argument !== null ? (argument as NewRunArgument) : {};
  const state: Answers = {
    model: typeof given === "string" ? given : "",
    data: "",
    // Chosen beforehand only by who offers it; it can still be changed.
    method: wanted === "lors" ? "lors" : "smt",
    budget: { key: "ratio", value: 0.0084 },
    size: null,
    keepZeros: false,
    folder: vscode.workspace.workspaceFolders?.find(({ uri }) => uri.scheme === "file")?.uri.fsPath ?? parts.context.globalStorageUri.fsPath,
    name: "",
  };
  const model: Step<Answers> = { applies: () => typeof given !== "string", ask: askModel(parts) };
  const size = [
    { applies: isSmt, ask: askBudget },
    { applies: hasSize, ask: askSize },
  ];
  const steps = [model, { ask: askData(parts) }, { ask: askMethod }, ...size, { ask: askFolder(parts) }, { ask: askName }];
  if (!(await askAll(vscode.l10n.t("New Run"), steps, state))) return null;
  const uri = await write(state);
  await vscode.window.showTextDocument(uri, { viewColumn: vscode.ViewColumn.One, preview: false });
  parts.panels.openRunFile(uri);
  void parts.known.refresh();
  return uri;
}

function askModel(parts: ShellParts): Step<Answers>["ask"] {
  return (state, place) => settle(state, "model", askModelFolder(parts, place, vscode.l10n.t("Choose the model to fine-tune"), state.model));
}

function askData(parts: ShellParts): Step<Answers>["ask"] {
  return (state, place) => settle(state, "data", askDataFile(parts, place, vscode.l10n.t("Choose the training data"), state.data));
}

function askFolder(parts: ShellParts): Step<Answers>["ask"] {
  return (state, place) => {
    const folders = (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file");
    const items: PathPick[] = folders.map(({ name, uri }) => ({ label: `$(root-folder) ${name}`, description: uri.fsPath, path: uri.fsPath }));
    const storage = parts.context.globalStorageUri.fsPath;
    if (items.length === 0) items.push({ label: `$(archive) ${vscode.l10n.t("Storage of the extension")}`, description: storage, path: storage });
    const question = {
      ...place,
      placeholder: vscode.l10n.t("Choose where the run file and its runs are saved"),
      items: [...items, browseItem(vscode.l10n.t("another folder"))],
      chosen: state.folder,
    };
    return settle(state, "folder", askPath(question, { canSelectFolders: true, title: vscode.l10n.t("Choose a folder") }));
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
