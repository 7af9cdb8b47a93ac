/**
 * How close an op must come, and why. Units are f32's 2⁻²⁴ (f32Unit); the one rounding into a bf16 output is added by the harness.
 * All arithmetic under test is f32 or better, with sums in any fixed order.
 */
import { f32Unit } from "../../support/expectClose.ts";
import type { Tolerance } from "../harness.ts";

/**
 * A sum of `terms` products: each partial sum rounds, and roundings of random sign grow like √terms; a chain of one sign stays below that times
 * Σ|terms|. The constant 8 covers few terms, the product's own rounding and the accumulation into the output.
 */
export function ofTerms<Name extends string>(name: Name, terms: number): Tolerance<Name> {
  const units = 8 + Math.sqrt(terms);
  return ({ magnitude }) =>
    (i) =>
      units * f32Unit * magnitude[name][i];
}

/** A chain of `operations` correctly rounded operations, each of which can add one unit relative to the result. */
export function relative<Name extends string>(name: Name, operations: number): Tolerance<Name> {
  return ({ after }) =>
    (i) =>
      operations * f32Unit * Math.abs(after[name][i]);
}
