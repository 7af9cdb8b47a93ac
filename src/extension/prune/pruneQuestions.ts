/**
 * Prune Model's questions: which model, method and pattern, what it is calibrated on, and where the pruned copy goes.
 * The rule to keep: a folder that holds something is never written into; another one is asked for.
 */
import path from "node:path";
import * as vscode from "vscode";
import type { PruningGrouping, PruningMethod } from "../../protocol/pruning.ts";
import { askFolder, isEmpty } from "../commands/exportModel.ts";
import { modelPlaces } from "../commands/modelPlaces.ts";
import { type Answer, askAll, back, inputStep, type Place, pickStep, type Step } from "../commands/multiStep.ts";
import { askDataFile, askModelFolder, type PathPick, settle } from "../commands/pathQuestions.ts";
import type { ShellParts } from "../commands/shellParts.ts";
import { patternName } from "./pruneNames.ts";

export interface PruneAnswers {
  model: string;
  /** What the model is called. */
  base: string;
  method: PruningMethod;
  pattern: string;
  /** Null where there is nothing to choose. */
  grouping: PruningGrouping | null;
  permute: boolean;
  /** Empty for none. */
  calibration: string;
  samples: number;
  to: string;
}

/**
 * Asks everything; null when the person gave up. `given` is what a menu or another command knows already; into a folder that is `taken` another pruning will
 * write.
 */
export async function askPruning(
  parts: ShellParts,
  given: { model: string; base: string } | null,
  taken: (folder: string) => boolean,
): Promise<PruneAnswers | null> {
  const state: PruneAnswers = {
    model: "",
    base: "",
    method: "wanda",
    pattern: "2:4",
    grouping: null,
    permute: false,
    calibration: "",
    samples: 128,
    to: "",
    ...given,
  };
  const steps: Step<PruneAnswers>[] = [
    { applies: () => given === null, ask: askModel(parts) },
    { ask: askMethod },
    { ask: askPattern },
    { applies: hasGroupings, ask: askGrouping },
    { applies: canPermute, ask: askOrder },
    { ask: askCalibration(parts) },
    { applies: ({ calibration }) => calibration !== "", ask: askSamples },
    { ask: askTarget(parts, taken) },
  ];
  if (!(await askAll(vscode.l10n.t("Prune Model"), steps, state))) return null;
  // Chosen for another method or pattern before the person went back.
  return { ...state, grouping: hasGroupings(state) ? state.grouping : null, permute: canPermute(state) && state.permute };
}

function hasGroupings({ method, pattern }: PruneAnswers): boolean {
  return method === "ria" && !pattern.includes(":");
}

function canPermute({ method, pattern }: PruneAnswers): boolean {
  return method !== "sparsegpt" && pattern.includes(":");
}

function askModel(parts: ShellParts): Step<PruneAnswers>["ask"] {
  return async (state, place) => {
    const answer = await settle(state, "model", askModelFolder(parts, place, vscode.l10n.t("Choose the model to prune"), state.model));
    // In the Hugging Face cache a model's folder is named by a hash.
    state.base = (await modelPlaces(parts)).find(({ folder }) => folder === state.model)?.name ?? path.basename(state.model);
    return answer;
  };
}

async function askMethod(state: PruneAnswers, place: Place): Promise<Answer<true>> {
  const items = [
    {
      label: "Wanda",
      method: "wanda" as const,
      description: vscode.l10n.t("fast and good"),
      detail: vscode.l10n.t("Weights by the size of what flows through them. The weights that stay are left as they are."),
    },
    {
      label: "SparseGPT",
      method: "sparsegpt" as const,
      description: vscode.l10n.t("best, takes longest"),
      detail: vscode.l10n.t("Column by column; the weights that stay make up for those that go."),
    },
    {
      label: "RIA",
      method: "ria" as const,
      description: vscode.l10n.t("fast and good"),
      detail: vscode.l10n.t("Weights by their part of their row and column, and by what flows through them."),
    },
    {
      label: vscode.l10n.t("Magnitude"),
      method: "magnitude" as const,
      description: vscode.l10n.t("needs no data"),
      detail: vscode.l10n.t("The smallest weights go. Quick, and the worst; good to compare with."),
    },
  ];
  const placeholder = vscode.l10n.t("Choose how the weights that go are found");
  const picked = await pickStep({ ...place, placeholder, items, active: ({ method }) => method === state.method });
  if (picked === undefined || picked === back) return picked;
  state.method = picked.method;
  return true;
}

async function askPattern(state: PruneAnswers, place: Place): Promise<Answer<true>> {
  const items = [
    { label: "2:4", pattern: "2:4", description: vscode.l10n.t("2 of 4 neighbouring weights are zero; what sparse hardware computes") },
    { label: "4:8", pattern: "4:8", description: vscode.l10n.t("4 of 8 neighbouring weights are zero") },
    { label: "50 %", pattern: "0.5", description: vscode.l10n.t("half of all weights, wherever they stand; the least loss") },
    { label: vscode.l10n.t("Another share…"), pattern: "", description: vscode.l10n.t("in percent of all weights") },
  ];
  const placeholder = vscode.l10n.t("Choose how many weights become zero");
  for (;;) {
    const picked = await pickStep({ ...place, placeholder, items, active: ({ pattern }) => pattern === state.pattern });
    if (picked === undefined || picked === back) return picked;
    const pattern = picked.pattern || (await askShare(place));
    if (pattern === undefined) return undefined;
    if (pattern === back) continue;
    state.pattern = pattern;
    return true;
  }
}

