/**
 * Which elements dropout keeps: one function of seed and index for every device, so that any two drop the same ones. It draws nothing and holds no state.
 * The rule to keep: native kernels repeat this integer for integer; the conformance suite holds its values.
 */

/** 32 well mixed bits of (seed, index modulo 2³²), unsigned. An element is kept if they are at least ⌊probability · 2³²⌋. */
export function dropoutHash(seed: number, index: number): number {
  let h = seed ^ index;
  h ^= h >>> 16;
  h = Math.imul(h, 0x21f0aaad);
  h ^= h >>> 15;
  h = Math.imul(h, 0x735a2d97);
  h ^= h >>> 15;
  return h >>> 0;
}
