/**
 * The checks of the ops that adapters need: adapted weights, dropout, row and column scales and dots; see shapes.ts, whose rules hold here too.
 * Values that tensors hold (masks, zero points) are not looked at: none of them is an index.
 */
import type { AdaptedWeight, DropoutOptions, GroupQuantization, Tensor } from "./device.ts";
import { sizeOf } from "./device.ts";
import { columnsOf, describe, expect, expectDType, expectShape, expectSize, floats, rowsOf } from "./shapes.ts";

/** Every tensor that forms W̃, W first. */
export function tensorsOf(adapted: AdaptedWeight): Tensor[] {
  if (adapted.kind === "groupScaled") return [adapted.weight, adapted.alpha, adapted.beta];
  const { weight, left, right, quantization } = adapted;
  return quantization ? [weight, left, right, quantization.scales, quantization.zeros] : [weight, left, right];
}

/** The rows and columns of W̃. */
function checkAdapted(op: string, adapted: AdaptedWeight): { out: number; in: number } {
  const { weight } = adapted;
  const size = { out: rowsOf(weight), in: columnsOf(weight) };
  expectDType(op, { weight }, floats);
  expect(Number.isFinite(adapted.scale), op, () => `scale ${adapted.scale} is no number`);
  if (adapted.kind === "maskedLowRank") checkLowRank(op, adapted, size);
  else checkGroups(op, adapted, size);
  return size;
}

type Of<Kind> = Extract<AdaptedWeight, { kind: Kind }>;

function checkLowRank(op: string, { weight, left, right, rank, quantization, base }: Of<"maskedLowRank">, size: { out: number; in: number }): void {
  expectDType(op, { left, right }, ["f32"]);
  const r = rowsOf(right);
  expectShape(op, { left }, size.out, r);
  expectShape(op, { right }, r, size.in);
  expect(Number.isInteger(rank) && rank >= 1 && rank <= r, op, () => `rank ${rank} is not from 1 to the ${r} rows of right ${describe(right)}`);
  if (!quantization) return;
  const { scales, zeros, groupSize } = quantization;
  expect(base, op, () => "quantization needs the base");
  const whole = Number.isInteger(groupSize) && groupSize > 0 && size.in % groupSize === 0;
  expect(whole, op, () => `groups of ${groupSize} do not divide the columns of weight ${describe(weight)}`);
  expectDType(op, { scales, zeros }, ["f32"]);
  expectShape(op, { scales, zeros }, size.out, size.in / groupSize);
}

function checkGroups(op: string, { weight, alpha, beta }: Of<"groupScaled">, size: { out: number; in: number }): void {
  expectDType(op, { alpha, beta }, ["f32"]);
  const groups = rowsOf(alpha);
  expectShape(op, { alpha }, groups, size.in);
  expectSize(op, { beta }, size.out);
  expect(groups > 0 && size.out % groups === 0, op, () => `the ${groups} rows of alpha do not divide the rows of weight ${describe(weight)}`);
}

function expectOutside(op: string, name: string, output: Tensor, adapted: AdaptedWeight): void {
  expect(!tensorsOf(adapted).includes(output), op, () => `${name} may not be one of the tensors that form the weight`);
}

/** The product is (M, N) over K; `in` and `out` are W's. */
export function checkAdaptedMatmul(
  out: Tensor,
  a: Tensor,
  adapted: AdaptedWeight,
  options: { transposeB?: boolean; accumulate?: boolean } = {},
): { M: number; N: number; K: number; out: number; in: number } {
  const op = "adaptedMatmul";
  const size = checkAdapted(op, adapted);
  expectDType(op, { out, a }, floats);
  const [N, K] = options.transposeB ? [size.out, size.in] : [size.in, size.out];
  const forms = () => `a ${describe(a)} · weight ${describe(adapted.weight)}${options.transposeB ? "ᵀ" : ""}`;
  expect(columnsOf(a) === K, op, () => `the inner dimensions of ${forms()} differ`);
  expect(rowsOf(out) === rowsOf(a) && columnsOf(out) === N, op, () => `out ${describe(out)} does not hold ${forms()}`);
  expect(out !== a, op, () => "out may not be a");
  expectOutside(op, "out", out, adapted);
  return { M: rowsOf(a), N, K, ...size };
}

/** N rows of dOut and x; `out` and `in` are W's. */
export function checkAdaptedGradients(
  dFirst: Tensor,
  dSecond: Tensor,
  dOut: Tensor,
  x: Tensor,
  adapted: AdaptedWeight,
): { N: number; out: number; in: number } {
  const op = "adaptedGradients";
  const size = checkAdapted(op, adapted);
  expectDType(op, { dFirst, dSecond }, ["f32"]);
  expectDType(op, { dOut, x }, floats);
  expectShape(op, { dOut }, rowsOf(x), size.out);
  expectShape(op, { x }, rowsOf(x), size.in);
  if (adapted.kind === "maskedLowRank") {
    const r = rowsOf(adapted.right);
    expectShape(op, { dFirst }, size.out, r);
    expectShape(op, { dSecond }, r, size.in);
  } else {
    expectShape(op, { dFirst }, rowsOf(adapted.alpha), size.in);
    expectSize(op, { dSecond }, size.out);
  }
  for (const [name, gradient] of Object.entries({ dFirst, dSecond })) {
    expectOutside(op, name, gradient, adapted);
    expect(gradient !== dOut && gradient !== x, op, () => `${name} may not be dOut or x`);
  }
  expect(dFirst !== dSecond, op, () => "dFirst may not be dSecond");
  return { N: rowsOf(x), ...size };
}

