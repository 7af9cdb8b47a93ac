/**
 * One process working on one run folder, from lock to result: opens the event log, brings the run to its start or to its newest checkpoint, trains,
 * and writes what a finished run leaves. Used by the command line in the foreground and by the core that a host watches; nothing here prints.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { RunEvent, RunEventBody } from "../protocol/events.ts";
import { UserError } from "../protocol/userError.ts";
import { adapterOf } from "./adapterParameters.ts";
import { attachRunAdapter, initialiseAdapter } from "./adapterRun.ts";
import { requireSame, writeRunResult } from "./checkpointing.ts";
import { DeviceLostError } from "./devices/deviceLost.ts";
import { pauseWhileDiskFull } from "./diskPause.ts";
import { type Checkpoint, findCheckpoint, pruneCheckpoints } from "./files/checkpoint.ts";
import { EventLog } from "./files/eventLog.ts";
import { openModelFolder } from "./files/modelFolder.ts";
import { log, sweepRunFolder } from "./files/runFolder.ts";
import { lockRun } from "./files/runLock.ts";
import { trainedParameters } from "./methods/targets.ts";
import { type CheckedRun, openRun } from "./prepare.ts";
import { attachFull, chooseBlocks, hasWarmedBase, type Run } from "./run.ts";
import { baseSparsity } from "./sparsity.ts";
import { type Emit, evaluate, type RunControl, save, train, withoutMemory } from "./trainer.ts";

export interface SessionOptions {
  /** Sees every event after it was written. */
  onEvent(event: RunEvent): void;
  /** True when the run shall save and stop at the next step boundary. */
  stopRequested(): boolean;
  /** Told once a pause why the run waits: the disk is full, and so the event log too. */
  onWaiting(reason: string): void;
  /** Null for a new run; else whether changed inputs are accepted. */
  resume: { acceptChanges: boolean } | null;
  /** Called with the open run before the device is closed, when it is done; the demo looks at the model here. */
  onDone?(run: Run): Promise<void>;
  /** Called with the open run before its first step. */
  onOpen?(run: Run, emit: Emit): Promise<void>;
  /** Called when the run is this process's alone, before its event log is opened. */
  onLocked?(): Promise<void>;
  /** Awaited at every step boundary, of warm-ups too, before `stopRequested` is asked: the run waits in here while it is paused. */
  atBoundary?(control: RunControl): Promise<void>;
  scored?: RunControl["scored"];
  selected?: RunControl["selected"];
}

const retryMs = 2000;

/** Works on the run until it is done or stopped. Throws UserError; the run folder then says how far it came. */
export async function runSession(checked: CheckedRun, runFolder: string, options: SessionOptions): Promise<"done" | "stopped"> {
  try {
    const lock = await lockRun(runFolder);
    try {
      await options.onLocked?.();
      return await withJournal(checked, runFolder, options);
    } finally {
      await lock.release();
    }
  } finally {
    await checked.base.close();
  }
}

async function withJournal(checked: CheckedRun, runFolder: string, options: SessionOptions): Promise<"done" | "stopped"> {
  const journal = new Journal(await EventLog.open(runFolder), options.onEvent);
  try {
    return await work(checked, runFolder, options, journal);
  } catch (error) {
    await log(runFolder, error instanceof Error ? (error.stack ?? error.message) : String(error));
    try {
      journal.emit(failure(error));
    } catch {
      // The event log itself is what failed: the first error is the one to tell.
    }
    throw error;
  } finally {
    journal.close();
  }
}

/** The event of an error that ends the run; what no sentence was written for is a bug, and its trace stands in the log. */
function failure(error: unknown): RunEventBody {
  if (error instanceof UserError) return { kind: "failed", code: error.code, message: error.message, action: error.action };
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "failed", code: "internal", message, action: "Look into log.txt of the run folder, and resume the run." };
}

/** A device that is lost is opened again once, and the run goes on from its newest checkpoint, as it would when it is resumed. */
async function work(checked: CheckedRun, runFolder: string, options: SessionOptions, journal: Journal): Promise<"done" | "stopped"> {
  const control = controlOf(options, journal);
  await sweepRunFolder(runFolder);
  const first = await workUntilLost(checked, runFolder, options, journal, control, options.resume !== null);
  if (!(first instanceof DeviceLostError)) return first;
  await log(runFolder, first.message);
  journal.emit({ kind: "notice", code: first.code, message: `${first.message} It is opened again, and the run goes on from its newest checkpoint.` });
  checked.base = await openModelFolder(checked.config.model);
  const second = await workUntilLost(checked, runFolder, options, journal, control, true);
  if (!(second instanceof DeviceLostError)) return second;
  throw new UserError(
    second.code,
    `${second.message} It had been lost and opened again before: the run stops, and its newest checkpoint is kept.`,
    "Resume the run when the card's driver is in order, or set device: cpu and resume.",
    { badInput: false, cause: second },
  );
}

/** From the newest checkpoint, or the start, to the end; the error of a lost device is returned. */
async function workUntilLost(
  checked: CheckedRun,
  runFolder: string,
  options: SessionOptions,
  { emit }: Journal,
  control: RunControl,
  resumed: boolean,
): Promise<"done" | "stopped" | DeviceLostError> {
  try {
    const checkpoint = await newestCheckpoint(checked, runFolder, options, emit);
    const run = await openRun(checked, runFolder, checkpoint, emit);
    try {
      if (resumed) emit({ kind: "resumed", fromStep: checkpoint?.step ?? -1 });
      return await workOn(run, checked, options, checkpoint !== null, emit, control);
    } finally {
      run.device.close();
      await run.base.close();
    }
  } catch (error) {
    if (error instanceof DeviceLostError) return error;
    throw error;
  }
}

