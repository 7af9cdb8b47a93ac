/**
 * Weights as adapters change them, formed for one op and dropped, and the gradients of the adapters' tensors. It reads and makes engine tensors.
 * The rules to keep: where W is 0, W̃ is 0 whatever stands beside it; G = dOutᵀ·x exists some rows at a time.
 */
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs-core";
import { roundToEven } from "../floatFormats.ts";
import type { Engine, Tf } from "./engine.ts";
import { product, rowsOf } from "./products.ts";

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

/** Entries of G at once, at most. */
const gradientElements = 2 ** 22;

/** W̃ (out, in) in f32. */
export function formed(engine: Engine, adapted: AdaptedValues): Tensor2D {
  const { tf } = engine;
  return tf.tidy(() => {
    const { weight, scale, base } = adapted;
    if (adapted.kind === "groupScaled") {
      const { alpha, beta } = adapted;
      const [out, columns] = weight.shape;
      const groups = alpha.shape[0];
      const factors = tf.mul(tf.reshape(beta, [groups, out / groups, 1]), tf.reshape(alpha, [groups, 1, columns]));
      const added = tf.mul(weight, tf.reshape(tf.mul(factors, scale), [out, columns]));
      return base ? tf.add(weight, added) : added;
    }
    const added = tf.mul(product(engine, ...factorsOf(engine, adapted)), scale);
    const values = base ? tf.add(weight, added) : added;
    return masked(tf, weight, adapted.quantization ? nearestLevels(tf, values as Tensor2D, adapted.quantization) : values);
  }) as Tensor2D;
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

function nearestLevels(tf: Tf, values: Tensor2D, { scales, zeros, groupSize }: NonNullable<MaskedLowRankValues["quantization"]>): Tensor2D {
  const [out, columns] = values.shape;
  const grouped = tf.reshape(values, [out, columns / groupSize, groupSize]);
  const [a, z] = [tf.expandDims(scales, 2), tf.expandDims(zeros, 2)];
  // Not clipByValue, which makes a 0 of NaN.
  const level = tf.minimum(tf.maximum(tf.round(tf.add(tf.div(grouped, a), z)), 0), 15);
  return tf.reshape(tf.mul(a, tf.sub(level, z)), [out, columns]);
}

/** What {@link AdaptedValues}' two tensors are to be added: (dLeft, dRight), or (dAlpha, dBeta). */
export function gradients(engine: Engine, dOut: Tensor2D, x: Tensor2D, adapted: AdaptedValues): [Tensor, Tensor] {
  const { tf } = engine;
  const [out, columns] = adapted.weight.shape;
  const whole = adapted.kind === "groupScaled" ? out / adapted.alpha.shape[0] : 1;
  const most = whole * Math.max(1, Math.floor(gradientElements / (whole * columns)));
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
  return [tf.concat(firsts), second as Tensor];
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
