/**
 * The zeros of a pruned model: whether it is one, whether a method will fill them, and how many are left while a run goes on. What is counted are the
 * weights as they would be exported, adapters merged, of all linear maps; which are measured each time, also where a method keeps zeros by construction.
 * The rule to keep: looking changes no number of the run, and holds one (out, in) tensor at a time, which the plan holds too.
 */
import type { RunEventBody } from "../protocol/events.ts";
import type { MethodConfig } from "../protocol/runConfig.ts";
import type { Device, Tensor } from "./devices/device.ts";
import { type ModelFolder, openModelFolder } from "./files/modelFolder.ts";
import { storedElementBytes } from "./files/storedFloats.ts";
import type { AdapterMethod, Linear, TuningMethod } from "./methods/method.ts";
import { linearsOf } from "./methods/smt/scoring.ts";
import { SparseMatrixTuning } from "./methods/smt/smt.ts";
import { matricesOf } from "./methods/targets.ts";
import { type LlamaTensors, loadTensor } from "./model/tensors.ts";
import type { Run } from "./run.ts";
import { formatPercent } from "./terminal/format.ts";

/** Share of zeros among the linear weights from which on a model counts as pruned. */
const prunedShare = 0.01;

/** Small matrices are read whole; of large ones, this many pieces of this many bytes, evenly over them. */
const wholeBytes = 1 << 18;
const pieces = 16;
const pieceBytes = 4096;

/** Share of zeros among the linear weights of a model folder, looked up in its files in a moment: exact for small matrices, sampled for large ones. */
export async function shareOfZeros(folder: ModelFolder): Promise<number> {
  let [zeros, entries] = [0, 0];
  for (const { name } of matricesOf(folder.config)) {
    const { bytes, dtype } = folder.tensor(`${name}.weight`);
    const sample = await sampled(folder, `${name}.weight`, bytes);
    const elements = bytes / storedElementBytes[dtype];
    const seen = sample.reduce((sum, part) => sum + part.length, 0) / storedElementBytes[dtype];
    zeros += (sample.reduce((sum, part) => sum + zerosIn(part, storedElementBytes[dtype]), 0) / seen) * elements;
    entries += elements;
  }
  return zeros / entries;
}

function sampled(folder: ModelFolder, weight: string, bytes: number): Promise<Uint8Array[]> {
  if (bytes <= wholeBytes) return Promise.all([folder.readTensor(weight)]);
  const last = Math.floor((bytes - pieceBytes) / 4);
  const starts = Array.from({ length: pieces }, (_, i) => 4 * Math.floor((i * last) / (pieces - 1)));
  return Promise.all(starts.map((start) => folder.readBytes(weight, start, start + pieceBytes)));
}

/** Zeros of either sign among little-endian floats. */
function zerosIn(bytes: Uint8Array, elementBytes: number): number {
  let zeros = 0;
  for (let at = 0; at < bytes.length; at += elementBytes) {
    const top = bytes[at + elementBytes - 1] & 0x7f;
    if (elementBytes === 2 ? top === 0 && bytes[at] === 0 : top === 0 && bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 0) zeros++;
  }
  return zeros;
}

/** Whether a model with this share of zeros is a pruned one. */
export function isPruned(share: number): boolean {
  return share >= prunedShare;
}

/** The sentence about a method that fills the zeros of a pruned model; null where there is nothing to warn of. */
export function zerosWarning(method: MethodConfig, share: number): string | null {
  if (!isPruned(share)) return null;
  const pruned = `${formatPercent(share)} of the model's linear weights are zero`;
  switch (method.name) {
    case "lora":
    case "dora":
      return `${pruned}, and ${method.name === "lora" ? "LoRA" : "DoRA"} fills them when it is merged: use lors, spp or sqft to keep the model sparse.`;
    case "smt":
      return `${pruned}, and SMT fills those of the blocks it trains: use lors, spp or sqft to keep the model sparse.`;
    case "full":
      return method.sparse === "keep" ? null : `${pruned}, and full fine-tuning fills them: set method.sparse to keep.`;
    default:
      return null;
  }
}

/** What the base has, matrix by matrix. */
export interface SparsityMeter {
  linears: readonly Linear[];
  baseZeros: Float64Array;
  /** The base's folder, whatever the run's weights count from since. */
  basePath: string;
}

type SparsityEvent = Extract<RunEventBody, { kind: "sparsity" }>;

/** Counts the zeros of the model that was loaded. With `reload` the weights on the device are no longer the base's, and it is read again. */
export async function openMeter(device: Device, tensors: LlamaTensors, basePath: string, reload: boolean): Promise<SparsityMeter> {
  const linears = linearsOf(tensors);
  if (!reload) return { linears, baseZeros: await device.countZeros(linears.map(({ weight }) => weight)), basePath };
  const baseZeros = new Float64Array(linears.length);
  await withBase(device, basePath, async (load) => {
    for (const [i, linear] of linears.entries())
      await inTemporary(device, linear, async (base) => {
        await load(base, linear);
        [baseZeros[i]] = await device.countZeros([base]);
      });
  });
  return { linears, baseZeros, basePath };
}