export function checkFormAdapted(out: Tensor, adapted: AdaptedWeight): { out: number; in: number } {
  const op = "formAdapted";
  const size = checkAdapted(op, adapted);
  expectDType(op, { out }, floats);
  expectShape(op, { out }, size.out, size.in);
  if (out !== adapted.weight) expectOutside(op, "out", out, adapted);
  return size;
}

/** `groups` in each of `out` rows. */
export function checkFitQuantization({ scales, zeros, groupSize }: GroupQuantization, weight: Tensor): { out: number; in: number; groups: number } {
  const op = "fitQuantization";
  expectDType(op, { weight }, floats);
  expectDType(op, { scales, zeros }, ["f32"]);
  const whole = Number.isInteger(groupSize) && groupSize > 0 && columnsOf(weight) % groupSize === 0;
  expect(whole, op, () => `groups of ${groupSize} do not divide the columns of weight ${describe(weight)}`);
  const groups = columnsOf(weight) / groupSize;
  expectShape(op, { scales, zeros }, rowsOf(weight), groups);
  expect(scales !== zeros && scales !== weight && zeros !== weight, op, () => "scales, zeros and weight may not be each other");
  return { out: rowsOf(weight), in: columnsOf(weight), groups };
}

/** Returns the number of elements. */
export function checkMaskBy(x: Tensor, weight: Tensor): number {
  expectDType("maskBy", { x, weight }, floats);
  expectShape("maskBy", { x }, rowsOf(weight), columnsOf(weight));
  return sizeOf(x.shape);
}

export function checkCountZeros(tensors: readonly Tensor[]): void {
  for (const tensor of tensors) expectDType("countZeros", { tensor }, floats);
}

/**
 * Returns the number of elements and, for all devices alike, the seed and the threshold as unsigned 32-bit numbers: element i is kept if
 * dropoutHash of them is at least the threshold, and then multiplied by `scale`.
 */
export function checkDropout(out: Tensor, x: Tensor, options: DropoutOptions): { size: number; seed: number; threshold: number; scale: number } {
  const op = "dropout";
  const { probability, seed } = options;
  expectDType(op, { out, x }, floats);
  expectShape(op, { out }, rowsOf(x), columnsOf(x));
  expect(probability >= 0 && probability < 1, op, () => `probability ${probability} does not lie in [0, 1)`);
  expect(Number.isInteger(seed) && seed >= -(2 ** 31) && seed < 2 ** 32, op, () => `seed ${seed} has not 32 bits`);
  expect(!(options.accumulate && out === x), op, () => "out may not be x when it accumulates");
  return { size: sizeOf(x.shape), seed: seed >>> 0, threshold: Math.floor(probability * 2 ** 32), scale: 1 / (1 - probability) };
}

export function checkScaleColumns(out: Tensor, x: Tensor, scale: Tensor): { N: number; C: number } {
  const op = "scaleColumns";
  expectDType(op, { out, x }, floats);
  expectDType(op, { scale }, ["f32"]);
  expectShape(op, { out }, rowsOf(x), columnsOf(x));
  expectSize(op, { scale }, columnsOf(x));
  expect(out !== scale, op, () => "out may not be scale");
  return { N: rowsOf(x), C: columnsOf(x) };
}

export function checkScaleRows(out: Tensor, x: Tensor, scale: Tensor): { R: number; C: number } {
  const op = "scaleRows";
  expectDType(op, { out, x }, floats);
  expectDType(op, { scale }, ["f32"]);
  expectShape(op, { out }, rowsOf(x), columnsOf(x));
  expectSize(op, { scale }, rowsOf(x));
  expect(out !== scale, op, () => "out may not be scale");
  return { R: rowsOf(x), C: columnsOf(x) };
}

export function checkRowDots(out: Tensor, a: Tensor, b: Tensor): { R: number; C: number } {
  const op = "rowDots";
  expectDType(op, { out }, ["f32"]);
  expectDType(op, { a, b }, floats);
  expectShape(op, { b }, rowsOf(a), columnsOf(a));
  expectSize(op, { out }, rowsOf(a));
  expect(out !== a && out !== b, op, () => "out may not be a or b");
  return { R: rowsOf(a), C: columnsOf(a) };
}

export function checkColumnDots(out: Tensor, a: Tensor, b: Tensor): { N: number; C: number } {
  const op = "columnDots";
  expectDType(op, { out }, ["f32"]);
  expectDType(op, { a, b }, floats);
  expectShape(op, { b }, rowsOf(a), columnsOf(a));
  expectSize(op, { out }, columnsOf(a));
  expect(out !== a && out !== b, op, () => "out may not be a or b");
  return { N: rowsOf(a), C: columnsOf(a) };
}

/** Returns the number of rows. */
export function checkDoraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): number {
  const op = "doraGains";
  expectDType(op, { norm, gain, magnitude, squares, cross, gram }, ["f32"]);
  expectSize(op, { norm, gain, magnitude, squares, cross, gram }, sizeOf(squares.shape));
  expect(Number.isFinite(scale), op, () => `scale ${scale} is no number`);
  const inputs = [magnitude, squares, cross, gram];
  expect(norm !== gain && !inputs.includes(norm) && !inputs.includes(gain), op, () => "norm and gain may be no other tensor of the call");
  return sizeOf(squares.shape);
}
