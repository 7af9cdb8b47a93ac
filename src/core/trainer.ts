/**
 * The training loop, on one page. It knows steps, not processes: what it reports goes through `emit`, what it is asked comes through `control`,
 * both at step boundaries only. The rule to keep: everything the next step depends on is in `run.state`, the method's parameters and the weights,
 * so that a checkpoint holds it all and a resumed run goes on bit for bit.
 */
import type { RunEventBody } from "../protocol/events.ts";
import type { Selection } from "../protocol/selection.ts";
import { UserError } from "../protocol/userError.ts";
import { saveRunCheckpoint } from "./checkpointing.ts";
import { pauseWhileDiskFull } from "./diskPause.ts";
import { cheapestChange } from "./fitting.ts";
import { Frozen } from "./methods/frozen.ts";
import type { TuningMethod } from "./methods/method.ts";
import type { ScoreGrid } from "./methods/smt/selection.ts";
import { runBatch } from "./model/llama.ts";
import { learningRateAt } from "./optim/schedule.ts";
import { gradientNorm, updateParameters, zeroGradients } from "./optim/update.ts";
import { chooseBlocks, type Run } from "./run.ts";
import type { ScoreReader } from "./smtRun.ts";
import { measureSparsity } from "./sparsity.ts";

export type Emit = (event: RunEventBody) => void;

/** How a run is steered from outside. */
export interface RunControl {
  /** Asked at every step boundary; resolves when the run may go on (a pause ends here), true when it shall save and stop. */
  stopRequested(): Promise<boolean>;
  /** Waits a moment before a failed save is tried again; false when the run shall end instead. `first` tells the first wait of a pause. */
  waitForSpace(reason: string, first: boolean): Promise<boolean>;
  /** Resolves when every event so far is on the disk; false when the run was asked to stop while it waited for room. */
  eventsWritten(): Promise<boolean>;
  /** Shown every warm-up step. */
  scored?(at: ScoredStep, grids: ScoreReader): Promise<void>;
  /** Shown every choice of blocks, with the scores behind it; null where a file chose. */
  selected?(selection: Selection, grids: ScoreGrid[] | null): void;
}

/** A step of a warm-up that began after update `afterStep`. */
export interface ScoredStep {
  step: number;
  afterStep: number;
}

/** What the loop carries from step to step besides tensors; JSON, part of every checkpoint. */
export interface TrainerState {
  /** Updates done (skipped ones included). */
  step: number;
  /** Updates that changed the parameters since they were chosen; AdamW's t. */
  updates: number;
  /** Global index of the next micro-batch. */
  nextBatch: number;
  skippedInRow: number;
  skipped: number;
  /** Step after which blocks were chosen last. */
  lastSelection: number;
  bestEvaluation: { step: number; loss: number } | null;
  evaluationsWithoutGain: number;
  /** What was to be measured after `step` found no memory: it is done when the run goes on. */
  measurePending?: true;
}

const skipsBeforeStop = 5;

/** Trains from `run.state` to the end or until it is stopped. The device and the run's files stay open. */
export async function train(run: Run, emit: Emit, control: RunControl): Promise<"done" | "stopped"> {
  const { device, config, state } = run;
  const { gradientAccumulation } = config.train;
  const endWithout = (what: string) => (error: unknown) => endWithoutMemory(run, emit, control, error, what);
  if (state.measurePending) await measureAndSave(run, emit, control);
  while (state.step < run.totalSteps) {
    if (await control.stopRequested()) return stop(run, emit, control, "asked to stop");
    if (selectionDue(run)) {
      const chosen = await chooseBlocks(run, emit, control).catch(endWithout(`Choosing blocks anew after step ${state.step} was broken off`));
      if (!chosen) return stop(run, emit, control, "asked to stop while choosing blocks anew");
    }
    const began = performance.now();
    const method = run.method as TuningMethod;
    const step = state.step + 1;
    const { loss, gradNorm, tokens } = await computeGradients(run, method, step).catch(endWithout(`Step ${step} changed nothing`));
    const milliseconds = performance.now() - began; // the last update's time is in it, this one's in the next
    const learningRate = learningRateAt(step, { ...config.train, steps: run.scheduledSteps }, state.lastSelection);
    const finite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    if (finite) {
      updateParameters(device, method.parameters, gradNorm, learningRate, ++state.updates, config.train);
      method.afterUpdate();
    }
    run.holdsGradients = finite;
    state.step = step;
    state.nextBatch += gradientAccumulation;
    state.skippedInRow = finite ? 0 : state.skippedInRow + 1;
    if (finite) emit({ kind: "step", step, loss, learningRate, gradNorm, tokensPerSecond: (1000 * tokens) / milliseconds });
    else skipUpdate(run, emit, step, loss, gradNorm);
    emitMemory(run, emit, step);
    await measureAndSave(run, emit, control);
  }
  return "done";
}

