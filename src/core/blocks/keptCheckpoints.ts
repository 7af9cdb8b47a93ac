/**
 * The checkpoints of a run folder, for who looks at them while a core may be writing others. Only reads; what a checkpoint holds is not known here.
 * The rule to keep: nothing is shown of a checkpoint before every byte of it was compared with its manifest, and that is done once, not at every look.
 */
import { stat } from "node:fs/promises";
import path from "node:path";
import { UserError } from "../../protocol/userError.ts";
import { type Checkpoint, checkpointSteps, checkpointsFolder, verifyCheckpoint } from "../files/checkpoint.ts";

/** Checkpoints that were compared in full, by folder, with what the file system said of them then. */
const compared = new Map<string, string>();
const remembered = 100;

/** Steps of the checkpoints that have all their files, oldest first. */
export async function keptSteps(runFolder: string): Promise<number[]> {
  const steps: number[] = [];
  for (const step of await checkpointSteps(runFolder))
    if (typeof (await verifyCheckpoint(folderOf(runFolder, step), step, { content: false })) !== "string") steps.unshift(step);
  return steps;
}

/** The checkpoint of a step. Throws UserError `run/no-checkpoint` where it is not kept, or damaged. */
export async function checkpointAt(runFolder: string, step: number): Promise<Checkpoint> {
  const found = await wholeCheckpoint(runFolder, step);
  if (typeof found !== "string") return found;
  const kept = await keptSteps(runFolder);
  const others = kept.length === 0 ? "none yet" : `those of ${kept.length === 1 ? "step" : "steps"} ${kept.join(", ")}`;
  throw new UserError(
    "run/no-checkpoint",
    `${runFolder} has no whole checkpoint of step ${step}: ${found}.`,
    `Take one that is kept: ${others}. checkpoint.keep says how many are.`,
  );
}

/** The newest checkpoint that is whole; null when there is none. */
export async function newestCheckpoint(runFolder: string): Promise<Checkpoint | null> {
  for (const step of await checkpointSteps(runFolder)) {
    const found = await wholeCheckpoint(runFolder, step);
    if (typeof found !== "string") return found;
  }
  return null;
}

async function wholeCheckpoint(runFolder: string, step: number): Promise<Checkpoint | string> {
  const folder = folderOf(runFolder, step);
  const found = await verifyCheckpoint(folder, step, { content: false });
  if (typeof found === "string") return found;
  const identity = await identityOf(found).catch(() => null);
  if (identity === null) return "it has gone";
  if (compared.get(folder) === identity) return found;
  const verified = await verifyCheckpoint(folder, step);
  if (typeof verified === "string") return verified;
  compared.set(folder, identity);
  if (compared.size > remembered) compared.delete(compared.keys().next().value as string);
  return verified;
}

/** Everything that changes when a file of a checkpoint does. */
export async function identityOf({ folder, files }: Checkpoint): Promise<string> {
  const parts = [...files].map(async ([name, { sha256 }]) => {
    const { size, mtimeMs, ctimeMs, ino } = await stat(path.join(folder, name));
    return [name, sha256, size, mtimeMs, ctimeMs, ino].join(":");
  });
  return (await Promise.all(parts)).join("\n");
}

function folderOf(runFolder: string, step: number): string {
  return path.join(checkpointsFolder(runFolder), `step-${step}`);
}
