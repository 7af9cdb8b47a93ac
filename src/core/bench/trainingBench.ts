/**
 * Trains the bench's methods in turn, round after round, so that what disturbs the machine disturbs all alike, and compares them: speed beside the limit and
 * the peer, ratios between methods, memory. Which figures are wanted, and what is printed, is the command's.
 */
import { measurePeak, openCpuDevice } from "../devices/cpu/cpuDevice.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import type { Precision } from "../model/tensors.ts";
import { type BenchMethod, benchTitles, flopsPerToken, peerKnows } from "./benchMethods.ts";
import { type BenchRow, besideLimit, medians, type Pair } from "./limits.ts";
import { besidePeer } from "./peer.ts";
import { median, type SyntheticResult, type SyntheticRun, trainSynthetic } from "./syntheticTraining.ts";

/** What is trained in each round. */
export interface TrainingEntry {
  method: BenchMethod;
  precision: Precision;
  /** Of the model, pruned where the method wants it. */
  folder: string;
}

/** A method's speed, and what it holds. */
export interface TrainingRow extends BenchRow {
  /** Matrix products done, by formula, over the time. */
  gflopsPerSecond: number;
  peakBytes: number;
  /** Bytes one linear map keeps between forward and backward, and of these its input. */
  keptBytes: number;
}

/** One line of the bench, and the speeds it is the median of. */
export interface TrainedEntry {
  entry: TrainingEntry;
  row: TrainingRow;
  /** Tokens per second, round by round. */
  speeds: number[];
}

/** How every method is timed: on so many threads, in turn with the peer (the path of a Python) where one is given. */
export interface TrainingOptions {
  threads: number;
  rounds: number;
  steps: number;
  peer: string | null;
  say(text: string): void;
}

const [batchSize, sequenceLength] = [2, 256];

/** Rows of all entries, after `rounds` rounds of all of them. */
export async function trainInTurn(entries: readonly TrainingEntry[], options: TrainingOptions): Promise<TrainedEntry[]> {
  const taken = entries.map((entry) => ({ entry, pairs: [] as Pair[], peerRatios: [] as number[], last: null as SyntheticResult | null }));
  const device = openCpuDevice({ threads: options.threads });
  for (let round = 0; round < options.rounds; round++) {
    for (const one of taken) {
      const { method, precision, folder } = one.entry;
      options.say(`  round ${round + 1} of ${options.rounds}: ${benchTitles[method]} ${precision}`);
      const run: SyntheticRun = { modelFolder: folder, method, precision, batchSize, sequenceLength, steps: options.steps };
      const flops = flopsPerToken((await openModelConfig(folder)).config, method, batchSize * sequenceLength);
      const limit = () => measurePeak(precision, options.threads).flopsPerSecond / flops;
      const pair = await besideLimit(limit, async () => {
        one.last = await trainSynthetic(device, run);
        return one.last.tokensPerSecond;
      });
      one.pairs.push(pair);
      const losses = one.last?.losses ?? [];
      if (options.peer && peerKnows(method))
        one.peerRatios.push(pair.value / (await besidePeer(options.peer, run, options.threads, losses, options.say)));
    }
  }
  device.close();
  const rows = taken.map(async ({ entry, pairs, peerRatios, last }) => {
    const figures = medians(pairs);
    const { config } = await openModelConfig(entry.folder);
    const row: TrainingRow = {
      name: `train ${benchTitles[entry.method]} ${entry.precision} 134M ${options.threads} threads`,
      unit: "tokens/s",
      ...figures,
      peerRatio: peerRatios.length > 0 ? median(peerRatios) : null,
      gflopsPerSecond: (figures.value * flopsPerToken(config, entry.method, batchSize * sequenceLength)) / 1e9,
      peakBytes: last?.peakBytes ?? 0,
      keptBytes: last?.keptBytes ?? 0,
    };
    return { entry, row, speeds: pairs.map(({ value }) => value) };
  });
  return Promise.all(rows);
}

/** Two methods against each other. */
export interface Comparison {
  name: string;
  /** The first's figure over the second's. */
  ratio: number;
  /** What the ratio should be, at least for speeds and at most for memory. */
  goal: number;
  what: "speed" | "peakMemory";
}

const wanted: readonly [BenchMethod, BenchMethod, Comparison["what"], number][] = [
  ["lors", "naive", "speed", 1.25],
  ["lors", "published", "speed", 1.6],
  ["lors", "lora", "speed", 0.92],
  ["smt", "lora", "speed", 1],
  ["lors", "naive", "peakMemory", 0.7],
  ["smt", "lora", "peakMemory", 1],
];

/** What can be compared of these entries: f32 only. Speeds are divided within each round, and the median taken. */
export function compareMethods(trained: readonly TrainedEntry[]): Comparison[] {
  const of = (method: BenchMethod) => trained.find(({ entry }) => entry.method === method && entry.precision === "f32");
  return wanted.flatMap(([first, second, what, goal]) => {
    const [a, b] = [of(first), of(second)];
    if (!a || !b) return [];
    const ratio = what === "speed" ? median(a.speeds.map((speed, i) => speed / b.speeds[i])) : a.row.peakBytes / b.row.peakBytes;
    return [{ name: `${benchTitles[first]} / ${benchTitles[second]}`, ratio, goal, what }];
  });
}
