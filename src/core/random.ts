/**
 * Seeded random numbers for everything that is drawn: initial weights, data order, random selections.
 * Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): a counter goes in, two 32-bit
 * words come out, so that any position of a stream can be had directly and the whole state is one position. Not for secrets.
 * The rule to keep: the numbers of a seed and stream never change between versions; runs are resumed by them.
 */

const keyParity = 0x1bd11bda;
const rotations = [13, 15, 26, 6, 17, 29, 16, 24];
const two32 = 4294967296;

/** One Threefry-2x32-20 block: counter words (c0, c1) under key words (k0, k1), written to `out[0..1]` as unsigned words. */
export function threefry(out: Uint32Array, c0: number, c1: number, k0: number, k1: number): void {
  const k2 = k0 ^ k1 ^ keyParity;
  let x0 = (c0 + k0) | 0;
  let x1 = (c1 + k1) | 0;
  for (let group = 1; group <= 5; group++) {
    const first = (group & 1) === 1 ? 0 : 4;
    for (let i = first; i < first + 4; i++) {
      const turn = rotations[i];
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << turn) | (x1 >>> (32 - turn))) ^ x0;
    }
    const next = group % 3;
    const after = (group + 1) % 3;
    x0 = (x0 + (next === 0 ? k0 : next === 1 ? k1 : k2)) | 0;
    x1 = (x1 + (after === 0 ? k0 : after === 1 ? k1 : k2) + group) | 0;
  }
  out[0] = x0;
  out[1] = x1;
}

/** Where a stream stands; JSON-safe. `position` counts the 32-bit words taken. */
export interface RandomState {
  seed: number;
  stream: number;
  position: number;
}

/** One stream of random numbers. The same seed and stream give the same numbers on every machine. */
export class Random {
  #seed: number;
  #stream: number;
  #position = 0;
  readonly #key = new Uint32Array(2);
  readonly #block = new Uint32Array(2);

  /** `seed` is an integer in 0…2⁵³−1; `stream` (0…2³²−1) names independent uses of one seed. */
  constructor(seed: number, stream = 0) {
    if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`a seed is an integer from 0 to 2^53-1, not ${seed}`);
    if (!Number.isInteger(stream) || stream < 0 || stream >= two32) throw new RangeError(`a stream is an integer from 0 to 2^32-1, not ${stream}`);
    this.#seed = seed;
    this.#stream = stream;
    threefry(this.#key, stream, 0, seed % two32, Math.floor(seed / two32));
  }

  /** The stream as it stood when `state` was taken. */
  static from(state: RandomState): Random {
    const random = new Random(state.seed, state.stream);
    if (!Number.isSafeInteger(state.position) || state.position < 0) throw new RangeError(`not a position in a random stream: ${state.position}`);
    random.#position = state.position;
    if (state.position % 2 === 1) random.#draw(state.position);
    return random;
  }

  get state(): RandomState {
    return { seed: this.#seed, stream: this.#stream, position: this.#position };
  }

  #draw(position: number): void {
    const counter = Math.floor(position / 2);
    threefry(this.#block, counter % two32, Math.floor(counter / two32), this.#key[0], this.#key[1]);
  }

  /** The next 32 bits, 0…2³²−1. */
  nextUint32(): number {
    const odd = this.#position % 2;
    if (odd === 0) this.#draw(this.#position);
    this.#position++;
    return this.#block[odd];
  }

  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Uniform integer in [0, bound), bound ≤ 2³², without bias (rejection). */
  below(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > two32) throw new RangeError(`bound must be an integer from 1 to 2^32, not ${bound}`);
    const limit = two32 - (two32 % bound);
    for (;;) {
      const word = this.nextUint32();
      if (word < limit) return word % bound;
    }
  }

  /** Standard normal, by Box and Muller; takes two uniforms a number. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Fisher–Yates, in place; returns the same array. */
  shuffle<A extends { length: number; [index: number]: unknown }>(items: A): A {
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.below(last + 1);
      const held = items[last];
      items[last] = items[other];
      items[other] = held;
    }
    return items;
  }
}

/**
 * The (i + ½)/n quantiles of the standard normal, i = 0…n−1: indexing it with uniform bits gives normals at the price of a look-up.
 * With n = 65536 the largest is 4.32, the variance 0.99998.
 */
export function normalQuantiles(n: number): Float64Array {
  const quantiles = new Float64Array(n);
  for (let i = 0; i < n; i++) quantiles[i] = normalQuantile((i + 0.5) / n);
  return quantiles;
}

/** Inverse of the standard normal distribution function by bisection-safe Newton steps on its series; |error| < 1e-12 for 1e-9 < p < 1 − 1e-9. */
function normalQuantile(p: number): number {
  if (p === 0.5) return 0;
  if (p > 0.5) return -normalQuantile(1 - p);
  let low = -7;
  let high = 0;
  let z = -Math.sqrt(-2 * Math.log(2 * p)) * 0.7;
  for (let i = 0; i < 60; i++) {
    const error = normalDistribution(z) - p;
    if (error > 0) high = z;
    else low = z;
    const step = error / (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI));
    if (Math.abs(step) < 1e-14) break;
    const next = z - step;
    z = next > low && next < high ? next : (low + high) / 2;
  }
  return z;
}

/** P(Z ≤ z) for −7 ≤ z ≤ 0: Taylor series about 0 near the middle, the continued fraction of Mills' ratio in the tail. */
function normalDistribution(z: number): number {
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z > -3) {
    let term = z;
    let sum = z;
    for (let k = 3; Math.abs(term) > 1e-17; k += 2) {
      term *= (z * z) / k;
      sum += term;
    }
    return 0.5 + density * sum;
  }
  let fraction = 0;
  for (let k = 120; k >= 1; k--) fraction = k / (-z + fraction);
  return density / (-z + fraction);
}