/** Null at the start. What is damaged is set aside and said. */
async function newestCheckpoint(checked: CheckedRun, runFolder: string, options: SessionOptions, emit: Emit): Promise<Checkpoint | null> {
  const { checkpoint, damaged } = await findCheckpoint(runFolder);
  await pruneCheckpoints(runFolder, checked.config.checkpoint);
  for (const { step, folder, reason } of damaged)
    emit({
      kind: "notice",
      code: "run/damaged-checkpoint",
      message: `The checkpoint of step ${step} is damaged (${reason}) and was set aside as ${folder}.`,
    });
  if (checkpoint) await requireSame(checkpoint, checked.hashes, options.resume?.acceptChanges ?? false, emit);
  return checkpoint;
}

async function workOn(
  run: Run,
  checked: CheckedRun,
  options: SessionOptions,
  begun: boolean,
  emit: Emit,
  control: RunControl,
): Promise<"done" | "stopped"> {
  announce(run, checked, emit);
  await options.onOpen?.(run, emit);
  const begin = () =>
    prepareFirstUpdate(run, checked, emit, control).catch((error) => {
      throw withoutMemory(run, error, "Nothing was trained yet.");
    });
  if (!begun && !(await begin())) {
    const again = run.smt ? "the warm-up will be done again" : "what comes before it will be done again";
    emit({ kind: "stopped", step: 0, reason: `asked to stop before the first update; ${again}` });
    return "stopped";
  }
  const ended = await train(run, emit, control);
  if (ended !== "done") return ended;
  await pauseWhileDiskFull(run, emit, control, "the run's result", () => writeRunResult(run));
  await options.onDone?.(run);
  emit({ kind: "done", run: run.folder, step: run.state.step });
  return (await control.eventsWritten()) ? ended : "stopped";
}

/** First evaluation, warm-up and selection or an adapter's start, and the checkpoint that keeps a resume from doing them again. False when it was stopped. */
async function prepareFirstUpdate(run: Run, checked: CheckedRun, emit: Emit, control: RunControl): Promise<boolean> {
  const adapter = adapterOf(run.config.method);
  if (adapter) attachRunAdapter(run, adapter);
  if (run.meter) emit(baseSparsity(run.meter));
  if (run.evaluation.length > 0) await evaluate(run, emit);
  if (adapter) {
    if (!(await initialiseAdapter(run, adapter, emit, control))) return false;
  } else if (run.smt) {
    if (!(await chooseBlocks(run, emit, control, checked.selection))) return false;
    // A warm-up that trained goes on where it ended; one that only looked leaves its data to the training.
    if (hasWarmedBase(run.config)) run.state.nextBatch = run.smt.warmup.steps * run.config.train.gradientAccumulation;
  } else attachFull(run);
  await save(run, emit, control);
  return true;
}

function announce(run: Run, checked: CheckedRun, emit: Emit): void {
  const { data, config } = checked;
  emit({
    kind: "started",
    run: run.folder,
    method: config.method.name,
    device: run.device.description,
    trainRows: data.trainRows,
    skippedRows: data.skippedRows,
    totalSteps: run.totalSteps,
    warmupSteps: checked.selection ? 0 : (run.smt?.warmup.steps ?? 0),
    trainTokens: data.train.tokenCount,
  });
  const adapter = adapterOf(config.method);
  if (adapter) emit({ kind: "adapters", ...trainedParameters(adapter, run.base.config) });
  for (const { code, message } of [...data.notices, ...checked.notices]) emit({ kind: "notice", code, message });
  for (const name of run.base.unexpected.slice(0, 20))
    emit({ kind: "notice", code: "model/unused-tensor", message: `The model folder holds ${name}, which the model does not use.` });
}

function controlOf(options: SessionOptions, journal: Journal): RunControl {
  // Nothing is lost: events that did not fit on the disk wait in memory, and the run with them.
  const eventsWritten = async () => {
    for (let waited = false; !journal.flush(); waited = true) {
      if (!waited) options.onWaiting("The disk is full: the run waits until its events can be written.");
      await delay(retryMs);
      if (options.stopRequested()) return journal.flush();
    }
    return true;
  };
  const control: RunControl = {
    scored: options.scored,
    selected: options.selected,
    async stopRequested() {
      await options.atBoundary?.(control);
      return options.stopRequested() || !(await eventsWritten());
    },
    eventsWritten,
    async waitForSpace(reason, first) {
      if (first) options.onWaiting(reason);
      await delay(retryMs);
      return !options.stopRequested();
    },
  };
  return control;
}

/** The event log, with what could not be written kept until it can. */
class Journal {
  readonly #log: EventLog;
  readonly #onEvent: (event: RunEvent) => void;
  readonly #waiting: { body: RunEventBody; timeMs: number }[] = [];

  constructor(eventLog: EventLog, onEvent: (event: RunEvent) => void) {
    this.#log = eventLog;
    this.#onEvent = onEvent;
  }

  readonly emit: Emit = (body) => {
    this.#waiting.push({ body, timeMs: Date.now() });
    this.flush();
  };

  /** Writes what waits; false when the disk is full. */
  flush(): boolean {
    while (this.#waiting.length > 0) {
      const { body, timeMs } = this.#waiting[0];
      try {
        this.#onEvent(this.#log.append(body, timeMs));
      } catch (error) {
        if (error instanceof UserError && error.code === "run/disk-full") return false;
        throw error;
      }
      this.#waiting.shift();
    }
    return true;
  }

  close(): void {
    this.flush();
    this.#log.close();
  }
}
