/**
 * `sparse-tuner bench`: the engine against this machine's limits, measured in the same run, against a peer in turn, and its methods against each other. Each
 * figure is the median of repeats beside the limit; ratio = value / limit. A ratio above 1 means that the limit was disturbed, and fails the bench.
 * On a card it measures products of matrices, for which no limit is known.
 */
import { existsSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { assetPath } from "../assets.ts";
import { type BenchMethod, benchMethods, wantsPruned } from "../bench/benchMethods.ts";
import { benchCardProducts, cardSizes, describeProduct, type ProductRow } from "../bench/cardProducts.ts";
import { type BenchRow, besideLimit, medians, type Pair } from "../bench/limits.ts";
import { type Comparison, compareMethods, type TrainingEntry, type TrainingRow, trainInTurn } from "../bench/trainingBench.ts";
import { measurePeak, openCpuDevice } from "../devices/cpu/cpuDevice.ts";
import { openDevice } from "../devices/open.ts";
import { userCacheFolder } from "../files/fileHash.ts";
import { initModel } from "../files/initModel.ts";
import { pruneModel } from "../pruning/prune.ts";
import { Random } from "../random.ts";
import type { BenchOptions } from "./options.ts";

const shape = { M: 512, K: 2048, N: 2048 };
const repeats = 9;
const trainingSteps = 6;
const rounds = 3;

/** Prints every row; exit code 1 when a ratio above 1 shows that a limit was disturbed. Throws UserError when the peer cannot run. */
export async function bench({ peer, methods, device, json }: BenchOptions): Promise<number> {
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const print = (text: string) => {
    if (!json) process.stdout.write(`${text}\n`);
  };
  if (device === "webgpu") {
    if (peer || methods)
      throw new UserError("bench/card-only", "On a card the bench measures products alone.", "Leave --peer and --methods out, or use --device cpu.");
    return benchCard(print, json, say);
  }
  const entries = await trainingEntries(methods, say);
  const rows: BenchRow[] = [];
  const threads = Math.min(2, os.availableParallelism());
  for (const precision of ["f32", "bf16"] as const)
    for (const count of methods ? [] : [1, threads].slice(0, threads)) {
      rows.push(await benchMatmul(precision, count));
      print(describe(rows[rows.length - 1]));
    }
  const trained = await trainInTurn(entries, { threads, rounds, steps: trainingSteps, peer, say });
  for (const { row } of trained) {
    rows.push(row);
    print(describe(row));
    print(describeCost(row));
  }
  const comparisons = compareMethods(trained);
  for (const comparison of comparisons) print(describeComparison(comparison));
  if (json) process.stdout.write(`${JSON.stringify({ machine: os.cpus()[0]?.model, threads, rows, comparisons })}\n`);
  const impossible = rows.filter(({ ratio }) => ratio > 1);
  for (const { name, ratio } of impossible) say(`${name}: a ratio of ${ratio.toFixed(3)} cannot be; the limit was disturbed, run the bench again.`);
  return impossible.length > 0 ? 1 : 0;
}

/** Products on the card. */
async function benchCard(print: (text: string) => void, json: boolean, say: (text: string) => void): Promise<number> {
  const { device } = await openDevice("webgpu", "auto");
  try {
    print(device.description);
    const products: ProductRow[] = [];
    await benchCardProducts(device, cardSizes, say, (row) => {
      products.push(row);
      print(describeProduct(row));
    });
    if (json) process.stdout.write(`${JSON.stringify({ device: device.description, products })}\n`);
    return 0;
  } finally {
    device.close();
  }
}

function describe({ name, value, unit, limit, ratio, peerRatio }: BenchRow): string {
  const against = peerRatio === null ? "" : `  ${peerRatio.toFixed(2)} × the peer`;
  return `${name.padEnd(42)} ${value.toFixed(0).padStart(6)} of ${limit.toFixed(0).padStart(6)} ${unit.padEnd(8)} ${(100 * ratio).toFixed(1).padStart(5)} %${against}`;
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function describeCost({ gflopsPerSecond, peakBytes, keptBytes }: TrainingRow): string {
  return `  ${gflopsPerSecond.toFixed(0)} GFLOP/s achieved, peak ${mebibytes(peakBytes)}, a linear map of 768 × 768 keeps ${mebibytes(keptBytes)} for backward`;
}

function describeComparison({ name, ratio, goal, what }: Comparison): string {
  const [figure, least] = what === "speed" ? ["speed", "at least"] : ["peak memory", "at most"];
  return `${`${figure} of ${name}`.padEnd(42)} ${ratio.toFixed(2)} (goal: ${least} ${goal})`;
}

/** Every method in f32, SMT in bf16 too; or those that were asked for, in f32. */
async function trainingEntries(methods: string | null, say: (text: string) => void): Promise<TrainingEntry[]> {
  const asked = methods ? methods.split(",").map((name) => name.trim()) : [...benchMethods];
  for (const name of asked)
    if (!benchMethods.includes(name as BenchMethod))
      throw new UserError("bench/unknown-method", `${name} is no method of the bench.`, `Choose from ${benchMethods.join(", ")}.`);
  const dense = await benchModel(say);
  const pruned = asked.some((name) => wantsPruned(name as BenchMethod)) ? await prunedModel(dense, say) : dense;
  const entries = (asked as BenchMethod[]).map(
    (method): TrainingEntry => ({ method, precision: "f32", folder: wantsPruned(method) ? pruned : dense }),
  );
  return methods ? entries : [...entries, { method: "smt", precision: "bf16", folder: dense }];
}

/** x·Wᵀ, by default at 512 × 2048 × 2048, each repeat beside a measurement of the peak. */
export async function benchMatmul(precision: "f32" | "bf16", threads: number, { M, K, N } = shape, times = repeats): Promise<BenchRow> {
  const device = openCpuDevice({ threads });
  const random = new Random(1);
  const filled = (rows: number, columns: number) => {
    const tensor = device.allocate([rows, columns], precision, "workspace");
    device.write(
      tensor,
      Float32Array.from({ length: rows * columns }, () => random.uniform() - 0.5),
    );
    return tensor;
  };
  const [a, b] = [filled(M, K), filled(N, K)];
  const out = device.allocate([M, N], "f32", "workspace");
  const calls = precision === "bf16" ? 8 : 4;
  const pairs: Pair[] = [];
  for (let i = 0; i < times; i++)
    pairs.push(
      await besideLimit(
        () => measurePeak(precision, threads).flopsPerSecond / 1e9,
        async () => {
          const began = performance.now();
          for (let call = 0; call < calls; call++) device.matmul(out, a, b, { transposeB: true });
          return (calls * 2 * M * K * N) / (performance.now() - began) / 1e6;
        },
      ),
    );
  device.close();
  return {
    name: `matmul ${precision} ${M}x${K}x${N} ${threads} thread${threads > 1 ? "s" : ""}`,
    unit: "GFLOP/s",
    ...medians(pairs),
    peerRatio: null,
  };
}

/** A random Llama of 134 M parameters, written once into the cache folder. */
async function benchModel(say: (text: string) => void): Promise<string> {
  const folder = path.join(userCacheFolder(), "bench-134M");
  if (existsSync(path.join(folder, "model.safetensors"))) return folder;
  say(`writing a random model of 134 M parameters to ${folder} (once)`);
  await initModel(assetPath("media/bench/config-134M.json"), folder, { dtype: "F32", seed: 1 });
  return folder;
}

/** Its copy pruned 2:4 by magnitude, written once beside it. */
async function prunedModel(model: string, say: (text: string) => void): Promise<string> {
  const to = `${model}-2to4`;
  if (existsSync(path.join(to, "model.safetensors"))) return to;
  say(`writing its copy pruned 2:4 to ${to} (once)`);
  const options = { model, method: "magnitude", pattern: "2:4", calibration: null, to, device: "cpu", threads: "auto" } as const;
  await pruneModel(options, () => {}, new AbortController().signal);
  return to;
}