/** What comes between two updates, where it is due: zeros, held-out loss, a checkpoint. Early stopping shortens the run here. */
async function measureAndSave(run: Run, emit: Emit, control: RunControl): Promise<void> {
  const { state, config } = run;
  if (state.step === run.totalSteps || dueAt(state.step, config.evaluate.every)) {
    state.measurePending = true;
    const measured = await measure(run).catch((error) =>
      endWithoutMemory(run, emit, control, error, `Measuring after step ${state.step} was broken off`),
    );
    delete state.measurePending;
    for (const event of measured) emit(event);
  }
  if (dueAt(state.step, config.checkpoint.every) || state.step === run.totalSteps) await save(run, emit, control);
}

/** Changes no weight. What it found is told when all of it is there, so that nothing is told twice if it has to be done again. */
async function measure(run: Run): Promise<RunEventBody[]> {
  const events: RunEventBody[] = [];
  if (run.meter) events.push(await measureSparsity(run, run.meter));
  if (run.evaluation.length > 0 && (await evaluate(run, (event) => events.push(event)))) {
    const message = `Held-out loss has not improved for ${run.config.evaluate.earlyStopping} evaluations: the run ends at step ${run.state.step}.`;
    events.push({ kind: "notice", code: "run/early-stop", message });
    run.totalSteps = run.state.step;
  }
  return events;
}

/** Forward and backward of an update's micro-batches. What fails on the device is thrown here, before the update. */
async function computeGradients(run: Run, method: TuningMethod, step: number): Promise<{ loss: number; gradNorm: number; tokens: number }> {
  const { device, model, batches, state, config } = run;
  const micro = Array.from({ length: config.train.gradientAccumulation }, (_, i) => batches.batch(state.nextBatch + i));
  const targets = micro.reduce((sum, batch) => sum + batch.unmaskedTokens, 0);
  run.holdsGradients = false;
  zeroGradients(device, method.parameters);
  let lossSum = 0;
  for (const [i, batch] of micro.entries()) {
    method.beginBatch?.({ step, batch: state.nextBatch + i });
    lossSum += await runBatch(model, method, batch, 1 / targets);
  }
  const gradNorm = await gradientNorm(device, method.parameters);
  return { loss: lossSum / targets, gradNorm, tokens: micro.reduce((sum, batch) => sum + batch.tokens, 0) };
}

/**
 * Ends a run whose device had no memory left between two updates: what there is, is saved. `what` was not done, as the beginning of a sentence. Where blocks
 * were given back and new ones found no room, there is no method, and an older checkpoint is the newest one.
 */
async function endWithoutMemory(run: Run, emit: Emit, control: RunControl, error: unknown, what: string): Promise<never> {
  if (isOutOfMemory(error) && run.method) await save(run, emit, control).catch(() => {}); // an older checkpoint stays
  throw withoutMemory(run, error, `${what}; the newest checkpoint is ${run.lastCheckpoint ?? "none yet"}.`);
}

const isOutOfMemory = (error: unknown): error is UserError => error instanceof UserError && error.code === "device/out-of-memory";

