/** Seeded contents for test tensors. The same seed gives the same numbers on every machine. */
import { Random } from "../../src/core/random.ts";

/** Drawn once, because the suites ask for tens of millions; the length is prime, so that no row length divides it. */
const poolSize = 262_147;
let pool: Float64Array | null = null;

/** `count` normal numbers times `scale`, as f32: a stretch of one fixed pool, from a place the seed gives. */
export function normals(seed: number, count: number, scale = 1): Float32Array {
  if (!pool) {
    const random = new Random(1);
    pool = Float64Array.from({ length: poolSize }, () => random.normal());
  }
  const numbers = pool;
  const start = seed * 7919;
  return Float32Array.from({ length: count }, (_, i) => numbers[(start + i) % poolSize] * scale);
}

/** `count` numbers uniform in [low, high), as f32. */
export function uniforms(seed: number, count: number, low: number, high: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: count }, () => low + random.uniform() * (high - low));
}

/** `count` integers uniform in [0, bound). */
export function integers(seed: number, count: number, bound: number): Int32Array {
  const random = new Random(seed);
  return Int32Array.from({ length: count }, () => random.below(bound));
}
