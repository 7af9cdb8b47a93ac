/**
 * Trains the bench's methods in turn, round after round, so that what disturbs the machine disturbs all alike, and compares them: speed beside the limit and
 * the peer, ratios between methods, memory. Which figures are wanted, and what is printed, is the command's.
 * The rule to keep: ours and the peer's are never on the device at once; a device is opened for each training and closed after it.
 */
import type { Device } from "../devices/device.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import type { Precision } from "../model/tensors.ts";
import { type BenchMethod, benchTitles, flopsPerToken, peerKnows } from "./benchMethods.ts";
import { type BenchRow, besideLimit, medians, type Pair } from "./limits.ts";
import { besidePeer, type Peer } from "./peer.ts";
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
  /** By the device's ledger. */
  peakBytes: number;
  /** As {@link PeerResult} counts it; null where there is no peer. */
  peerPeakBytes: number | null;
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

/** How every method is timed, in turn with the peer where there is one. */
export interface TrainingOptions {
  /** What the rows are called after their method and precision. */
  title: string;
  openDevice(): Promise<Device>;
  /** FLOP/s that the device reaches at best, measured now; null where nobody knows. */
  peak: ((precision: Precision) => number) | null;
  batchSize: number;
  sequenceLength: number;
  rounds: number;
  steps: number;
  peer: Peer | null;
  say(text: string): void;
}

/** An entry and what its rounds have given so far. */
interface Taken {
  entry: TrainingEntry;
  pairs: Pair[];
  peerRatios: number[];
  peerPeakBytes: number | null;
  last: SyntheticResult | null;
}

/** Rows of all entries, after `rounds` rounds of all of them. One for which the device's memory does not suffice is left out, and named. */
export async function trainInTurn(entries: readonly TrainingEntry[], options: TrainingOptions): Promise<TrainedEntry[]> {
  const taken = entries.map((entry): Taken => ({ entry, pairs: [], peerRatios: [], peerPeakBytes: null, last: null }));
  let left = taken;
  for (let round = 0; round < options.rounds; round++)
    for (const one of left) {
      const title = `${benchTitles[one.entry.method]} ${one.entry.precision}`;
      options.say(`  round ${round + 1} of ${options.rounds}: ${title}`);
      await trainOnce(one, options).catch((error) => {
        if ((error as { code?: string }).code !== "device/out-of-memory") throw error;
        options.say(`  ${title} is left out: ${error.message}`);
        left = left.filter((other) => other !== one);
      });
    }
  return Promise.all(left.map((one) => trainedEntry(one, options)));
}

async function trainOnce(one: Taken, { openDevice, peak, batchSize, sequenceLength, steps, peer, say }: TrainingOptions): Promise<void> {
  const { method, precision, folder } = one.entry;
  const run: SyntheticRun = { modelFolder: folder, method, precision, batchSize, sequenceLength, steps };
  const flops = flopsPerToken((await openModelConfig(folder)).config, method, batchSize * sequenceLength);
  const pair = await besideLimit(peak && (() => peak(precision) / flops), async () => {
    const device = await openDevice();
    try {
      one.last = await trainSynthetic(device, run);
      return one.last.tokensPerSecond;
    } finally {
      device.close();
    }
  });
  one.pairs.push(pair);
  if (!peer || !peerKnows(method)) return;
  const theirs = await besidePeer(peer, run, one.last?.losses ?? [], say);
  one.peerRatios.push(pair.value / theirs.tokensPerSecond);
  one.peerPeakBytes = theirs.peakBytes;
}

async function trainedEntry({ entry, pairs, peerRatios, peerPeakBytes, last }: Taken, options: TrainingOptions): Promise<TrainedEntry> {
  const figures = medians(pairs);
  const { config } = await openModelConfig(entry.folder);
  const row: TrainingRow = {
    name: `train ${benchTitles[entry.method]} ${entry.precision} ${options.title}`,
    unit: "tokens/s",
    ...figures,
    peerRatio: peerRatios.length > 0 ? median(peerRatios) : null,
    gflopsPerSecond: (figures.value * flopsPerToken(config, entry.method, options.batchSize * options.sequenceLength)) / 1e9,
    peakBytes: last?.peakBytes ?? 0,
    peerPeakBytes,
    keptBytes: last?.keptBytes ?? 0,
  };
  return { entry, row, speeds: pairs.map(({ value }) => value) };
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

/** What can be compared of these entries, those of one precision. Speeds are divided within each round, and the median taken. */
export function compareMethods(trained: readonly TrainedEntry[], precision: Precision): Comparison[] {
  const of = (method: BenchMethod) => trained.find(({ entry }) => entry.method === method && entry.precision === precision);
  return wanted.flatMap(([first, second, what, goal]) => {
    const [a, b] = [of(first), of(second)];
    if (!a || !b) return [];
    const ratio = what === "speed" ? median(a.speeds.map((speed, i) => speed / b.speeds[i])) : a.row.peakBytes / b.row.peakBytes;
    return [{ name: `${benchTitles[first]} / ${benchTitles[second]}`, ratio, goal, what }];
  });
}
