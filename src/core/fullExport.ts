/**
 * The weights of a fully fine-tuned run for a merged export, read piece by piece from its checkpoint beside the base's: the zeros they lost, the weights
 * themselves, and what rounding takes from them. Writing them is files/mergedExport.ts's.
 */

import type { ZeroCount } from "./adapterMerge.ts";
import type { FileDType } from "./devices/device.ts";
import { rowChunks } from "./files/blockRows.ts";
import type { WeightOverride } from "./files/mergedExport.ts";
import type { ModelFolder } from "./files/modelFolder.ts";
import type { SafetensorsFile } from "./files/safetensors.ts";
import { decodeFloats, storedElementBytes } from "./files/storedFloats.ts";
import { matricesOf } from "./methods/targets.ts";
import type { RoundingLoss } from "./roundingLoss.ts";

/** Zeros of the base that fully fine-tuned linear maps no longer have, from both files. */
export async function zerosLost(base: ModelFolder, trained: SafetensorsFile, signal?: AbortSignal): Promise<Pick<ZeroCount, "weight" | "lost">[]> {
  const counts: Pick<ZeroCount, "weight" | "lost">[] = [];
  for (const { name } of matricesOf(base.config)) {
    const weight = `${name}.weight`;
    const { dtype, shape } = base.tensor(weight);
    let lost = 0;
    for await (const { firstRow, endRow, bytes } of rowChunks(base, weight)) {
      signal?.throwIfAborted();
      const before = decodeFloats(bytes, dtype);
      const after = decodeFloats(await trained.readBytes(weight, 4 * firstRow * shape[1], 4 * endRow * shape[1]), "F32");
      for (let i = 0; i < before.length; i++) if (before[i] === 0 && after[i] !== 0) lost++;
    }
    counts.push({ weight, lost });
  }
  return counts;
}

const pieceBytes = 8 << 20;

/** The weights of a fully fine-tuned run; what rounding takes from them is added to `loss` as they are written. */
export function trainedOverrides(
  trained: SafetensorsFile,
  base: ModelFolder,
  loss: RoundingLoss,
  dtype: FileDType | null,
): Map<string, WeightOverride> {
  async function* floats(name: string, bytes: number): AsyncGenerator<Float32Array> {
    const { dtype: stored } = base.tensor(name);
    const rounds = (dtype ?? stored) !== "F32";
    const entryBytes = storedElementBytes[stored];
    for (let begin = 0; begin < bytes; begin += pieceBytes) {
      const end = Math.min(bytes, begin + pieceBytes);
      const piece = await trained.readBytes(name, begin, end);
      const values = new Float32Array(piece.buffer, piece.byteOffset, piece.length / 4);
      if (rounds)
        loss.add(decodeFloats(await base.readBytes(name, (begin / 4) * entryBytes, (end / 4) * entryBytes), stored), values, dtype ?? stored);
      yield values;
    }
  }
  return new Map([...trained.header.tensors].map(([name, { begin, end }]) => [name, { floats: () => floats(name, end - begin) }]));
}
