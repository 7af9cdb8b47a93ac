/**
 * Merge and Export: what a run has learned as a folder that other tools load, in the formats that its method has. It is long, shows that it runs, and can be
 * cancelled.
 * The rules to keep: nothing is offered that the service would refuse; an export goes into a folder that is new or empty, another one is asked for otherwise.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import { isSelectionFile, type MethodConfig, type RunConfig } from "../../protocol/runConfig.ts";
import type { ServiceParams } from "../../protocol/serviceProtocol.ts";
import type { RunSession } from "../runs/runSession.ts";
import { shortName } from "../views/runText.ts";
import { cancellable } from "./cancellable.ts";
import { type Answer, askAll, back, pickStep, type Step } from "./multiStep.ts";
import { askCount } from "./newRunMethod.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { configOf } from "./useModel.ts";

/** What is proposed as the rank of a PEFT adapter of trained blocks. */
const usualRank = 32;

type ExportFormat = ServiceParams["export"]["format"];

interface ExportAnswers {
  format: ExportFormat;
  /** Of a PEFT adapter of trained blocks. */
  rank: number;
  /** Null for as the base. */
  dtype: "f32" | "bf16" | null;
  to: string;
}

export function exportModel(parts: ShellParts): Handlers<"mergeAndExport"> {
  return { mergeAndExport: (argument) => mergeAndExport(parts, argument) };
}

async function mergeAndExport(parts: ShellParts, argument: unknown): Promise<string | null> {
  const title = vscode.l10n.t("Merge and Export");
  const session = await parts.targets.run(argument, title, "use");
  if (!session) return null;
  const config = await configOf(session.runFolder);
  const state: ExportAnswers = { format: "merged", rank: usualRank, dtype: null, to: "" };
  const steps = [formatStep(config), rankStep(config), dtypeStep, targetStep(session)];
  if (!(await askAll(title, steps, state))) return null;
  const { format, rank, dtype, to } = state;
  const choices = { ...(rankStep(config).applies?.(state) ? { rank } : {}), ...(dtype && format === "merged" ? { dtype } : {}) };
  const request = { runFolder: session.runFolder, format, to, ...choices };
  const { folder, notes, relativeError } = await cancellable(vscode.l10n.t("Exporting {0}", shortName(session.view)), (signal) =>
    parts.service.request("export", request, { signal }),
  );
  if (relativeError !== null)
    notes.unshift(vscode.l10n.t("At rank {0} the adapter differs from the change by {1} %.", rank, (100 * relativeError).toPrecision(3)));
  const copy = vscode.l10n.t("Copy Path");
  for (const note of notes) parts.log.warn(note);
  void vscode.window.showInformationMessage([vscode.l10n.t("Exported to {0}.", folder), ...notes].join(" "), copy).then((chosen) => {
    if (chosen) void vscode.env.clipboard.writeText(folder);
  });
  return folder;
}

type Method = MethodConfig["name"];

/** What a run of each method can be written as, the likeliest first. PEFT knows LoRA and DoRA; of trained blocks it gets the nearest product of some rank. */
const formatsOf: Record<Method, readonly ExportFormat[]> = {
  smt: ["merged", "delta", "peft"],
  full: ["merged"],
  lora: ["merged", "peft"],
  dora: ["merged", "peft"],
  lors: ["merged", "adapter"],
  spp: ["merged", "adapter"],
  sqft: ["merged", "adapter"],
};

/** The formats that the service writes of a run of this configuration. */
export function exportFormats({ method }: Pick<RunConfig, "method">): readonly ExportFormat[] {
  // Blocks that count from a model which its warm-up made say nothing to who has the original base.
  const ownBase = method.name === "smt" && method.warmup.update && !isSelectionFile(method.selection);
  return formatsOf[method.name].filter((format) => !(ownBase && format === "peft"));
}

function formatItem(format: ExportFormat, trainsBlocks: boolean): vscode.QuickPickItem & { format: ExportFormat } {
  const texts: Record<ExportFormat, [label: string, detail: string]> = {
    merged: [
      vscode.l10n.t("Merged model"),
      vscode.l10n.t("A complete Hugging Face folder that other tools load as it is; as large as the base model."),
    ],
    delta: [
      vscode.l10n.t("Delta"),
      vscode.l10n.t("Only the trained blocks; small. It can be applied to the base model and taken out again byte for byte."),
    ],
    adapter: [vscode.l10n.t("Adapter"), vscode.l10n.t("Only the low-rank matrices; small. This program applies it to the base model.")],
    peft: [
      vscode.l10n.t("PEFT adapter"),
      trainsBlocks
        ? vscode.l10n.t("The trained blocks as low-rank matrices of a rank you choose: an approximation that PEFT loads. Its error is said.")
        : vscode.l10n.t("Only the low-rank matrices, exactly; small. PEFT and transformers load it beside the base model."),
    ],
  };
  const [label, detail] = texts[format];
  return { label, detail, format };
}

/** Which of several formats; a run with one is not asked for it. */
function formatStep(config: RunConfig): Step<ExportAnswers> {
  const formats = exportFormats(config);
  return {
    applies: () => formats.length > 1,
    ask: async (state, place) => {
      const picked = await pickStep({
        ...place,
        placeholder: vscode.l10n.t("Choose what is written"),
        items: formats.map((format) => formatItem(format, config.method.name === "smt")),
        active: ({ format }) => format === state.format,
      });
      if (picked === undefined || picked === back) return picked;
      state.format = picked.format;
      return true;
    },
  };
}

/** Trained blocks have no rank of their own; adapters have. */
function rankStep({ method }: RunConfig): Step<ExportAnswers> {
  return {
    applies: ({ format }) => format === "peft" && method.name === "smt",
    ask: async (state, place) => {
      const rank = await askCount(place, vscode.l10n.t("Rank of the matrices that stand for the trained blocks; a higher one is nearer"), state.rank);
      if (rank === undefined || rank === back) return rank;
      state.rank = rank;
      return true;
    },
  };
}

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