async function askGrouping(state: PruneAnswers, place: Place): Promise<Answer<true>> {
  const items = [
    { label: vscode.l10n.t("Whole matrix"), grouping: "matrix" as const, description: vscode.l10n.t("as in the paper: rows may lose more or less") },
    { label: vscode.l10n.t("Each row"), grouping: "row" as const, description: vscode.l10n.t("every output loses the same share") },
  ];
  const placeholder = vscode.l10n.t("Choose among which weights the lowest go");
  const picked = await pickStep({ ...place, placeholder, items, active: ({ grouping }) => grouping === (state.grouping ?? "matrix") });
  if (picked === undefined || picked === back) return picked;
  state.grouping = picked.grouping;
  return true;
}

async function askOrder(state: PruneAnswers, place: Place): Promise<Answer<true>> {
  const items = [
    { label: vscode.l10n.t("As they are"), permute: false, description: vscode.l10n.t("the model's own order of channels") },
    {
      label: vscode.l10n.t("Permuted"),
      permute: true,
      description: vscode.l10n.t("keeps more, takes longer"),
      detail: vscode.l10n.t(
        "Channels change places throughout the model, which computes the same. Adapters and deltas of the dense model do not fit it any more.",
      ),
    },
  ];
  const placeholder = vscode.l10n.t("Choose the order in which channels fall into groups");
  const picked = await pickStep({ ...place, placeholder, items, active: ({ permute }) => permute === state.permute });
  if (picked === undefined || picked === back) return picked;
  state.permute = picked.permute;
  return true;
}

async function askShare(place: Place): Promise<Answer<string>> {
  const entered = await inputStep({
    ...place,
    prompt: vscode.l10n.t("Share of all weights that become zero, in percent"),
    value: "60",
    problem: (text) => (Number(text) >= 1 && Number(text) <= 99 ? null : vscode.l10n.t("Give a number from 1 to 99.")),
  });
  if (entered === undefined || entered === back) return entered;
  return String(Number((Number(entered) / 100).toFixed(6)));
}

function askCalibration(parts: ShellParts): Step<PruneAnswers>["ask"] {
  return (state, place) => {
    const none: PathPick = {
      label: `$(circle-slash) ${vscode.l10n.t("No calibration")}`,
      description: vscode.l10n.t("errors are not measured then"),
      path: "",
    };
    const placeholder = vscode.l10n.t("Choose the text that the model is calibrated on");
    return settle(state, "calibration", askDataFile(parts, place, placeholder, state.calibration, state.method === "magnitude" ? [none] : []));
  };
}

async function askSamples(state: PruneAnswers, place: Place): Promise<Answer<true>> {
  const items = [
    { label: vscode.l10n.t("{0} windows", 128), samples: 128, description: vscode.l10n.t("as in the papers") },
    { label: vscode.l10n.t("{0} windows", 32), samples: 32, description: vscode.l10n.t("quicker, and nearly as good") },
    { label: vscode.l10n.t("{0} windows", 8), samples: 8, description: vscode.l10n.t("to try it out") },
    { label: vscode.l10n.t("Another number…"), samples: 0 },
  ];
  const placeholder = vscode.l10n.t("Choose how much of the text is used");
  for (;;) {
    const picked = await pickStep({ ...place, placeholder, items, active: ({ samples }) => samples === state.samples });
    if (picked === undefined || picked === back) return picked;
    const samples = picked.samples || (await askCount(place));
    if (samples === undefined) return undefined;
    if (samples === back) continue;
    state.samples = samples;
    return true;
  }
}

async function askCount(place: Place): Promise<Answer<number>> {
  const entered = await inputStep({
    ...place,
    prompt: vscode.l10n.t("Windows of text, each as long as the model reads at once, up to 2048 tokens"),
    value: "64",
    problem: (text) =>
      /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 1 << 20 ? null : vscode.l10n.t("Give a whole number from 1 to {0}.", 1 << 20),
  });
  return entered === undefined || entered === back ? entered : Number(entered);
}

function askTarget(parts: ShellParts, taken: (folder: string) => boolean): Step<PruneAnswers>["ask"] {
  return async (state, place) => {
    const proposed = await freeFolder(parts, state, taken);
    const items = [
      { label: `$(new-folder) ${path.basename(proposed)}`, description: path.dirname(proposed), folder: proposed },
      { label: `$(folder-opened) ${vscode.l10n.t("Browse…")}`, description: vscode.l10n.t("an empty folder"), folder: "" },
    ];
    for (;;) {
      const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose the folder for the pruned model"), items });
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
  };
}

/** Beside the model where that lies in the workspace, else in the workspace's first folder, else in the extension's storage: never in another tool's cache. */
async function freeFolder({ context }: ShellParts, answers: PruneAnswers, taken: (folder: string) => boolean): Promise<string> {
  const { model, base, method, pattern, permute } = answers;
  const folders = (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === "file").map(({ uri }) => uri.fsPath);
  const inside = folders.some((folder) => model.startsWith(folder + path.sep));
  const parent = inside ? path.dirname(model) : (folders[0] ?? path.join(context.globalStorageUri.fsPath, "models"));
  const variant = permute && canPermute(answers) ? "-permuted" : "";
  const stem = `${base.replace(/[^\p{L}\p{N}._-]+/gu, "-")}-${method}-${patternName(pattern)}${variant}`;
  for (let number = 1; ; number++) {
    const folder = path.join(parent, number === 1 ? stem : `${stem}-${number}`);
    if (!taken(folder) && (await isEmpty(folder))) return folder;
  }
}
