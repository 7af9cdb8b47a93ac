/** The peer: a script that does the same training in PyTorch, run as a program; it stands beside the checkout, not in it. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { UserError } from "../../protocol/userError.ts";
import { assetPath } from "../assets.ts";
import { formatLoss } from "../terminal/format.ts";
import type { SyntheticRun } from "./syntheticTraining.ts";

/** What the peer is started with. */
export interface Peer {
  /** A Python that has torch and numpy. */
  python: string;
  device: "cpu" | "cuda";
  /** Of the processor. */
  threads: number;
}

/** What the peer measured of its own training: speed over all positions, the loss of each step before its update, memory. */
export interface PeerResult {
  peer: string;
  tokensPerSecond: number;
  losses: number[];
  /** On a card what its allocator held at most; on the processor the process's resident memory, PyTorch itself included. */
  peakBytes: number;
}

/** The peer on the same work; says how far the losses are apart. Throws UserError `bench/no-peer`, `bench/peer-failed`. */
export async function besidePeer(peer: Peer, run: SyntheticRun, losses: readonly number[], say: (text: string) => void): Promise<PeerResult> {
  const theirs = await runPeer(peer, run);
  const difference = Math.max(...losses.map((loss, i) => Math.abs(loss - theirs.losses[i]) / Math.abs(theirs.losses[i])));
  say(
    `  ${theirs.peer}: ${theirs.tokensPerSecond.toFixed(0)} tokens/s, losses ${theirs.losses.map(formatLoss).join(" ")}; largest relative difference of ours ${difference.toExponential(1)}`,
  );
  return theirs;
}

const peerScript = () => assetPath("../shared/peers/torch_peer.py");

async function runPeer(
  { python, device, threads }: Peer,
  { modelFolder, method, precision, batchSize, sequenceLength, steps }: SyntheticRun,
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
    "--device",
    device,
  ].map(String);
  const { stdout } = await promisify(execFile)(python, args, { maxBuffer: 1 << 24 }).catch((error) => {
    throw new UserError(
      "bench/peer-failed",
      `${python} ${script} failed: ${String(error.stderr || error.message)
        .trim()
        .split("\n")
        .at(-1)}.`,
      device === "cuda" ? "Give a Python that has numpy and a torch that finds the card." : "Give a Python that has torch and numpy.",
      { cause: error },
    );
  });
  return JSON.parse(stdout.trim().split("\n").at(-1) as string);
}