/** The error to end with: where a device had no memory, with a sentence about what became of the run and with what to lower; any other is left alone. */
export function withoutMemory({ config, device }: Run, error: unknown, became: string): unknown {
  if (!isOutOfMemory(error)) return error;
  const action = `${cheapestChange(config, device.ledger)} Or end what else uses that memory, and resume.`;
  return new UserError(error.code, `${error.message} ${became}`, action, { badInput: false, cause: error });
}

/** New blocks are chosen before the next update, after what the last one left was saved: a stop in between loses nothing. */
function selectionDue({ smt, state }: Run): boolean {
  return state.step > state.lastSelection && dueAt(state.step, smt?.reselectEvery ?? null);
}

function dueAt(step: number, every: number | null): boolean {
  return every !== null && step % every === 0;
}

/** Mean held-out loss; remembers the best. True when the run should stop early. */
export async function evaluate(run: Run, emit: Emit): Promise<boolean> {
  const { model, device, evaluation, state, config } = run;
  const method: TuningMethod = run.method ?? new Frozen(device);
  method.beginBatch?.(null);
  let lossSum = 0;
  let tokens = 0;
  for (const batch of evaluation) {
    lossSum += await runBatch(model, method, batch, null);
    tokens += batch.unmaskedTokens;
  }
  const loss = lossSum / tokens;
  if (Number.isFinite(loss)) emit({ kind: "evaluation", step: state.step, loss, tokens });
  else emit({ kind: "notice", code: "run/evaluation-not-finite", message: `The held-out loss after ${state.step} updates is ${loss}.` });
  const better = Number.isFinite(loss) && (state.bestEvaluation === null || loss < state.bestEvaluation.loss);
  if (better) state.bestEvaluation = { step: state.step, loss };
  state.evaluationsWithoutGain = better ? 0 : state.evaluationsWithoutGain + 1;
  return config.evaluate.earlyStopping !== null && state.evaluationsWithoutGain >= config.evaluate.earlyStopping;
}

/** Counts and shows an update that NaN or infinity made impossible; ends the run after several in a row. */
function skipUpdate(run: Run, emit: Emit, step: number, loss: number, gradNorm: number): void {
  run.state.skipped++;
  const reason = Number.isFinite(loss) ? `the gradient's norm is ${gradNorm}` : `the loss is ${loss}`;
  emit({ kind: "skipped", step, reason });
  if (run.state.skippedInRow >= skipsBeforeStop)
    throw new UserError(
      "run/not-finite",
      `${skipsBeforeStop} updates in a row were skipped because ${reason}; the last good checkpoint is ${run.lastCheckpoint ?? "the start"}.`,
      "Lower train.learningRate or set train.precision to f32, then resume or start again.",
      { badInput: false },
    );
}

/** Saves a checkpoint; while the disk is full the run is paused, not lost. */
export async function save(run: Run, emit: Emit, control: RunControl): Promise<void> {
  run.lastCheckpoint = await pauseWhileDiskFull(run, emit, control, "the checkpoint", () => saveRunCheckpoint(run));
  emit({ kind: "checkpoint", step: run.state.step, folder: run.lastCheckpoint });
}

async function stop(run: Run, emit: Emit, control: RunControl, reason: string): Promise<"stopped"> {
  await save(run, emit, control);
  emit({ kind: "stopped", step: run.state.step, reason });
  return "stopped";
}

/** The ledger, when its peak moved and every tenth step, with what the operating system counts for the process. */
function emitMemory(run: Run, emit: Emit, step: number): void {
  const { ledger } = run.device;
  if (ledger.peakBytes === run.reportedPeakBytes && step % 10 !== 0) return;
  run.reportedPeakBytes = ledger.peakBytes;
  emit({ kind: "memory", step, bytesByClass: ledger.peakBytesByClass, peakBytes: ledger.peakBytes, processBytes: process.memoryUsage.rss() });
}
