/** The checks of the ops of pruning; see shapes.ts, whose rules hold here too. */
import type { SparsityPattern, SweepOptions, Tensor } from "./device.ts";
import { columnsOf, describe, expect, expectDType, expectShape, expectSize, rowsOf } from "./shapes.ts";

const f32 = ["f32"] as const;

function checkSquare(op: string, h: Tensor, diagonal: Tensor): { C: number } {
  expectDType(op, { h, diagonal }, f32);
  const C = columnsOf(h);
  expect(rowsOf(h) === C && C > 0, op, () => `h ${describe(h)} is not square`);
  expectSize(op, { diagonal }, C);
  return { C };
}

export function checkInverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): { C: number } {
  const op = "inverseCholesky";
  const { C } = checkSquare(op, h, diagonal);
  expect(Number.isFinite(damping) && damping >= 0, op, () => `${damping} is no damping`);
  expectDType(op, { wide }, f32);
  expectShape(op, { wide }, C, 2 * C);
  return { C };
}

export function checkMirrorLower(h: Tensor, diagonal: Tensor): { C: number } {
  return checkSquare("mirrorLower", h, diagonal);
}

function checkPattern(op: string, pattern: SparsityPattern, width: number): void {
  const whole = (n: number) => Number.isInteger(n) && n > 0;
  if (pattern.kind === "share") {
    expect(pattern.share >= 0 && pattern.share <= 1, op, () => `${pattern.share} is no share`);
    return;
  }
  const { zeros, of } = pattern;
  expect(whole(zeros) && whole(of) && zeros <= of, op, () => `${zeros} of ${of} is no pattern`);
  expect(width % of === 0, op, () => `${width} columns are no whole number of groups of ${of}`);
}

export function checkSparseGptSweep(
  w: Tensor,
  losses: Tensor,
  errors: Tensor,
  upper: Tensor,
  diagonal: Tensor,
  { pattern, blockSize, first, count }: SweepOptions,
): { out: number; in: number } {
  const op = "sparseGptSweep";
  expectDType(op, { w, losses, errors, upper, diagonal }, f32);
  const [out, columns] = [rowsOf(w), columnsOf(w)];
  const whole = [blockSize, first, count].every((n) => Number.isSafeInteger(n) && n >= 0) && blockSize > 0;
  const inside = whole && first % blockSize === 0 && count > 0 && (first + count === columns || (first + count < columns && count % blockSize === 0));
  expect(inside, op, () => `columns [${first}, ${first + count}) are no blocks of ${blockSize} of ${describe(w)}`);
  expectSize(op, { losses }, out);
  expectSize(op, { errors }, out * count);
  expectShape(op, { upper }, columns, columns);
  expectSize(op, { diagonal }, columns);
  checkPattern(op, pattern, blockSize);
  if (columns % blockSize !== 0) checkPattern(op, pattern, columns % blockSize);
  return { out, in: columns };
}

/** ⌊share·rows·width⌋, a share having at most six decimals: what float64 loses of 0.57·100 is given back. */
export function zerosOfShare(share: number, rows: number, width: number): number {
  return Math.floor(share * rows * width + 5e-7);
}
