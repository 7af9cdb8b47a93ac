/**
 * Weights as adapters change them, formed for one op and dropped, and the gradients of the adapters' tensors. It reads and makes engine tensors.
 * The rules to keep: where W is 0, W̃ is 0 whatever stands beside it; G = dOutᵀ·x exists some rows at a time.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import { roundToEven } from "../floatFormats.ts";
import type { Engine, Tf } from "./engine.ts";
import { indices, product, rowsOf } from "./products.ts";
import { ditherToBfloat16, roundToBfloat16 } from "./rounding.ts";
import { byRows, joined, tileElements } from "./strips.ts";

/** An adapted weight of device.ts with its tensors as the engine's. */
export interface MaskedLowRankValues {
  kind: "maskedLowRank";
  weight: Tensor2D;
  left: Tensor2D;
  right: Tensor2D;
  rank: number;
  scale: number;
  base: boolean;
  quantization: { scales: Tensor2D; zeros: Tensor2D; groupSize: number } | null;
}

export interface GroupScaledValues {
  kind: "groupScaled";
  weight: Tensor2D;
  alpha: Tensor2D;
  beta: Tensor1D;
  scale: number;
  base: boolean;
}

export type AdaptedValues = MaskedLowRankValues | GroupScaledValues;

/** W̃ (out, in) in f32, or as bf16: levels to nearest, all else dithered; made by rows. */
export function formed(engine: Engine, adapted: AdaptedValues, narrow: boolean): Tensor2D {
  const { tf } = engine;
  const { weight, scale, base } = adapted;
  const added = adapted.kind === "groupScaled" ? groupScaledRows(engine, adapted) : lowRankRows(engine, adapted);
  return byRows(engine, [weight], ([rows], first) => {
    const values = tf.mul(added(rows, first), scale);
    const sum = base ? tf.add(rows, values) : values;
    const level = adapted.kind === "maskedLowRank" && adapted.quantization;
    const result = level ? nearestLevels(engine, sum as Tensor2D, level, first) : sum;
    const kept = adapted.kind === "maskedLowRank" ? masked(tf, rows, result) : result;
    if (!narrow) return [kept];
    return [level ? roundToBfloat16(engine, kept) : ditherToBfloat16(tf, kept as Tensor2D, first)];
  })[0] as Tensor2D;
}

/** What is added to rows of W from `first` on, before it is scaled. */
type AddedRows = (rows: Tensor2D, first: number) => Tensor;

function groupScaledRows({ tf }: Engine, { weight, alpha, beta }: GroupScaledValues): AddedRows {
  const perGroup = weight.shape[0] / alpha.shape[0];
  return (rows, first) => {
    const groups = Int32Array.from({ length: rows.shape[0] }, (_, i) => Math.floor((first + i) / perGroup));
    const factors = tf.mul(tf.reshape(tf.slice(beta, first, rows.shape[0]), [rows.shape[0], 1]), tf.gather(alpha, indices(tf, groups)));
    return tf.mul(rows, factors);
  };
}

function lowRankRows(engine: Engine, adapted: MaskedLowRankValues): AddedRows {
  const [left, right] = factorsOf(engine, adapted);
  return (rows, first) => product(engine, rowsOf(engine, left, first, rows.shape[0]), right);
}

/** x where the weight is not 0, else 0. */
function masked(tf: Tf, weight: Tensor2D, x: Tensor): Tensor {
  return tf.where(tf.notEqual(weight, 0), x, tf.zerosLike(weight));
}

/** The columns of left and rows of right that count. */
function factorsOf(engine: Engine, { left, right, rank }: MaskedLowRankValues): [Tensor2D, Tensor2D] {
  if (rank === right.shape[0]) return [left, right];
  return [engine.tf.slice(left, [0, 0], [-1, rank]), rowsOf(engine, right, 0, rank)];
}

function nearestLevels(
  engine: Engine,
  values: Tensor2D,
  { scales, zeros, groupSize }: NonNullable<MaskedLowRankValues["quantization"]>,
  first: number,
): Tensor2D {
  const { tf } = engine;
  const [out, columns] = values.shape;
  const grouped = tf.reshape(values, [out, columns / groupSize, groupSize]);
  const [a, z] = [scales, zeros].map((levels) => tf.expandDims(rowsOf(engine, levels, first, out), 2));
  // Not clipByValue, which makes a 0 of NaN.
  const level = tf.minimum(tf.maximum(tf.round(tf.add(tf.div(grouped, a), z)), 0), 15);
  return tf.reshape(tf.mul(a, tf.sub(level, z)), [out, columns]);
}

