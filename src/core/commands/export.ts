/**
 * `sparse-tuner export` (and the service's), `apply` and `undo`: a run's result or an adapter as a model folder, a delta or an adapter's folder, and a
 * delta into a model and out again.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import type { MethodConfig, RunConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { AdapterMerge, type ZeroCount } from "../adapterMerge.ts";
import type { FileDType } from "../devices/device.ts";
import { openDevice } from "../devices/open.ts";
import { isAdapterFolder, writeAdapter } from "../files/adapterFile.ts";
import { applyDelta, undoDelta } from "../files/deltaApply.ts";
import { untilAborted, writeNewFile } from "../files/durableFile.ts";
import { deltaOverrides, exportMerged } from "../files/mergedExport.ts";
import { type ModelFolder, openModelFolder } from "../files/modelFolder.ts";
import { createFolder, requireEmptyFolder } from "../files/newFolder.ts";
import { isRunFolder, requireRunFolder, runFiles } from "../files/runFolder.ts";
import { openSafetensors } from "../files/safetensors.ts";
import { openDelta } from "../files/smtDelta.ts";
import type { StoredAdapter } from "../files/storedAdapter.ts";
import { trainedOverrides, zerosLost } from "../fullExport.ts";
import { type ModelSource, modelSource, openSourceAdapter } from "../inference.ts";
import { writeDeltaAsPeft } from "../peftDelta.ts";
import { deltaRounding, RoundingLoss, roundingNote } from "../roundingLoss.ts";
import { hasWarmedBase } from "../run.ts";
import { shareOfZeros, zerosWarning } from "../sparsity.ts";
import { printNotes } from "./notes.ts";
import type { DeltaOptions, ExportDType, ExportFormat, ExportOptions } from "./options.ts";
import { programName, shownPath } from "./programName.ts";

/** Sentences about what was written, beside where; how far the product is from the change where trained blocks became low-rank matrices. */
type Report = { lines: string[]; notes: string[]; relativeError?: number };

const nothingToSay: Report = { lines: [], notes: [] };

/**
 * Writes the newest checkpoint of a run, or an adapter's folder with its base, into the new folder `to`. Throws UserError, and leaves nothing half-written,
 * also when `signal` ends it.
 */
export async function exportResult(options: Omit<ExportOptions, "verbose">, signal?: AbortSignal): Promise<Report> {
  const { runFolder, format, to, base, rank, dtype } = options;
  if (!(await isAdapterFolder(runFolder))) await requireRunFolder(runFolder);
  const source = await modelSource(runFolder, base ?? null);
  checkRank(source, format, rank ?? null);
  if (dtype && format !== "merged")
    throw new UserError(
      "export/dtype-given",
      "Only a merged model is written in another dtype: deltas and adapters are stored as they were trained.",
      "Leave --dtype out.",
    );
  switch (format) {
    case "delta":
      return exportDelta(source, to, signal);
    case "merged":
      return exportModel(source, to, dtype ? fileDTypes[dtype] : null, signal);
    case "adapter":
      return exportAdapter(source, to);
    case "peft":
      return source.delta ? exportDeltaAsPeft(source, rank as number, to, signal) : exportAsPeft(source, to);
  }
}

const fileDTypes: Record<ExportDType, FileDType> = { f32: "F32", bf16: "BF16" };

const written: Record<ExportFormat, string> = {
  merged: "The tuned model stands",
  delta: "The trained blocks stand",
  adapter: "The adapter stands",
  peft: "The PEFT adapter stands",
};

/** `sparse-tuner export`: writes a run's result and says where it stands. Returns the exit code; throws UserError. */
export async function exportRun(options: ExportOptions): Promise<number> {
  const { lines, notes } = await exportResult(options);
  printNotes(notes);
  process.stdout.write(`${[...lines, `${written[options.format]} in ${options.to}.`].join("\n")}\n`);
  return 0;
}

/** A delta has no rank of its own; an adapter has, and everything else needs none. */
function checkRank({ delta }: ModelSource, format: ExportFormat, rank: number | null): void {
  const needed = format === "peft" && delta !== null;
  if (needed && rank === null)
    throw new UserError(
      "export/no-rank",
      "PEFT has no format for trained blocks: they become low-rank matrices, of a rank that is to be chosen.",
      "Give it with --rank, e.g. --rank 32.",
    );
  if (!needed && rank !== null)
    throw new UserError("export/rank-given", "A rank is chosen only where an SMT run is written for PEFT.", "Leave --rank out.");
}

