/**
 * The folder of a run: `<output>/<id>/` with run.yaml, run.lock, log.txt, events.jsonl and checkpoints/. It is the truth about the run; no process keeps
 * anything it cannot read back from here. Events are in eventLog.ts, the lock in runLock.ts, checkpoints in checkpoint.ts.
 * The rule to keep: two runs never share a folder, and names from outside never leave it.
 */
import { appendFile, lstat, mkdir, open, readdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import { safeName } from "../../protocol/runName.ts";
import { UserError } from "../../protocol/userError.ts";
import { replaceFile, syncFolder, temporaryPrefix, writeError } from "./durableFile.ts";

/** Files of a run folder. */
export const runFiles = {
  config: "run.yaml",
  lock: "run.lock",
  events: "events.jsonl",
  log: "log.txt",
  selection: "selection.json",
  scores: "scores.safetensors",
  frames: "frames.bin",
  delta: "smt.safetensors",
  adapter: "adapter",
} as const;

/** `yyyymmdd-hhmmss-<name>` in local time. */
export function runId(name: string, now: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}-${safeName(name)}`;
}

/**
 * Creates a new run folder under `output` with the resolved run file in it, and returns its path. A name that is taken gets `-2`, `-3`, …
 * Where `output` lies in a `.sparse-tuner` folder, that one gets a .gitignore. Throws UserError `run/output-is-a-file`, `run/disk-full` or
 * `run/cannot-write`.
 */
export async function createRunFolder(
  output: string,
  name: string,
  configText: string,
  now = new Date(),
  configFile: string = runFiles.config,
): Promise<string> {
  try {
    await makeOutput(output);
    await ignoreInGit(output);
    const folder = await newFolder(output, runId(name, now));
    await replaceFile(path.join(folder, configFile), [Buffer.from(configText)]);
    await syncFolder(output);
    return folder;
  } catch (error) {
    throw await writeError(error, "the run folder", output, Buffer.byteLength(configText));
  }
}

async function makeOutput(output: string): Promise<void> {
  try {
    await mkdir(output, { recursive: true });
  } catch (error) {
    const obstacle = await obstacleTo(output);
    if (!obstacle) throw error;
    throw new UserError(
      "run/output-is-a-file",
      `${output} cannot hold run folders: ${obstacle}.`,
      "Set the output to another folder, or move what is there away.",
      { cause: error },
    );
  }
}

/** What stands where a folder, or one above it, would have to be; null where nothing does. */
async function obstacleTo(folder: string): Promise<string | null> {
  let place = path.resolve(folder);
  while (!(await lstat(place).catch(() => null)) && path.dirname(place) !== place) place = path.dirname(place);
  const found = await stat(place).catch(() => null);
  if (!found) return `${place} is a link that leads nowhere`;
  return found.isDirectory() ? null : `${place} is a file`;
}

async function newFolder(output: string, id: string): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    const folder = path.join(output, attempt === 1 ? id : `${id}-${attempt}`);
    try {
      await mkdir(folder);
      return folder;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

async function ignoreInGit(output: string): Promise<void> {
  const parts = path.resolve(output).split(path.sep);
  const at = parts.lastIndexOf(".sparse-tuner");
  if (at < 0) return;
  const file = path.join(parts.slice(0, at + 1).join(path.sep), ".gitignore");
  try {
    const handle = await open(file, "wx");
    await handle.writeFile("*\n");
    await handle.close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** Checks that a path is a run folder. Throws UserError `run/no-run`. */
export async function requireRunFolder(folder: string): Promise<void> {
  if (await isRunFolder(folder)) return;
  throw new UserError("run/no-run", `${folder} is no run folder: it has no ${runFiles.config}.`, "Give a folder under .sparse-tuner/runs.");
}

/** Whether a path holds a run. */
export async function isRunFolder(folder: string): Promise<boolean> {
  const status = await stat(path.join(folder, runFiles.config)).catch(() => null);
  return status?.isFile() ?? false;
}

/** Removes the folder of a run that ended before it began to work. One that holds anything but what was written on the way there stays. */
export async function removeUnbegun(folder: string): Promise<void> {
  const written: readonly string[] = [runFiles.config, runFiles.lock, runFiles.events, runFiles.log];
  if ((await readdir(folder)).every((name) => written.includes(name))) await rm(folder, { recursive: true });
}

/** Removes what a killed process left half-written in the folder itself. Only for the process that holds the run's lock. */
export async function sweepRunFolder(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (name.startsWith(temporaryPrefix)) await rm(path.join(folder, name), { recursive: true, force: true });
}

/** Adds a line to log.txt, with the time in front. A log that cannot be written stops nothing. */
export async function log(folder: string, line: string): Promise<void> {
  const flat = line.replace(/\r?\n/g, "\n  ");
  await appendFile(path.join(folder, runFiles.log), `${new Date().toISOString()} ${flat}\n`).catch(() => undefined);
}
