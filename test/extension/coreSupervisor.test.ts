/** What follows when a core has gone without a word, at every turn on the way to a restart; with a tie that only notes what it is told, and no process. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { CoreSupervisor } from "../../src/extension/runs/coreSupervisor.ts";
import { CrashBudget } from "../../src/extension/runs/crashBudget.ts";
import { RunHistory } from "../../src/extension/runs/runHistory.ts";
import { noteStop } from "../../src/extension/runs/stopRequests.ts";
import { newRun } from "../core/host/runningCore.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { noService } from "./windows.ts";

type Test = { after(clean: () => void): void };

interface Lost {
  runFolder: string;
  told: string[];
  disposed: boolean;
  history: RunHistory;
}

/** A run whose core has gone; `waiting` is done while a restart is waited for. */
async function lost(t: Test, { trusted = true, budget = new CrashBudget(), waiting = async (_: Lost) => {} } = {}) {
  const runFolder = await newRun(temporaryFolder(t));
  const told: string[] = [];
  const history = new RunHistory(runFolder, () => {});
  const services = {
    program: () => Promise.reject(new Error("no program is at hand")),
    service: noService,
    isTrusted: () => trusted,
    keepRunning: () => true,
    log: () => {},
  };
  const run: Lost = { runFolder, told, disposed: false, history };
  const supervisor = new CoreSupervisor(runFolder, history, services, 1000, budget, {
    isDisposed: () => run.disposed,
    isAttached: () => false,
    connect: () => Promise.reject(new Error("the register has none")),
    expectCore: () => void told.push("expect"),
    wait: async (ms) => {
      told.push(`wait ${ms}`);
      await waiting(run);
    },
    stop: async () => void told.push("stop"),
    stayAway: (failure) => void told.push(`away ${failure?.code}`),
  });
  supervisor.coreBeganMs = Date.now();
  return { ...run, supervisor };
}

const crashed = ["expect", "wait 1000"];
/** The start itself, which fails here. */
const startedAgain = [...crashed, "expect", "away internal"];

test("a crash: it is started again after the budget's delay, and a start that fails is told", async (t) => {
  const { supervisor, told, runFolder } = await lost(t);
  writeFileSync(path.join(runFolder, "log.txt"), "out of memory\n");
  await supervisor.coreLost({ silent: false });
  assert.deepEqual(told, startedAgain);
  assert.deepEqual(supervisor.logTail, ["out of memory"]);
});

test("a core that a person killed, that hung, that had said how the run ended, or without trust: nothing is started", async (t) => {
  const killed = await lost(t);
  killed.supervisor.killed = true;
  await killed.supervisor.coreLost({ silent: false });
  const hung = await lost(t);
  await hung.supervisor.coreLost({ silent: true });
  const ended = await lost(t);
  ended.history.progress.outcome = "stopped";
  await ended.supervisor.coreLost({ silent: false });
  const restricted = await lost(t, { trusted: false });
  await restricted.supervisor.coreLost({ silent: false });
  for (const { told } of [killed, hung, ended, restricted]) assert.deepEqual(told, ["away undefined"]);
});

test("a crash that the budget does not forgive is told, and nothing is started", async (t) => {
  const { supervisor, told } = await lost(t, { budget: new CrashBudget({ delaysMs: [], windowMs: 1000 }) });
  await supervisor.coreLost({ silent: false });
  assert.deepEqual(told, ["away core/crashed"]);
});

test("a Stop before the wait spares it; one of another window while it goes on counts as well; one from before the core does not", async (t) => {
  const before = await lost(t);
  await before.supervisor.noteStop();
  await before.supervisor.coreLost({ silent: false });
  assert.deepEqual(before.told, ["expect", "away undefined"]);

  const during = await lost(t, { waiting: ({ runFolder }) => noteStop(runFolder) });
  await during.supervisor.coreLost({ silent: false });
  assert.deepEqual(during.told, [...crashed, "away undefined"]);

  const earlier = await lost(t);
  await noteStop(earlier.runFolder);
  earlier.supervisor.coreBeganMs = Date.now() + 1;
  await earlier.supervisor.coreLost({ silent: false });
  assert.deepEqual(earlier.told, startedAgain);
});

test("a window that lets go while it waits starts nothing", async (t) => {
  const { supervisor, told } = await lost(t, {
    waiting: async (run) => {
      run.disposed = true;
    },
  });
  await supervisor.coreLost({ silent: false });
  assert.deepEqual(told, crashed);
});
