/**
 * Cores as a host sees them: started as processes of their own on small runs, in a temporary folder and a register of this test file's own. What a test
 * leaves running is killed after it. Importing this moves the register and the sockets away from the user's.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { CoreClient, type CoreEnd, type CoreListener } from "../../../src/extension/coreClient.ts";
import { type StartOptions, startCore } from "../../../src/extension/startCore.ts";
import type { CardReport } from "../../../src/protocol/cardReading.ts";
import type { CoreStatus, FrameHeader } from "../../../src/protocol/coreProtocol.ts";
import type { RunEvent } from "../../../src/protocol/events.ts";
import type { LiveRunRecord } from "../../../src/protocol/liveRun.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { type Overrides, readConfig, writeRunFile } from "../run/smallRuns.ts";

// Short, because a socket's path may have 100 bytes.
const place = mkdtempSync(path.join(os.tmpdir(), "st-"));
process.env.TMPDIR = place;
process.env.XDG_STATE_HOME = path.join(place, "state");
after(() => rmSync(place, { recursive: true, force: true }));

export const program = { node: process.execPath, core: path.resolve(import.meta.dirname, "../../../src/core/main.ts") };

/** Never ends by itself within a test. */
export const endless: Overrides = { train: { steps: 1_000_000 }, evaluate: { every: null }, checkpoint: { every: null } };

/** A new run folder that nobody works on. */
export async function newRun(folder: string, overrides: Overrides = endless): Promise<string> {
  const config = readConfig(writeRunFile(folder, overrides));
  return createRunFolder(config.output, "small", stringifyRunConfig(config));
}

type Test = { after(clean: () => unknown): void };

/** Starts a core; after the test its process is gone. */
export async function running(test: Test, runFolder: string, options: Partial<StartOptions> = {}): Promise<LiveRunRecord> {
  const { record } = await startCore({ ...program, runFolder, resume: false, timeoutMs: 30_000, ...options });
  test.after(() => killHard(record.pid));
  return record;
}

export function killHard(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** A client with everything it was told. */
export class WatchingHost {
  readonly events: RunEvent[] = [];
  readonly heartbeats: { atMs: number; status: CoreStatus }[] = [];
  readonly frames: { header: FrameHeader; payload: Uint8Array }[] = [];
  readonly cards: { atMs: number; report: CardReport }[] = [];
  readonly malformed: string[] = [];
  readonly responding: boolean[] = [];
  readonly end: Promise<CoreEnd>;
  client!: CoreClient;
  readonly #listener: CoreListener;

  private constructor() {
    this.#listener = {
      onEvent: (event) => this.events.push(event),
      onHeartbeat: (status) => this.heartbeats.push({ atMs: performance.now(), status }),
      onFrame: (header, payload) => this.frames.push({ header, payload }),
      onCard: (report) => this.cards.push({ atMs: performance.now(), report }),
      onMalformed: (what) => this.malformed.push(what),
      onResponding: (responding) => this.responding.push(responding),
    };
    this.end = new Promise((resolve) => {
      this.#listener.onEnd = resolve;
    });
  }

  static async attach(
    test: Test,
    record: LiveRunRecord,
    options: { name?: string; after?: number; notRespondingMs?: number } = {},
  ): Promise<WatchingHost> {
    const host = new WatchingHost();
    const { name = "window", notRespondingMs } = options;
    host.client = await CoreClient.connect({ record, name, listener: host.#listener, notRespondingMs });
    test.after(() => host.client.close());
    await host.client.follow(options.after ?? 0);
    return host;
  }

  /** The first event that fits, seen already or to come. */
  async seen(fits: (event: RunEvent) => boolean, timeoutMs = 90_000): Promise<RunEvent> {
    await until(
      () => this.events.some(fits),
      timeoutMs,
      () => `last event ${JSON.stringify(this.events.at(-1))}`,
    );
    return this.events.find(fits) as RunEvent;
  }

  get steps(): number {
    return this.events.filter(({ kind }) => kind === "step").length;
  }

  assertGapless(after = 0): void {
    assert.deepEqual(
      this.events.map(({ sequence }) => sequence),
      this.events.map((_, i) => after + 1 + i),
    );
    assert.deepEqual(this.malformed, []);
  }
}

export function readLog(runFolder: string): RunEvent[] {
  return readFileSync(path.join(runFolder, "events.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as RunEvent);
}

export async function until(holds: () => boolean | Promise<boolean>, timeoutMs = 60_000, why: () => string = () => ""): Promise<void> {
  for (const began = performance.now(); !(await holds()); await delay(20))
    if (performance.now() - began > timeoutMs) assert.fail(`waited ${timeoutMs} ms in vain: ${holds} ${why()}`);
}
