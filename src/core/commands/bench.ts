/**
 * `sparse-tuner bench`: the engine against this machine's limits, measured in the same run, against a peer in turn, and its methods against each other. Each
 * figure is the median of repeats beside the limit; ratio = value / limit. A ratio above 1 means that the limit was disturbed, and fails the bench.
 * On a card no limit is known: figures stand alone or beside the peer's.
 */
import os from "node:os";
import { UserError } from "../../protocol/userError.ts";
import { type BenchMethod, benchMethods, benchTitles, flopsPerToken, wantsPruned } from "../bench/benchMethods.ts";
import { type BenchModelName, benchConfig, benchModel, benchModels, prunedBenchModel } from "../bench/benchModels.ts";
import { benchCardProducts, cardSizes, describeProduct, type ProductRow } from "../bench/cardProducts.ts";
import { type BenchRow, besideLimit, medians, type Pair } from "../bench/limits.ts";
import {
  type Comparison,
  compareMethods,
  type TrainedEntry,
  type TrainingEntry,
  type TrainingOptions,
  type TrainingRow,
  trainInTurn,
} from "../bench/trainingBench.ts";
import { measurePeak, openCpuDevice } from "../devices/cpu/cpuDevice.ts";
import { openDevice } from "../devices/open.ts";
import { readModelConfig } from "../files/modelFolder.ts";
import type { Precision } from "../model/tensors.ts";
import { Random } from "../random.ts";
import type { BenchOptions } from "./options.ts";

const shape = { M: 512, K: 2048, N: 2048 };
const repeats = 9;
const trainingSteps = 6;
const rounds = 3;

interface Say {
  /** To standard error, what is going on. */
  say(text: string): void;
  /** To standard output, where JSON is not wanted. */
  print(text: string): void;
}

/** Prints every row; exit code 1 when a ratio above 1 shows that a limit was disturbed. Throws UserError when the peer cannot run. */
export async function bench({ peer, methods, device, model, json }: BenchOptions): Promise<number> {
  const told: Say = {
    say: (text) => process.stderr.write(`${text}\n`),
    print: (text) => {
      if (!json) process.stdout.write(`${text}\n`);
    },
  };
  const asked = askedMethods(methods);
  const results = device === "webgpu" ? await benchCard(asked, peer, model, told) : await benchCpu(asked, peer, model, told);
  if (json) process.stdout.write(`${JSON.stringify(results)}\n`);
  const impossible = results.rows.filter(({ ratio }) => ratio !== null && ratio > 1);
  for (const { name, ratio } of impossible)
    told.say(`${name}: a ratio of ${ratio?.toFixed(3)} cannot be; the limit was disturbed, run the bench again.`);
  return impossible.length > 0 ? 1 : 0;
}

/** Null when none is asked for. */
function askedMethods(methods: string | null): BenchMethod[] | null {
  if (methods === null) return null;
  const asked = methods.split(",").map((name) => name.trim());
  for (const name of asked)
    if (!benchMethods.includes(name as BenchMethod))
      throw new UserError("bench/unknown-method", `${name} is no method of the bench.`, `Choose from ${benchMethods.join(", ")}.`);
  return asked as BenchMethod[];
}

/** Products, then every method in f32 and SMT in bf16 too; or the asked methods alone. */
async function benchCpu(asked: BenchMethod[] | null, peer: string | null, model: BenchModelName, told: Say) {
  const rows: BenchRow[] = [];
  const threads = Math.min(2, os.availableParallelism());
  for (const precision of ["f32", "bf16"] as const)
    for (const count of asked ? [] : [1, threads].slice(0, threads)) {
      const row = await benchMatmul(precision, count);
      rows.push(row);
      told.print(describe(row));
    }
  const entries = await trainingEntries(asked ?? benchMethods, "f32", model, told);
  if (!asked) entries.push({ method: "smt", precision: "bf16", folder: await benchModel(model, told.say) });
  const trained = await train(entries, told, {
    title: `${model} ${threads} threads`,
    openDevice: async () => openCpuDevice({ threads }),
    peak: (precision) => measurePeak(precision, threads).flopsPerSecond,
    ...benchModels[model],
    peer: peer === null ? null : { python: peer, device: "cpu", threads },
  });
  rows.push(...trained.map(({ row }) => row));
  return { machine: os.cpus()[0]?.model, threads, rows, comparisons: compared(trained, "f32", told) };
}