/** The base itself. */
export function baseSparsity(meter: SparsityMeter): SparsityEvent {
  return eventOf(meter, 0, meter.baseZeros, 0);
}

/** The weights as they are trained to now. */
export async function measureSparsity(run: Run, meter: SparsityMeter): Promise<SparsityEvent> {
  const { device, method, state } = run;
  const zeros = meter.baseZeros.slice();
  let lost = 0;
  const changed = changedLinears(method as TuningMethod, run.base.path === meter.basePath ? run.retired : null, meter.linears);
  await countChanged(device, method as TuningMethod, changed, meter.basePath, (linear, now, gone) => {
    zeros[meter.linears.indexOf(linear)] = now;
    lost += gone;
  });
  return eventOf(meter, state.step, zeros, lost);
}

/** The memory that measuring takes, for the planner's device. `exact`: the method's blocks are those that the run will have all the time. */
export async function planSparsity(device: Device, tensors: LlamaTensors, method: TuningMethod, exact: boolean): Promise<void> {
  await countChanged(device, method, changedLinears(method, exact ? [] : null, linearsOf(tensors)), null, () => {});
}

/** The maps whose weights are no longer the base's; `retired` is what earlier selections trained, null where any may have been. */
function changedLinears(method: TuningMethod, retired: readonly { name: string }[] | null, linears: readonly Linear[]): readonly Linear[] {
  if (isAdapterMethod(method)) return method.linears;
  if (!(method instanceof SparseMatrixTuning) || !retired) return linears;
  const names = new Set([...method.matrices.keys(), ...retired.map(({ name }) => name)]);
  return linears.filter(({ name }) => names.has(name));
}

/** Whether a method's parameters stand beside frozen weights. */
export function isAdapterMethod(method: TuningMethod | null): method is AdapterMethod {
  return method !== null && "mergedWeight" in method;
}

type Counted = (linear: Linear, zeros: number, lost: number) => void;

/**
 * Zeros of each trained weight, and those of the base that it lost. An adapter's weight is formed from its base; a method that trains in place has
 * overwritten it, so the base comes from its file (`basePath`; null while planning).
 */
async function countChanged(
  device: Device,
  method: TuningMethod,
  linears: readonly Linear[],
  basePath: string | null,
  counted: Counted,
): Promise<void> {
  if (isAdapterMethod(method)) {
    for (const linear of linears)
      await inTemporary(device, linear, async (merged) => {
        method.mergedWeight(merged, linear);
        const [zeros] = await device.countZeros([merged]);
        // What is zero in either of them, less what is zero now, is what was zero and is not any more.
        device.maskBy(merged, linear.weight);
        const [either] = await device.countZeros([merged]);
        counted(linear, zeros, either - zeros);
      });
    return;
  }
  await withBase(device, basePath, async (load) => {
    for (const linear of linears)
      await inTemporary(device, linear, async (base) => {
        await load(base, linear);
        device.maskBy(base, linear.weight);
        const [zeros, either] = await device.countZeros([linear.weight, base]);
        counted(linear, zeros, either - zeros);
      });
  });
}

async function inTemporary(device: Device, { weight }: Linear, work: (tensor: Tensor) => Promise<void>): Promise<void> {
  const tensor = device.allocate(weight.shape, weight.dtype, "workspace");
  await work(tensor);
  device.free(tensor);
  await device.turn();
}

async function withBase(
  device: Device,
  basePath: string | null,
  work: (load: (into: Tensor, linear: Linear) => Promise<void>) => Promise<void>,
): Promise<void> {
  if (basePath === null) return work(async () => {});
  const folder = await openModelFolder(basePath);
  try {
    await work((into, { name }) => loadTensor(device, into, folder, `${name}.weight`));
  } finally {
    await folder.close();
  }
}

function eventOf({ linears }: SparsityMeter, step: number, zeros: Float64Array, lost: number): SparsityEvent {
  const layers = new Map<number, { zeros: number; entries: number }>();
  let [total, entries] = [0, 0];
  for (const [i, { layer, weight }] of linears.entries()) {
    const size = weight.shape[0] * weight.shape[1];
    const sum = layers.get(layer) ?? { zeros: 0, entries: 0 };
    layers.set(layer, { zeros: sum.zeros + zeros[i], entries: sum.entries + size });
    total += zeros[i];
    entries += size;
  }
  const byLayer = [...layers.values()].map((sum) => sum.zeros / sum.entries);
  return { kind: "sparsity", step, zeros: total, entries, lost, byLayer };
}
