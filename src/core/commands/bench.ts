/**
 * `sparse-tuner bench`: the engine against this machine's limits, measured in the same run, and against a peer in turn. Each figure is the median of
 * repeats beside the limit; ratio = value / limit. A ratio above 1 means that the limit was disturbed, and fails the bench.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { UserError } from "../../protocol/userError.ts";
import { assetPath } from "../assets.ts";
import { median, multipliedParameters, type SyntheticRun, trainSynthetic } from "../bench/syntheticTraining.ts";
import { measurePeak, openCpuDevice } from "../devices/cpu/cpuDevice.ts";
import { userCacheFolder } from "../files/fileHash.ts";
import { initModel } from "../files/initModel.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import { Random } from "../random.ts";
import { formatLoss } from "../terminal/format.ts";
import type { BenchOptions } from "./options.ts";

/** One figure of the bench beside its limit. */
export interface BenchRow {
  name: string;
  value: number;
  unit: "GFLOP/s" | "tokens/s";
  /** What the machine allows at best, in the same unit. */
  limit: number;
  ratio: number;
  /** This speed over the peer's; null where there is none. */
  peerRatio: number | null;
}

type Precision = "f32" | "bf16";

const shape = { M: 512, K: 2048, N: 2048 };
const repeats = 9;
const trainingSteps = 6;
const rounds = 3;

/** Prints every row; exit code 1 when a ratio above 1 shows that a limit was disturbed. Throws UserError when the peer cannot run. */
export async function bench({ peer, json }: BenchOptions): Promise<number> {
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const rows: BenchRow[] = [];
  const add = (row: BenchRow) => {
    rows.push(row);
    if (!json) process.stdout.write(`${describe(row)}\n`);
  };
  const threads = Math.min(2, os.availableParallelism());
  for (const precision of ["f32", "bf16"] as const) for (const count of [1, threads].slice(0, threads)) add(await benchMatmul(precision, count));
  const folder = await benchModel(say);
  for (const [method, precision] of [
    ["smt", "f32"],
    ["smt", "bf16"],
    ["full", "f32"],
  ] as const)
    add(await benchTraining(folder, method, precision, threads, peer, say));
  if (json) process.stdout.write(`${JSON.stringify({ machine: os.cpus()[0]?.model, threads, rows })}\n`);
  const impossible = rows.filter(({ ratio }) => ratio > 1);
  for (const { name, ratio } of impossible) say(`${name}: a ratio of ${ratio.toFixed(3)} cannot be; the limit was disturbed, run the bench again.`);
  return impossible.length > 0 ? 1 : 0;
}

function describe({ name, value, unit, limit, ratio, peerRatio }: BenchRow): string {
  const against = peerRatio === null ? "" : `  ${peerRatio.toFixed(2)} × the peer`;
  return `${name.padEnd(36)} ${value.toFixed(0).padStart(6)} of ${limit.toFixed(0).padStart(6)} ${unit.padEnd(8)} ${(100 * ratio).toFixed(1).padStart(5)} %${against}`;
}