/** Products, then SMT, LoRA and full fine-tuning; or the asked methods alone. All trained in bf16, which is what cards are fast in. */
async function benchCard(asked: BenchMethod[] | null, peer: string | null, model: BenchModelName, told: Say) {
  const openCard = async () => (await openDevice("webgpu", "auto")).device;
  const card = await openCard();
  const { description } = card;
  told.print(description);
  const products: ProductRow[] = [];
  try {
    if (!asked)
      await benchCardProducts(card, cardSizes, told.say, (row) => {
        products.push(row);
        told.print(describeProduct(row));
      });
  } finally {
    card.close();
  }
  const methods = asked ?? (await affordable(cardMethods, model, products, told));
  const entries = await trainingEntries(methods, "bf16", model, told);
  const trained = await train(entries, told, {
    title: `${model} ${benchModels[model].batchSize}x${benchModels[model].sequenceLength} webgpu`,
    openDevice: openCard,
    peak: null,
    ...benchModels[model],
    peer: peer === null ? null : { python: peer, device: "cuda", threads: os.availableParallelism() },
  });
  return { device: description, products, rows: trained.map(({ row }) => row), comparisons: compared(trained, "bf16", told) };
}

const cardMethods = ["smt", "lora", "full"] as const satisfies BenchMethod[];
/** A step that would last longer is for those alone who ask for it. */
const longestStepSeconds = 20;

/** Those of the methods whose steps are short enough, judged by the fastest product in bf16. */
async function affordable(
  methods: readonly BenchMethod[],
  model: BenchModelName,
  products: readonly ProductRow[],
  told: Say,
): Promise<BenchMethod[]> {
  const { config } = await readModelConfig(benchConfig(model));
  const { batchSize, sequenceLength } = benchModels[model];
  const tokens = batchSize * sequenceLength;
  const fastest = Math.max(...products.filter(({ precision }) => precision === "bf16").map(({ teraflopsPerSecond }) => teraflopsPerSecond));
  return methods.filter((method) => {
    const seconds = (flopsPerToken(config, method, tokens) * tokens) / (1e12 * fastest);
    if (seconds <= longestStepSeconds) return true;
    told.say(
      `${benchTitles[method]} is left out: a step of ${model} would last about ${seconds.toFixed(0)} s. --methods ${method} trains it all the same.`,
    );
    return false;
  });
}

async function train(
  entries: TrainingEntry[],
  { say, print }: Say,
  options: Omit<TrainingOptions, "rounds" | "steps" | "say">,
): Promise<TrainedEntry[]> {
  const trained = await trainInTurn(entries, { ...options, rounds, steps: trainingSteps, say });
  for (const { row } of trained) {
    print(describe(row));
    print(describeCost(row));
  }
  return trained;
}

function compared(trained: readonly TrainedEntry[], precision: Precision, { print }: Say): Comparison[] {
  const comparisons = compareMethods(trained, precision);
  for (const comparison of comparisons) print(describeComparison(comparison));
  return comparisons;
}

function describe({ name, value, unit, limit, ratio, peerRatio }: BenchRow): string {
  const beside =
    limit === null || ratio === null ? unit : `of ${limit.toFixed(0).padStart(6)} ${unit.padEnd(8)} ${(100 * ratio).toFixed(1).padStart(5)} %`;
  const against = peerRatio === null ? "" : `  ${peerRatio.toFixed(2)} × the peer`;
  return `${name.padEnd(42)} ${value.toFixed(0).padStart(6)} ${beside}${against}`;
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function describeCost({ gflopsPerSecond, peakBytes, peerPeakBytes, keptBytes }: TrainingRow): string {
  const theirs = peerPeakBytes === null ? "" : ` (the peer's ${mebibytes(peerPeakBytes)})`;
  return `  ${gflopsPerSecond.toFixed(0)} GFLOP/s achieved, peak ${mebibytes(peakBytes)}${theirs}, the first v_proj keeps ${mebibytes(keptBytes)} for backward`;
}

function describeComparison({ name, ratio, goal, what }: Comparison): string {
  const [figure, least] = what === "speed" ? ["speed", "at least"] : ["peak memory", "at most"];
  return `${`${figure} of ${name}`.padEnd(42)} ${ratio.toFixed(2)} (goal: ${least} ${goal})`;
}

async function trainingEntries(methods: readonly BenchMethod[], precision: Precision, model: BenchModelName, { say }: Say): Promise<TrainingEntry[]> {
  if (methods.length === 0) return [];
  const dense = await benchModel(model, say);
  const pruned = methods.some(wantsPruned) ? await prunedBenchModel(dense, say) : dense;
  return methods.map((method) => ({ method, precision, folder: wantsPruned(method) ? pruned : dense }));
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