async function exportDelta({ delta, adapter }: ModelSource, to: string, signal?: AbortSignal): Promise<Report> {
  if (!delta)
    throw adapter
      ? new UserError(
          "export/no-delta",
          "An adapter stands beside the weights: it has no trained blocks.",
          "Export it with --format adapter or merged.",
        )
      : new UserError("export/no-delta", "A run of full fine-tuning changes every weight: it has no delta.", "Export it with --format merged.");
  const files = [runFiles.selection, runFiles.delta].map((name) => path.join(path.dirname(delta), name));
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  await createFolder(to, sizes[0] + sizes[1], async (folder) => {
    for (const file of files) await writeNewFile(path.join(folder, path.basename(file)), untilAborted(createReadStream(file), signal));
  });
  return nothingToSay;
}

/** Calls `work` with the base and the adapter of a source that has one. */
async function withAdapter<Result>(source: ModelSource, work: (base: ModelFolder, adapter: StoredAdapter) => Promise<Result>): Promise<Result> {
  const base = await openModelFolder(source.base);
  try {
    const adapter = await openSourceAdapter(source, base);
    try {
      return await work(base, adapter);
    } finally {
      await adapter.close();
    }
  } finally {
    await base.close();
  }
}

function exportAdapter(source: ModelSource, to: string): Promise<Report> {
  if (!source.adapter)
    throw new UserError(
      "export/no-adapter",
      `A run of ${source.config?.method.name} trains weights of the model itself: it has no adapter.`,
      "Export it with --format merged.",
    );
  return withAdapter(source, async (base, adapter) => {
    await writeAdapter(to, adapter, base);
    return { lines: [], notes: adapter.notices };
  });
}

async function exportAsPeft(source: ModelSource, to: string): Promise<Report> {
  if (!source.adapter)
    throw new UserError(
      "export/no-peft",
      "Full fine-tuning changes every weight by any amount: no low-rank adapter holds that.",
      "Export it with --format merged.",
    );
  return withAdapter(source, async (base, adapter) => {
    const { name } = adapter.config;
    if (name !== "lora" && name !== "dora")
      throw new UserError(
        "export/no-peft",
        `PEFT knows no ${name} adapters: it would apply one without ${name === "spp" ? "its scales" : "the mask"}, which is another model and fills the base's zeros.`,
        "Export the merged model with --format merged, or the adapter in this program's own format with --format adapter.",
      );
    await writeAdapter(to, adapter, base);
    return { lines: [], notes: adapter.notices };
  });
}

async function exportDeltaAsPeft(source: ModelSource, rank: number, to: string, signal?: AbortSignal): Promise<Report> {
  if (source.config && hasWarmedBase(source.config))
    throw new UserError(
      "export/no-peft",
      "The blocks of this run count from the model that its warm-up left in the run folder; on the original base an adapter of them would be wrong.",
      "Export it with --format merged.",
    );
  await requireEmptyFolder(to);
  const base = await openModelFolder(source.base);
  try {
    const delta = await openDelta(source.delta as string);
    const { device, reasons } = await openDevice("cpu", "auto");
    try {
      const { matrices, relative } = await writeDeltaAsPeft(device, base, delta, rank, to, path.basename(base.path), signal);
      const width = Math.max(...matrices.map(({ name }) => name.length));
      const lines = matrices.map((matrix) => `${matrix.name.padEnd(width)}  relative error ${formatError(matrix.relative)}`);
      const all = `${"in all".padEnd(width)}  relative error ${formatError(relative)} at rank ${rank}`;
      return { lines: [...lines, all], notes: reasons, relativeError: relative };
    } finally {
      device.close();
      await delta.close();
    }
  } finally {
    await base.close();
  }
}

/** Four digits; rounding's own errors are far smaller than any that matter here. */
function formatError(relative: number): string {
  return relative < 5e-5 ? relative.toExponential(1) : relative.toFixed(4);
}

async function exportModel(source: ModelSource, to: string, dtype: FileDType | null, signal?: AbortSignal): Promise<Report> {
  await requireEmptyFolder(to);
  if (source.adapter) return withAdapter(source, (base, adapter) => exportWithAdapter(base, adapter, to, dtype, signal));
  const base = await openModelFolder(source.base);
  try {
    const changed = source.delta ? await openDelta(source.delta) : await openSafetensors(source.trained as string);
    const method = (source.config as RunConfig).method;
    try {
      if (!("matrices" in changed) && method.name === "full" && method.sparse === "keep") requireZerosKept(await zerosLost(base, changed, signal));
      const loss = "matrices" in changed ? await deltaRounding(changed, dtype) : new RoundingLoss();
      const overrides = "matrices" in changed ? deltaOverrides(base, changed, dtype !== null) : trainedOverrides(changed, base, loss, dtype);
      await exportMerged(base, overrides, to, { signal, dtype });
      const otherwise = `with --dtype f32 nothing is lost${"matrices" in changed ? ", nor in the delta beside its base" : ""}`;
      const told = { dtype, stored: storedDType(base), changer: "run", returned: loss.returned, otherwise };
      return { lines: [], notes: [...(await zerosNotes(method, base)), ...roundingNote(loss.share, told)] };
    } finally {
      await changed.close();
    }
  } finally {
    await base.close();
  }
}

