/**
 * How close an op must come, and why. Units are f32's 2⁻²⁴ (f32Unit); the one rounding into a bf16 output is added by the harness.
 * All arithmetic under test is f32 or better, with sums in any fixed order, but for products in f16, whose error the harness adds.
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

/**
 * Where four products are summed in f16, relative to Σ|terms|: each of the four adds with an error of at most 2⁻¹¹ of what there is so far, which is no more than
 * these four's Σ|terms|.
 */
export const halfProductError = 4 * 2 ** -11;

/** A chain of `operations` correctly rounded operations, each of which can add one unit relative to the result. */
export function relative<Name extends string>(name: Name, operations: number): Tolerance<Name> {
  return ({ after }) =>
    (i) =>
      operations * f32Unit * Math.abs(after[name][i]);
}
