/**
 * An SMT delta as a LoRA adapter that PEFT loads: each matrix's change (its trained blocks among zeros) by the product of two thin matrices nearest to it.
 * It is nearly always an approximation, so its error is measured and handed back; the delta itself, or a merged model, is exact.
 * The rule to keep: the error is that of the very numbers that are written, not that of the decomposition's theory.
 */
import { UserError } from "../protocol/userError.ts";
import type { Device } from "./devices/device.ts";
import { gatherStoredBlocks } from "./files/blockRows.ts";
import type { ModelFolder } from "./files/modelFolder.ts";
import { peftEntries, writePeftFolder } from "./files/peftAdapter.ts";
import type { TensorEntry } from "./files/safetensorsWriter.ts";
import type { Delta } from "./files/smtDelta.ts";
import { decodeFloats } from "./files/storedFloats.ts";
import { principalDirections } from "./methods/lorsInit.ts";
import { writeBlocks } from "./methods/smt/layout.ts";

/** How far the low-rank product of one matrix is from its change. */
export interface LowRankError {
  /** Hugging Face name without `.weight`. */
  name: string;
  /** ‖D − B·A‖ / ‖D‖, Frobenius; 0 where nothing was changed. */
  relative: number;
}

/** The start vectors of the iteration; any seed finds the same directions. */
const seed = 1;

/** Writes the adapter into the new folder `to`. Throws UserError `export/rank-too-large`, or what writing refuses. */
export async function writeDeltaAsPeft(
  device: Device,
  base: ModelFolder,
  delta: Delta,
  rank: number,
  to: string,
  baseName: string,
  signal?: AbortSignal,
): Promise<{ matrices: LowRankError[]; relative: number }> {
  const names = [...delta.matrices.keys()].map((weight) => weight.replace(/\.weight$/, ""));
  for (const name of names) {
    const { shape } = base.tensor(`${name}.weight`);
    if (rank > Math.min(...shape))
      throw new UserError(
        "export/rank-too-large",
        `A product of rank ${rank} is larger than ${name}, which is ${shape.join(" × ")}.`,
        `Give a --rank of at most ${Math.min(...shape)}.`,
      );
  }
  const entries: TensorEntry[] = [];
  const matrices: LowRankError[] = [];
  let [restSquares, changeSquares] = [0, 0];
  for (const name of names) {
    signal?.throwIfAborted();
    const { down, up, rest, change } = await lowRankChange(device, base, delta, `${name}.weight`, rank);
    const [out, width] = base.tensor(`${name}.weight`).shape;
    entries.push(...peftEntries(name, [out, width], rank, async () => ({ down, up })));
    matrices.push({ name, relative: change === 0 ? 0 : Math.sqrt(rest / change) });
    restSquares += rest;
    changeSquares += change;
  }
  // alpha = rank: the product counts once.
  await writePeftFolder(to, entries, { baseName, rank, alpha: rank, dropout: 0, targets: names, ranks: {}, rankStabilized: false, dora: false });
  return { matrices, relative: changeSquares === 0 ? 0 : Math.sqrt(restSquares / changeSquares) };
}

/** The nearest product of this rank to a matrix's change D: down (r, in) its main right directions, up (out, r) = D·downᵀ; Σ of squares of what is left and of D. */
async function lowRankChange(
  device: Device,
  base: ModelFolder,
  delta: Delta,
  weight: string,
  rank: number,
): Promise<{ down: Float32Array; up: Float32Array; rest: number; change: number }> {
  const { shape, dtype } = base.tensor(weight);
  const { index } = delta.matrices.get(weight) as { index: Int32Array };
  const original = decodeFloats(await gatherStoredBlocks(base, weight, index), dtype);
  const values = (await delta.readBlocks(weight)).map((value, i) => value - original[i]);
  const d = device.allocate(shape, "f32", "workspace");
  const down = device.allocate([rank, shape[1]], "f32", "workspace");
  const up = device.allocate([shape[0], rank], "f32", "workspace");
  const minus = device.allocate([rank], "f32", "workspace");
  device.fill(d, 0);
  writeBlocks(device, d, index, values);
  const [change] = await device.sumSquares([d]);
  await principalDirections(device, down, d, seed);
  device.matmul(up, d, down, { transposeB: true });
  const factors = { down: (await device.read(down)) as Float32Array, up: (await device.read(up)) as Float32Array };
  device.fill(minus, -1);
  device.scaleColumns(up, up, minus, false);
  device.matmul(d, up, down, { accumulate: true });
  const [rest] = await device.sumSquares([d]);
  for (const tensor of [d, down, up, minus]) device.free(tensor);
  return { ...factors, rest, change };
}