/** Looks at every merged weight before one is written. */
async function exportWithAdapter(
  base: ModelFolder,
  adapter: StoredAdapter,
  to: string,
  dtype: FileDType | null,
  signal?: AbortSignal,
): Promise<Report> {
  const { device, reasons } = await openDevice("cpu", "auto");
  try {
    const merge = new AdapterMerge(device, base, adapter, dtype);
    if (await merge.keepsZeros()) requireZerosKept(await merge.countZeros(signal));
    await exportMerged(base, merge.overrides(), to, { signal, dtype });
    const otherwise = "the adapter beside its base loses nothing, nor does --dtype f32";
    const rounding = merge.dithers
      ? [ditherNote]
      : roundingNote(merge.lostToRounding, { dtype, stored: storedDType(base), changer: "adapter", otherwise });
    return { lines: [], notes: [...reasons, ...adapter.notices, ...(await zerosNotes(adapter.config, base)), ...rounding] };
  } finally {
    device.close();
  }
}

/** Said of merged weights in bf16 that rounding to nearest did not make. */
const ditherNote =
  "Merged weights are stored in BF16 by a fixed dither: each is one of the two BF16 numbers beside it, and what the adapter changed is kept in the mean, as a run in bf16 computes with it; --dtype f32 writes every weight as it is.";

async function zerosNotes(method: MethodConfig, base: ModelFolder): Promise<string[]> {
  const warning = zerosWarning(method, await shareOfZeros(base));
  return warning ? [warning] : [];
}

/** The dtype of a base that rounds; of one that stores weights in several, the shortest. */
function storedDType({ tensors }: ModelFolder): FileDType {
  const dtypes = new Set([...tensors.values()].map(({ dtype }) => dtype));
  return (["BF16", "F16"] as const).find((dtype) => dtypes.has(dtype)) ?? "F32";
}

/** Throws UserError `export/lost-zeros` when a method that keeps a base's zeros lost one. */
export function requireZerosKept(counts: readonly Pick<ZeroCount, "weight" | "lost">[]): void {
  const losing = counts.filter(({ lost }) => lost > 0);
  if (losing.length === 0) return;
  const [{ weight, lost }] = losing;
  const others = losing.length > 1 ? `, and ${losing.length - 1} other matrices have lost some` : "";
  throw new UserError(
    "export/lost-zeros",
    `${lost} ${lost === 1 ? "zero" : "zeros"} of the pruned base would no longer be zero in ${weight}${others}. Nothing was written.`,
    "Export an earlier checkpoint, and report this: the method promises to keep them.",
    { badInput: false },
  );
}

/** The delta's file, where a folder is named: an exported delta, or a run that is done. */
async function deltaFile(delta: string): Promise<string> {
  const status = await stat(delta).catch(() => null);
  if (!status?.isDirectory()) return delta;
  const file = path.join(delta, runFiles.delta);
  if (await stat(file).catch(() => null)) return file;
  const action = (await isRunFolder(delta))
    ? `Let the run end, or take its newest checkpoint out with: export ${delta} --format delta --to FOLDER`
    : `Give an ${runFiles.delta}, or a folder that holds one.`;
  throw new UserError("delta/missing", `${delta} has no ${runFiles.delta}.`, action);
}

/** Writes a delta's blocks into a model folder. Throws UserError when it belongs to another base or is in it already. */
export async function apply({ model, delta }: DeltaOptions): Promise<number> {
  const file = await deltaFile(delta);
  const { weights } = await applyDelta(model, file);
  process.stdout.write(
    `${weights.length} weights of ${model} hold the delta's blocks now; take them out with: ${programName()} undo ${shownPath(model)} ${shownPath(file)}\n`,
  );
  return 0;
}

/** Takes a delta out again, byte for byte. Throws UserError when it is not in the model. */
export async function undo({ model, delta }: DeltaOptions): Promise<number> {
  const { files } = await undoDelta(model, await deltaFile(delta));
  process.stdout.write(`${files.join(", ")} of ${model} ${files.length === 1 ? "has its" : "have their"} old bytes back.\n`);
  return 0;
}
