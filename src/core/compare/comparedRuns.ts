/**
 * The runs of a comparison: makes each one's run folder, does or resumes it through `runSession`, and reads what it has measured. Which run is next is
 * queue.ts' business.
 * The rule to keep: runs of one comparison have the same base model, data and settings, or the comparison ends with the name of what differs.
 */
import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { type CompareConfig, configOfRun } from "../../protocol/compareConfig.ts";
import { comparisonFiles, type PlanLine, type ResultLine } from "../../protocol/compareResults.ts";
import { allRuns, type ComparedRun, type ComparisonSummary, isFinal, isScored } from "../../protocol/compareSummary.ts";
import type { RunEvent } from "../../protocol/events.ts";
import { type MethodConfig, parseRunFile, type RunConfig, stringifyRunConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { checkpointsFolder } from "../files/checkpoint.ts";
import { replaceFile, syncFolder } from "../files/durableFile.ts";
import { readEvents } from "../files/eventLog.ts";
import { runFiles } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { checkRun } from "../prepare.ts";
import { runSession } from "../session.ts";
import type { SizedMethod } from "./budgets.ts";
import { measuresOf } from "./results.ts";

export interface RunWatcher {
  onEvent(event: RunEvent): void;
  onWaiting(reason: string): void;
  stopRequested(): boolean;
}

/** Failures that would meet the next run too. */
const fatal = ["run/disk-full", "run/cannot-write", "run/locked", "run/disk-too-small", "run/memory-too-small"];
/** What NaN or infinity ends a run with: it would do so again. */
const divergences = ["run/not-finite", "method/score-not-finite", "method/gradient-not-finite"];

export class ComparedRuns {
  readonly #folder: string;
  readonly #config: CompareConfig;
  readonly #points: readonly SizedMethod[];
  #hashes: { base: string; data: string } | null = null;

  constructor(folder: string, { config, points }: { config: CompareConfig; points: readonly SizedMethod[] }) {
    this.#folder = folder;
    this.#config = config;
    this.#points = points;
  }

  /** Hashes of base model and data, by checking the first run in full. Throws UserError `compare/changed` when they are not those of the plan. */
  async hashes(plan: PlanLine | null): Promise<{ base: string; data: string }> {
    const config = this.#configOf(this.#points[0].method, this.#config.learningRates[0], this.#config.seeds[0]);
    const { base, hashes } = await checkRun(config);
    await base.close();
    if (plan) requireSame(plan, hashes);
    this.#hashes = { base: hashes.base, data: hashes.data };
    return this.#hashes;
  }

  /** Throws UserError `compare/changed` when a run was begun with other settings than it would be begun with now. */
  async requireUnchanged({ points }: ComparisonSummary): Promise<void> {
    for (const point of points)
      for (const run of allRuns(point)) {
        const file = path.join(this.folderOf(run), runFiles.config);
        if (!existsSync(file)) continue;
        if (settingsIn(await readText(file), file) !== settingsIn(this.#textOf(run), file))
          throw new UserError(
            "compare/changed",
            `${run.run} was begun with other settings than ${comparisonFiles.config} says now.`,
            "Start a new comparison for other settings; methods, budgets, learning rates and seeds can be added to this one.",
          );
      }
  }

  folderOf({ run }: ComparedRun): string {
    return path.join(this.#folder, comparisonFiles.runs, run);
  }

  /** Does a run, or what is left of it; null when it was stopped. What keeps it from ending well is its result, unless it would meet every run. */
  async work(run: ComparedRun, watcher: RunWatcher): Promise<ResultLine | null> {
    const folder = this.folderOf(run);
    try {
      await this.#create(folder, run);
      const events = await readEvents(folder);
      if (!events.some(({ kind }) => kind === "done") && !(await this.#train(folder, events.length > 0, watcher))) return null;
      return await this.#resultOf(run, null);
    } catch (error) {
      if (error instanceof UserError && (fatal.includes(error.code) || error.code.startsWith("compare/"))) throw error;
      return this.#resultOf(run, error);
    }
  }

  async #create(folder: string, run: ComparedRun): Promise<void> {
    if (existsSync(path.join(folder, runFiles.config))) return;
    await mkdir(folder, { recursive: true });
    await replaceFile(path.join(folder, runFiles.config), [Buffer.from(this.#textOf(run))]);
    await syncFolder(path.dirname(folder));
  }

  /** False when it was stopped. */
  async #train(folder: string, begun: boolean, watcher: RunWatcher): Promise<boolean> {
    const file = path.join(folder, runFiles.config);
    const checked = await checkRun(parseRunFile(await readText(file), file), folder);
    try {
      if (this.#hashes) requireSame(this.#hashes, checked.hashes);
    } catch (error) {
      await checked.base.close();
      throw error;
    }
    return (await runSession(checked, folder, { ...watcher, resume: begun ? { acceptChanges: false } : null })) === "done";
  }

  async #resultOf(run: ComparedRun, error: unknown): Promise<ResultLine> {
    const { done, lossAfter, chosenParameters, ...measures } = await measuresOf(this.folderOf(run));
    const diverged = error instanceof UserError ? divergences.includes(error.code) : done && lossAfter === null;
    const message = error instanceof Error ? error.message : error === null ? "" : String(error);
    return {
      kind: "result",
      timeMs: Date.now(),
      run: run.run,
      point: run.point.id,
      learningRate: run.learningRate,
      seed: run.seed,
      status: diverged ? "diverged" : error === null ? "done" : "failed",
      steps: measures.steps,
      lossBefore: measures.lossBefore,
      lossAfter: error === null ? lossAfter : null,
      trainableParameters: chosenParameters ?? run.point.trainableParameters,
      peakBytes: measures.peakBytes,
      secondsPerStep: measures.secondsPerStep,
      seconds: measures.seconds,
      lostZeros: measures.lostZeros,
      message: diverged && message === "" ? "The held-out loss was no number in the end." : message.slice(0, 10_000),
    };
  }

  /** Takes away the checkpoints of finished runs that nobody wants to keep or still has to score. Their events, run files and results stay. */
  async dropCheckpoints({ points, task }: ComparisonSummary): Promise<void> {
    const { keepCheckpoints, criterion } = this.#config;
    if (keepCheckpoints === "all") return;
    for (const point of points) {
      const chosen = new Set(point.runs.map(({ run }) => run));
      for (const run of allRuns(point)) {
        const open = point.learningRate === null || chosen.has(run.run);
        const toScore = task !== null && run.result?.status === "done" && !isScored(run.score) && (open || criterion === "accuracy");
        if (isFinal(run.result) && !toScore && !(keepCheckpoints === "best" && open))
          await rm(checkpointsFolder(this.folderOf(run)), { recursive: true, force: true });
      }
    }
  }

  #textOf({ point, learningRate, seed }: ComparedRun): string {
    const sized = this.#points.find((candidate) => candidate.point.id === point.id);
    if (!sized) throw new Error(`the comparison has no point ${point.id}`);
    return stringifyRunConfig(this.#configOf(sized.method, learningRate, seed));
  }

  /** In the order of keys that a run file is read with, so that its hash is the run's. */
  #configOf(method: MethodConfig, learningRate: number, seed: number): RunConfig {
    const output = path.join(this.#folder, comparisonFiles.runs);
    const text = stringifyRunConfig(configOfRun(this.#config, method, { learningRate, seed }, output));
    return parseRunFile(text, path.join(this.#folder, runFiles.config));
  }
}

/** A run's configuration as text to compare; where its folder lies does not count. */
function settingsIn(text: string, file: string): string {
  return JSON.stringify({ ...parseRunFile(text, file), output: null });
}

function requireSame(before: { base: string; data: string }, now: { base: string; data: string }): void {
  for (const [key, what] of [
    ["base", "The base model"],
    ["data", "The data"],
  ] as const)
    if (before[key] !== now[key])
      throw new UserError(
        "compare/changed",
        `${what} is not what the comparison was begun with.`,
        "Restore it, or start a new comparison: results of different models or data cannot be compared.",
      );
}
