/**
 * Central finite differences in float64 against an analytic gradient, at random entries.
 * (f(x+h) − f(x−h)) / 2h errs by h²f‴/6 + ε|f|/h; h = 1e-5 max(1, |x|) puts both near 1e-10.
 */
import assert from "node:assert/strict";
import { Random } from "../../src/core/random.ts";

/**
 * Checks `gradient` against `loss` at up to `points` entries of x; x is put back.
 * @param relative Allowed distance over max(|gradient|, the largest gradient · 1e-3).
 */
export function checkGradient(
  label: string,
  x: Float64Array,
  gradient: Float64Array,
  loss: (x: Float64Array) => number,
  points = 20,
  relative = 1e-6,
): void {
  assert.equal(gradient.length, x.length, `${label}: number of entries`);
  const random = new Random(x.length);
  const largest = gradient.reduce((max, g) => Math.max(max, Math.abs(g)), 0);
  assert.ok(largest > 0 && Number.isFinite(largest), `${label}: the gradient is zero or not finite everywhere, so nothing would be checked`);
  for (const index of random.shuffle(Array.from(x.keys())).slice(0, points)) {
    const held = x[index];
    const h = 1e-5 * Math.max(1, Math.abs(held));
    x[index] = held + h;
    const above = loss(x);
    x[index] = held - h;
    const below = loss(x);
    x[index] = held;
    const numeric = (above - below) / (2 * h);
    const distance = Math.abs(numeric - gradient[index]);
    const allowed = relative * Math.max(Math.abs(numeric), largest * 1e-3);
    assert.ok(
      distance <= allowed,
      `${label}[${index}]: finite difference ${numeric}, gradient ${gradient[index]}, distance ${distance} > ${allowed}`,
    );
  }
}
