/**
 * Products of matrices on a card: how fast they are in each order and dtype that training uses. Nothing is known of the card's limit, so figures stand alone; some
 * entries of each result are compared with sums taken here, so that no wrong product is praised for its speed.
 */
import type { Device, MatmulOptions, Tensor } from "../devices/device.ts";
import { Random } from "../random.ts";
import { median } from "./syntheticTraining.ts";

/** (M, K)·(K, N). */
export interface ProductSize {
  M: number;
  K: number;
  N: number;
}

/** What one form of a product took, in the median. */
export interface ProductRow extends ProductSize {
  precision: "f32" | "bf16";
  /** x·Wᵀ forward, dy·W for the input's gradient, dyᵀ·x for the weight's. */
  form: keyof typeof forms;
  teraflopsPerSecond: number;
  /** Of one product. */
  milliseconds: number;
}

const forms = { x·Wᵀ: { transposeB: true }, dy·W: {}, dyᵀ·x: { transposeA: true } } satisfies Record<string, MatmulOptions>;

export const cardSizes: readonly ProductSize[] = [
  { M: 512, K: 2048, N: 2048 },
  { M: 4096, K: 4096, N: 4096 },
];

const repeats = 9;
/** A repeat lasts about so long. */
const lastsMs = 100;
/** First calls, in which the device chooses among tiles. */
const firstCalls = 10;
/** No product of the bench. */
const unwritten = 1e30;
/** A size whose single product would last longer, judged by the one before, is left out. */
const longestMs = 20_000;

/** Measures every size, precision and form; `say` hears of what is left out. Throws when a product is wrong. */
export async function benchCardProducts(
  device: Device,
  sizes: readonly ProductSize[],
  say: (text: string) => void,
  take: (row: ProductRow) => void,
  repeatMs = lastsMs,
): Promise<void> {
  for (const precision of ["bf16", "f32"] as const) {
    let teraflopsPerSecond = Number.POSITIVE_INFINITY;
    for (const size of sizes) {
      const expectedMs = teraflops(size) / (teraflopsPerSecond / 1e3);
      if (expectedMs > longestMs) {
        say(`${describeSize(size)} in ${precision} is left out: one product would last ${(expectedMs / 1000).toFixed(0)} s.`);
        continue;
      }
      for (const form of Object.keys(forms) as ProductRow["form"][]) {
        const milliseconds = await measure(device, size, precision, form, repeatMs);
        teraflopsPerSecond = teraflops(size) / (milliseconds / 1e3);
        take({ ...size, precision, form, teraflopsPerSecond, milliseconds });
      }
    }
  }
}

const teraflops = ({ M, K, N }: ProductSize) => (2 * M * K * N) / 1e12;
const describeSize = ({ M, K, N }: ProductSize) => `${M}x${K}x${N}`;

/** One line. */
export function describeProduct({ precision, form, teraflopsPerSecond, milliseconds, ...size }: ProductRow): string {
  const speed = teraflopsPerSecond >= 1 ? `${teraflopsPerSecond.toFixed(1)} TFLOP/s` : `${(1e3 * teraflopsPerSecond).toFixed(1)} GFLOP/s`;
  return `${`matmul ${precision} ${describeSize(size)} ${form}`.padEnd(42)} ${speed.padStart(14)}  ${milliseconds.toFixed(3)} ms`;
}

/** Milliseconds of one product: the median of repeats, each of as many products as fill its time. */
async function measure(
  device: Device,
  { M, K, N }: ProductSize,
  precision: ProductRow["precision"],
  form: ProductRow["form"],
  repeatMs: number,
): Promise<number> {
  const options: MatmulOptions = forms[form];
  const random = new Random(1);
  const [a, b] = [options.transposeA ? [K, M] : [M, K], options.transposeB ? [N, K] : [K, N]].map((shape) => {
    // Eighths between −1 and 1 are exact in bf16.
    const values = Float32Array.from({ length: shape[0] * shape[1] }, () => Math.round(16 * random.uniform() - 8) / 8);
    const tensor = device.allocate(shape, precision, "workspace");
    device.write(tensor, values);
    return { tensor, values };
  });
  const out = device.allocate([M, N], "f32", "workspace");
  const run = async (calls: number) => {
    const began = performance.now();
    for (let call = 0; call < calls; call++) device.matmul(out, a.tensor, b.tensor, options);
    await device.read(out, 0, 1);
    return (performance.now() - began) / calls;
  };
  try {
    const first = await run(1);
    await check(device, out, a.values, b.values, { M, K, N }, options);
    if (first > longestMs / repeats) return first;
    await run(firstCalls);
    await device.turn();
    const calls = Math.max(1, Math.ceil(repeatMs / (await run(4))));
    const times: number[] = [];
    for (let i = 0; i < repeats; i++) times.push(await run(calls));
    // The first call was the smallest tile's; this one is that of the tile that was timed.
    device.fill(out, unwritten);
    await run(1);
    await check(device, out, a.values, b.values, { M, K, N }, options);
    return median(times);
  } finally {
    for (const tensor of [a.tensor, b.tensor, out] satisfies Tensor[]) device.free(tensor);
  }
}

/** Entries from the corners and between, against sums in f64. */
async function check(device: Device, out: Tensor, a: Float32Array, b: Float32Array, { M, K, N }: ProductSize, options: MatmulOptions): Promise<void> {
  for (let sample = 0; sample < 16; sample++) {
    const [i, j] = [Math.floor((sample * (M - 1)) / 15), Math.floor((((7 * sample) % 16) * (N - 1)) / 15)];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += a[options.transposeA ? k * M + i : i * K + k] * b[options.transposeB ? j * K + k : k * N + j];
    const [value] = await device.read(out, i * N + j, 1);
    if (!(Math.abs(value - sum) <= 1e-3 * Math.sqrt(K))) throw new Error(`the product's entry (${i}, ${j}) is ${value}; it should be ${sum}`);
  }
}