/** x·Wᵀ, by default at 512 × 2048 × 2048, each repeat beside a measurement of the peak. */
export async function benchMatmul(precision: Precision, threads: number, { M, K, N } = shape, times = repeats): Promise<BenchRow> {
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

/** A figure and its share of the limit at that time. */
interface Pair {
  value: number;
  ratio: number;
}

/** Takes a figure with the limit before and after it, so that what else runs on the machine disturbs both alike. */
async function besideLimit(limit: () => number, figure: () => Promise<number>): Promise<Pair> {
  const before = limit();
  const value = await figure();
  return { value, ratio: (2 * value) / (before + limit()) };
}

/** The median value and the median ratio; the limit is what their quotient says. */
function medians(pairs: readonly Pair[]): Pick<BenchRow, "value" | "limit" | "ratio"> {
  const [value, ratio] = [median(pairs.map((pair) => pair.value)), median(pairs.map((pair) => pair.ratio))];
  return { value, limit: value / ratio, ratio };
}

/** Training steps of the 134 M model at 2 × 256, in turn with the peer's; limit = peak / (4 FLOPs a multiplied parameter and token; 6 for full). */
async function benchTraining(
  folder: string,
  method: "smt" | "full",
  precision: Precision,
  threads: number,
  peer: string | null,
  say: (text: string) => void,
): Promise<BenchRow> {
  const device = openCpuDevice({ threads });
  const { config } = await openModelConfig(folder);
  const flopsPerToken = (method === "full" ? 6 : 4) * multipliedParameters(config);
  const run: SyntheticRun = { modelFolder: folder, method, precision, batchSize: 2, sequenceLength: 256, steps: trainingSteps };
  const peerRatios: number[] = [];
  const pairs: Pair[] = [];
  for (let round = 0; round < rounds; round++) {
    const losses: number[] = [];
    const pair = await besideLimit(
      () => measurePeak(precision, threads).flopsPerSecond / flopsPerToken,
      async () => {
        const ours = await trainSynthetic(device, run);
        losses.push(...ours.losses);
        return ours.tokensPerSecond;
      },
    );
    pairs.push(pair);
    if (peer) peerRatios.push(pair.value / (await besidePeer(peer, run, threads, losses, say)));
  }
  device.close();
  return {
    name: `train ${method} ${precision} 134M ${threads} threads`,
    unit: "tokens/s",
    ...medians(pairs),
    peerRatio: peer ? median(peerRatios) : null,
  };
}

/** The peer's tokens per second on the same work; says how far the losses are apart. */
async function besidePeer(peer: string, run: SyntheticRun, threads: number, losses: readonly number[], say: (text: string) => void): Promise<number> {
  const theirs = await runPeer(peer, run, threads);
  const difference = Math.max(...losses.map((loss, i) => Math.abs(loss - theirs.losses[i]) / Math.abs(theirs.losses[i])));
  say(
    `  ${theirs.peer}: ${theirs.tokensPerSecond.toFixed(0)} tokens/s, losses ${theirs.losses.map(formatLoss).join(" ")}; largest relative difference of ours ${difference.toExponential(1)}`,
  );
  return theirs.tokensPerSecond;
}

/** A random Llama of 134 M parameters, written once into the cache folder. */
async function benchModel(say: (text: string) => void): Promise<string> {
  const folder = path.join(userCacheFolder(), "bench-134M");
  if (existsSync(path.join(folder, "model.safetensors"))) return folder;
  say(`writing a random model of 134 M parameters to ${folder} (once)`);
  await initModel(assetPath("media/bench/config-134M.json"), folder, { dtype: "F32", seed: 1 });
  return folder;
}

interface PeerResult {
  peer: string;
  tokensPerSecond: number;
  losses: number[];
}

/** The script that does the same work in PyTorch; it stands beside the checkout, not in it. */
const peerScript = () => assetPath("../shared/peers/torch_peer.py");

async function runPeer(
  python: string,
  { modelFolder, method, precision, batchSize, sequenceLength, steps }: SyntheticRun,
  threads: number,
): Promise<PeerResult> {
  const script = process.env.SPARSE_TUNER_PEER ?? peerScript();
  if (!existsSync(script))
    throw new UserError("bench/no-peer", `The peer's script ${script} is not there.`, "Set SPARSE_TUNER_PEER to its path, or leave --peer out.");
  const args = [
    script,
    modelFolder,
    "--method",
    method,
    "--batch",
    batchSize,
    "--seq",
    sequenceLength,
    "--steps",
    steps,
    "--threads",
    threads,
    "--dtype",
    precision,
  ].map(String);
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 1 << 24 }).catch((error) => {
    throw new UserError(
      "bench/peer-failed",
      `${python} ${script} failed: ${String(error.stderr || error.message)
        .trim()
        .split("\n")
        .at(-1)}.`,
      "Give a Python that has torch and numpy.",
      { cause: error },
    );
  });
  return JSON.parse(stdout.trim().split("\n").at(-1) as string);
}
