/**
 * Element-by-element comparison of tensors. NaN and the infinities must stand at the same places with the same sign; a NaN never passes for a number.
 * The rule to keep: a tolerance comes with the reason it has that size, where it is made.
 */
import assert from "node:assert/strict";

/** The relative distance of neighbouring f32 numbers near 1, halved: the error of one correctly rounded operation. */
export const f32Unit = 2 ** -24;
/** The same for bf16, which has 8 significant bits. */
export const bf16Unit = 2 ** -8;
/** Smallest normal f32; hardware may flush what is smaller to zero. */
export const f32Tiny = 2 ** -126;

/**
 * Fails unless |actual − expected| ≤ tolerance at every element; names how many differ and the worst of them.
 * @param tolerance Absolute, by element.
 * @param shape For naming the element; row-major.
 */
export function expectClose(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: (index: number) => number,
  shape: readonly number[] = [expected.length],
): void {
  assert.equal(actual.length, expected.length, `${label}: number of elements`);
  let wrong = 0;
  let worst = { index: -1, excess: 0 };
  for (let i = 0; i < expected.length; i++) {
    const excess = excessOf(actual[i], expected[i], tolerance(i));
    if (excess <= 1) continue;
    wrong++;
    if (worst.index < 0 || excess > worst.excess) worst = { index: i, excess };
  }
  if (wrong === 0) return;
  const { index, excess } = worst;
  const times = Number.isFinite(excess) ? `, ${excess.toPrecision(3)} × the tolerance ${tolerance(index).toExponential(2)}` : "";
  assert.fail(
    `${label}: ${wrong} of ${expected.length} elements are wrong; worst at [${coordinates(index, shape)}]: ` +
      `expected ${expected[index]}, actual ${actual[index]}${times}`,
  );
}

/** Distance in tolerances; infinite where one is NaN or infinite and the other is not the same. Numbers beyond f32 count as infinite. */
function excessOf(actual: number, expected: number, tolerance: number): number {
  const rounded = Math.fround(expected);
  if (!Number.isFinite(rounded) || !Number.isFinite(actual)) return Object.is(actual, rounded) ? 0 : Number.POSITIVE_INFINITY;
  const distance = Math.abs(actual - expected);
  if (distance === 0) return 0;
  // A tolerance that is NaN lets nothing pass.
  return tolerance > 0 ? distance / tolerance : Number.POSITIVE_INFINITY;
}

function coordinates(index: number, shape: readonly number[]): string {
  let rest = index;
  return [...shape]
    .reverse()
    .map((n) => {
      const at = rest % n;
      rest = Math.floor(rest / n);
      return at;
    })
    .reverse()
    .join(", ");
}
