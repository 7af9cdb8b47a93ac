/** The peer: a script that does the same training in PyTorch, run as a program; it stands beside the checkout, not in it. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { UserError } from "../../protocol/userError.ts";
import { assetPath } from "../assets.ts";
import { formatLoss } from "../terminal/format.ts";
import type { SyntheticRun } from "./syntheticTraining.ts";

interface PeerResult {
  peer: string;
  tokensPerSecond: number;
  losses: number[];
}

/** The peer's tokens per second on the same work; says how far the losses are apart. Throws UserError `bench/no-peer`, `bench/peer-failed`. */
export async function besidePeer(
  python: string,
  run: SyntheticRun,
  threads: number,
  losses: readonly number[],
  say: (text: string) => void,
): Promise<number> {
  const theirs = await runPeer(python, run, threads);
  const difference = Math.max(...losses.map((loss, i) => Math.abs(loss - theirs.losses[i]) / Math.abs(theirs.losses[i])));
  say(
    `  ${theirs.peer}: ${theirs.tokensPerSecond.toFixed(0)} tokens/s, losses ${theirs.losses.map(formatLoss).join(" ")}; largest relative difference of ours ${difference.toExponential(1)}`,
  );
  return theirs.tokensPerSecond;
}

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
