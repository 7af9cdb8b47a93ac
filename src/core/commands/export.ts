/** `sparse-tuner export` (and the service's), `apply` and `undo`: a run's result as a model folder or a delta, and a delta into a model and out again. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { applyDelta, undoDelta } from "../files/deltaApply.ts";
import { untilAborted, writeNewFile } from "../files/durableFile.ts";
import { deltaOverrides, exportMerged, type WeightOverride } from "../files/mergedExport.ts";
import { openModelFolder } from "../files/modelFolder.ts";
import { createFolder } from "../files/newFolder.ts";
import { isRunFolder, requireRunFolder, runFiles } from "../files/runFolder.ts";
import { openSafetensors, type SafetensorsFile } from "../files/safetensors.ts";
import { openDelta } from "../files/smtDelta.ts";
import { type ModelSource, modelSource } from "../inference.ts";
import type { DeltaOptions, ExportOptions } from "./options.ts";
import { programName, shownPath } from "./programName.ts";

/** Writes the newest checkpoint of a run into the new folder `to`. Throws UserError, and leaves nothing half-written, also when `signal` ends it. */
export async function exportResult({ runFolder, format, to }: Omit<ExportOptions, "verbose">, signal?: AbortSignal): Promise<void> {
  await requireRunFolder(runFolder);
  const source = await modelSource(runFolder);
  if (format === "delta") await exportDelta(source, to, signal);
  else await exportModel(source, to, signal);
}

export async function exportRun(options: ExportOptions): Promise<number> {
  await exportResult(options);
  process.stdout.write(`${options.format === "delta" ? "The trained blocks stand" : "The tuned model stands"} in ${options.to}.\n`);
  return 0;
}

async function exportDelta({ delta }: ModelSource, to: string, signal?: AbortSignal): Promise<void> {
  if (!delta)
    throw new UserError("export/no-delta", "A run of full fine-tuning changes every weight: it has no delta.", "Export it with --format merged.");
  const files = [runFiles.selection, runFiles.delta].map((name) => path.join(path.dirname(delta), name));
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  await createFolder(to, sizes[0] + sizes[1], async (folder) => {
    for (const file of files) await writeNewFile(path.join(folder, path.basename(file)), untilAborted(createReadStream(file), signal));
  });
}

async function exportModel(source: ModelSource, to: string, signal?: AbortSignal): Promise<void> {
  const base = await openModelFolder(source.base);
  try {
    const changed = source.delta ? await openDelta(source.delta) : await openSafetensors(source.trained as string);
    try {
      const overrides = "matrices" in changed ? deltaOverrides(base, changed) : trainedOverrides(changed);
      await exportMerged(base, overrides, to, signal);
    } finally {
      await changed.close();
    }
  } finally {
    await base.close();
  }
}

const pieceBytes = 8 << 20;

function trainedOverrides(trained: SafetensorsFile): Map<string, WeightOverride> {
  return new Map([...trained.header.tensors].map(([name, { begin, end }]) => [name, { floats: () => floatsOf(trained, name, end - begin) }]));
}

async function* floatsOf(trained: SafetensorsFile, name: string, bytes: number): AsyncGenerator<Float32Array> {
  for (let begin = 0; begin < bytes; begin += pieceBytes) {
    const piece = await trained.readBytes(name, begin, Math.min(bytes, begin + pieceBytes));
    yield new Float32Array(piece.buffer, piece.byteOffset, piece.length / 4);
  }
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
