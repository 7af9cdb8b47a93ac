/**
 * One run that every device does: the bundled model with given blocks, batches of 1 × 64, learning rate 1e-4, and the losses it gives. On what it computes is all
 * that differs; a short curve may take a higher rate, so that its updates are seen.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { ComputingDevice } from "../../src/core/devices/choose.ts";
import type { Precision } from "../../src/core/model/tensors.ts";
import { session, writeRunFile } from "../core/run/smallRuns.ts";

export const fullSteps = 200;
export const fullRate = 1e-4;

interface Distance {
  worst: number;
  mean: number;
}

/** How far a device's losses may lie from the cpu's: each, and on average. */
const tolerances: Record<Precision, Distance> = { f32: { worst: 1e-2, mean: 1e-3 }, bf16: { worst: 5e-2, mean: 5e-3 } };
/** And in parts of how far the cpu's lie from those of a model that learns nothing: a curve of a few updates lies within the tolerances whatever they do. */
const shares: Record<Precision, number> = { f32: 0.02, bf16: 0.2 };

/** The distance of a device's curve from the cpu's, and how far it may be beside the curve of a model that stays as it was. */
export function judge(precision: Precision, ours: Float64Array, theirs: Float64Array, still: Float64Array): { found: Distance; most: Distance } {
  const [found, learnt] = [distance(ours, theirs), distance(still, theirs)];
  const { worst, mean } = tolerances[precision];
  const share = shares[precision];
  return { found, most: { worst: Math.min(worst, share * learnt.worst), mean: Math.min(mean, share * learnt.mean) } };
}

const projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

/** Four blocks of each matrix, as a person could have listed them. */
function selection(): object {
  const blocks = [0, 1].flatMap((layer) =>
    projections.flatMap((name) => [0, 1, 2, 3].map((i) => ({ name: `model.layers.${layer}.${name}`, row: i, column: (3 * i + layer) % 8 }))),
  );
  return { version: 1, blockSize: 16, blocks: blocks.map((block, rank) => ({ ...block, rank })) };
}

/** The losses of the first updates on a device, with a run folder of its own under `folder`. */
export async function lossCurve(
  folder: string,
  device: ComputingDevice,
  precision: Precision,
  steps: number,
  learningRate = fullRate,
): Promise<Float64Array> {
  const own = path.join(folder, `${device}-${precision}-${steps}-${learningRate}`);
  mkdirSync(own, { recursive: true });
  writeFileSync(path.join(own, "selection.json"), JSON.stringify(selection()));
  const runFile = writeRunFile(own, {
    data: { eval: null },
    method: { name: "smt", blockSize: 16, selection: "selection.json" },
    // The rate is constant after its start: the first steps are the same however many follow.
    train: { steps, batchSize: 1, sequenceLength: 64, learningRate, schedule: "constant", learningRateWarmupSteps: 2, precision },
    checkpoint: { every: null },
    device,
    threads: 2,
  });
  const { events } = await session(runFile);
  return Float64Array.from(events.flatMap((event) => (event.kind === "step" ? [event.loss] : [])));
}

/** The largest and the mean distance of two curves. */
export function distance(ours: Float64Array, theirs: Float64Array): Distance {
  const distances = ours.map((loss, i) => Math.abs(loss - theirs[i]));
  return { worst: distances.reduce((most, each) => Math.max(most, each), 0), mean: distances.reduce((sum, each) => sum + each, 0) / ours.length };
}