/** What {@link AdaptedValues}' two tensors are to be added: (dLeft, dRight), or (dAlpha, dBeta). */
export function gradients(engine: Engine, dOut: Tensor2D, x: Tensor2D, adapted: AdaptedValues): [Tensor, Tensor] {
  const { tf } = engine;
  const [out, columns] = adapted.weight.shape;
  const whole = adapted.kind === "groupScaled" ? out / adapted.alpha.shape[0] : 1;
  const most = whole * Math.max(1, Math.floor(tileElements / (whole * columns)));
  const byOut = tf.transpose(dOut);
  const firsts: Tensor2D[] = [];
  let second: Tensor | null = null;
  for (let start = 0; start < out; start += most) {
    const count = Math.min(most, out - start);
    const [first, part] = tf.tidy(() => {
      const rows = (matrix: Tensor2D) => rowsOf(engine, matrix, start, count);
      const g = product(engine, rows(byOut), x);
      return adapted.kind === "groupScaled"
        ? groupGradients(tf, g, { ...adapted, weight: rows(adapted.weight) }, start / whole, whole)
        : lowRankGradients(engine, g, { ...adapted, weight: rows(adapted.weight), left: rows(adapted.left) });
    });
    firsts.push(first);
    if (adapted.kind === "maskedLowRank") second = second ? tf.add(second, part) : part;
    else second = second ? tf.concat([second as Tensor1D, part as Tensor1D]) : part;
  }
  return [joined(tf, firsts), second as Tensor];
}

/** Of some rows: dLeft of those, and what they add to dRight; zero beyond the rank. */
function lowRankGradients(engine: Engine, g: Tensor2D, adapted: MaskedLowRankValues): [Tensor2D, Tensor] {
  const { tf } = engine;
  const [left, right] = factorsOf(engine, adapted);
  const kept = tf.mul(masked(tf, adapted.weight, g), adapted.scale) as Tensor2D;
  const beyond = adapted.right.shape[0] - adapted.rank;
  const dLeft = product(engine, kept, right, { transposeB: true });
  const dRight = product(engine, left, kept, { transposeA: true });
  return [
    tf.pad2d(dLeft, [
      [0, 0],
      [0, beyond],
    ]),
    tf.pad2d(dRight, [
      [0, beyond],
      [0, 0],
    ]),
  ];
}

/** Of whole groups from `firstGroup` on: their rows of dAlpha, and dBeta of their rows. */
function groupGradients(
  tf: Tf,
  g: Tensor2D,
  { weight, alpha, beta, scale }: GroupScaledValues,
  firstGroup: number,
  rows: number,
): [Tensor2D, Tensor] {
  const [count, columns] = weight.shape;
  const groups = count / rows;
  const entries = tf.reshape(tf.mul(tf.mul(weight, g), scale), [groups, rows, columns]);
  const betas = tf.reshape(tf.slice(beta, firstGroup * rows, count), [groups, rows, 1]);
  const alphas = tf.reshape(tf.slice(alpha, [firstGroup, 0], [groups, -1]), [groups, 1, columns]);
  return [tf.sum(tf.mul(entries, betas), 1) as Tensor2D, tf.reshape(tf.sum(tf.mul(entries, alphas), 2), [count])];
}

/** Scales and zeros of groups out of their smallest and largest numbers: on the host, where float64 is; once a weight. */
export function quantizationLevels(lows: ArrayLike<number>, highs: ArrayLike<number>): { scales: Float32Array; zeros: Float32Array } {
  const [scales, zeros] = [new Float32Array(lows.length), new Float32Array(lows.length)];
  for (let group = 0; group < lows.length; group++) {
    const [low, high] = [Math.min(0, lows[group]), Math.max(0, highs[group])];
    scales[group] = high > low ? (high - low) / 15 : 1;
    zeros[group] = high > low ? roundToEven((-15 * low) / (high - low)) + 0 : 0; // + 0: never −0
  }
  return { scales, zeros };
}
