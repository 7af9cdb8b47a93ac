/** What the tests know of a run without the extension: its folder's own files, and what the command line says of it. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { coreToHostLimits } from "../../src/protocol/coreProtocol.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import { type Frame, FrameDecoder } from "../../src/protocol/frames.ts";
import { type LiveRunRecord, liveRunsFolder, parseLiveRunRecord } from "../../src/protocol/liveRun.ts";
import type { Workbench } from "./workbench.ts";

const cli = path.resolve(import.meta.dirname, "../../dist/cli.js");

/** Run folders below a folder's .sparse-tuner/runs, by name. */
export function runFolders(folder: string): string[] {
  const runs = path.join(folder, ".sparse-tuner/runs");
  return existsSync(runs)
    ? readdirSync(runs)
        .sort()
        .map((name) => path.join(runs, name))
    : [];
}

/** The events of a run so far, from its log; a last line that is not whole yet is left out. */
export function eventsOf(runFolder: string): RunEvent[] {
  const file = path.join(runFolder, "events.jsonl");
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as RunEvent);
}

/** The newest event of a kind; null before there is one. */
export function lastEvent<Kind extends RunEvent["kind"]>(runFolder: string, kind: Kind): Extract<RunEvent, { kind: Kind }> | null {
  return (eventsOf(runFolder).findLast((event) => event.kind === kind) as Extract<RunEvent, { kind: Kind }> | undefined) ?? null;
}

/** The heatmap frames that a core has recorded. */
export function recordedFrames(runFolder: string): Frame[] {
  const file = path.join(runFolder, "frames.bin");
  return existsSync(file) ? new FrameDecoder(coreToHostLimits).push(readFileSync(file)) : [];
}

/** What a command of the command line prints, as JSON. */
export function commandLine<Answer>(workbench: Workbench, ...options: string[]): Answer {
  const output = execFileSync(process.execPath, [cli, ...options], { encoding: "utf8", env: workbench.env, maxBuffer: 1 << 28 });
  return JSON.parse(output) as Answer;
}

/** What the register of a workbench holds of the cores of a run folder. */
export function coreRecords(workbench: Workbench, runFolder: string): LiveRunRecord[] {
  const folder = liveRunsFolder({ platform: process.platform, env: workbench.env, home: workbench.env.HOME ?? "" });
  if (!existsSync(folder)) return [];
  const records = readdirSync(folder).map((name) => parseLiveRunRecord(readFileSync(path.join(folder, name), "utf8")));
  return records.filter((record) => record !== null).filter((record) => record.runFolder === runFolder);
}

/** Their process ids. */
export function corePids(workbench: Workbench, runFolder: string): number[] {
  return coreRecords(workbench, runFolder).map(({ pid }) => pid);
}
