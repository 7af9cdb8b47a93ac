/**
 * A comparison from its folder: checked, then run after run through the same session as `train`, each in a run folder of its own, until all are done or it is
 * stopped. Nothing here prints.
 * The rules to keep: everything that can be refused is refused before the first run; one process at a time works on a comparison; it can be killed at any
 * moment, and goes on with the run it was in.
 */
import { existsSync } from "node:fs";
import { mkdir, realpath, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type CompareConfig, configOfRun, labelOf, methodOf, parseCompareFile, stringifyCompareConfig } from "../../protocol/compareConfig.ts";
import { type ComparisonLine, comparisonFiles, type PlanLine } from "../../protocol/compareResults.ts";
import { allRuns, type ComparedRun, type ComparisonSummary, summarise, untrained } from "../../protocol/compareSummary.ts";
import type { RunEvent } from "../../protocol/events.ts";
import { isSelectionFile, type MethodConfig } from "../../protocol/runConfig.ts";
import { parseSelection, type Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { syncFolder } from "../files/durableFile.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import { createRunFolder, log, sweepRunFolder } from "../files/runFolder.ts";
import { lockRun, processStart } from "../files/runLock.ts";
import { readText } from "../files/textFile.ts";
import { type Registration, registerComparison } from "../host/register.ts";
import { checkMethod, checkRun } from "../prepare.ts";
import { pointsOf, type SizedMethod } from "./budgets.ts";
import { ComparedRuns } from "./comparedRuns.ts";
import { methodSizes } from "./methodSizes.ts";
import { writeOutputs } from "./outputs.ts";
import { ProgressFile } from "./progress.ts";
import { nextWork, workName } from "./queue.ts";
import { ResultLog } from "./results.ts";
import { prepare, TaskScores } from "./taskScores.ts";

export interface ComparisonOptions {
  /** Sees every line after it was written. */
  onLine(line: ComparisonLine, summary: ComparisonSummary): void;
  /** Told before each run, and each of its events. */
  onRun(run: ComparedRun, summary: ComparisonSummary): void;
  onEvent(run: ComparedRun, event: RunEvent): void;
  /** Questions of the task that were answered, by a run or, where it is null, the untrained model. */
  onScoring(run: ComparedRun | null, done: number, of: number, summary: ComparisonSummary): void;
  onWaiting(reason: string): void;
  /** True when it shall save and stop at the next step boundary. */
  stopRequested(): boolean;
}

/** A comparison that can be run: its points in order, each with the method that is run there. */
export interface CheckedComparison {
  config: CompareConfig;
  points: SizedMethod[];
}

/** Checks a comparison against its model and its test set, without weights or training data. Throws the UserError that one of its runs would be refused with. */
export async function checkComparison(config: CompareConfig): Promise<CheckedComparison> {
  const { config: model } = await openModelConfig(config.model);
  const named = config.methods.map((method) => ({ label: labelOf(method), method: methodOf(method) }));
  const points = pointsOf(named, config.budgets, methodSizes(model, await givenSelections(named)));
  for (const { method } of points) await checkMethod(runConfigOf(config, method), model);
  if (config.task) await prepare(config.task);
  return { config, points };
}

/** The selection files that methods name, by path. */
async function givenSelections(named: readonly { method: MethodConfig }[]): Promise<Map<string, Selection>> {
  const given = new Map<string, Selection>();
  for (const { method } of named)
    if (method.name === "smt" && isSelectionFile(method.selection))
      given.set(method.selection, parseSelection(await readText(method.selection), method.selection));
  return given;
}

function runConfigOf(config: CompareConfig, method: MethodConfig) {
  return configOfRun(config, method, { learningRate: config.learningRates[0], seed: config.seeds[0] }, config.output);
}

/** Creates `<output>/<time>-<name>/` with compare.yaml as resolved in it, and returns its path. What only the data can be refused for is refused before. */
export async function createComparison({ config, points }: CheckedComparison, name: string, now = new Date()): Promise<string> {
  const { base } = await checkRun(runConfigOf(config, points[0].method));
  await base.close();
  return createRunFolder(config.output, name, stringifyCompareConfig(config), now, comparisonFiles.config);
}

/** `plateau` for `…/plateau.sparse-tuner-compare.yaml`. */
export function comparisonNameOf(file: string): string {
  return path.basename(file).replace(/(\.sparse-tuner-compare)?\.ya?ml$/, "");
}

/** Whether a path is a comparison folder. */
export function isComparisonFolder(folder: string): boolean {
  return existsSync(path.join(folder, comparisonFiles.config));
}

/** Reads the comparison of a folder, and checks it. Throws UserError. */
export async function openComparison(folder: string): Promise<CheckedComparison> {
  if (!isComparisonFolder(folder))
    throw new UserError(
      "compare/no-comparison",
      `${folder} is no comparison folder: it has no ${comparisonFiles.config}.`,
      "Give a folder under .sparse-tuner/comparisons, or a comparison's file.",
    );
  const file = path.join(folder, comparisonFiles.config);
  return checkComparison(parseCompareFile(await readText(file), file));
}

/** Works on a comparison until it is done or stopped. Throws UserError; its folder then says how far it came. */
export async function runComparison(folder: string, checked: CheckedComparison, options: ComparisonOptions): Promise<"done" | "stopped"> {
  const lock = await lockRun(folder);
  const registration = await registered(folder);
  try {
    await rm(path.join(folder, comparisonFiles.stop), { force: true });
    await sweepRunFolder(folder);
    await mkdir(path.join(folder, comparisonFiles.runs), { recursive: true });
    await syncFolder(folder);
    const results = new ResultLog(folder);
    try {
      return await new Session(folder, checked, results, options).work();
    } finally {
      results.close();
    }
  } finally {
    await lock.release();
    await registration?.release();
  }
}

/** Enters the register, by which windows find it; without one it works all the same. */
async function registered(folder: string): Promise<Registration | null> {
  const { pid } = process;
  const record = { runFolder: await realpath(folder), pid, host: os.hostname(), processStart: await processStart(pid), startedMs: Date.now() };
  return registerComparison({ version: 1, ...record }).catch((error: unknown) => {
    void log(folder, `not in the register: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  });
}

class Session {
  readonly #folder: string;
  readonly #checked: CheckedComparison;
  readonly #log: ResultLog;
  readonly #options: ComparisonOptions;
  readonly #progress: ProgressFile;
  readonly #runs: ComparedRuns;

  constructor(folder: string, checked: CheckedComparison, log: ResultLog, options: ComparisonOptions) {
    this.#folder = folder;
    this.#checked = checked;
    this.#log = log;
    this.#options = options;
    this.#progress = new ProgressFile(folder);
    this.#runs = new ComparedRuns(folder, checked);
  }

  async work(): Promise<"done" | "stopped"> {
    try {
      const outcome = await this.#all();
      this.#end(outcome, "");
      return outcome;
    } catch (error) {
      this.#end("failed", error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  async #all(): Promise<"done" | "stopped"> {
    const known = summarise(this.#log.lines);
    this.#progress.open(known);
    const { base, data } = await this.#runs.hashes(known?.plan ?? null);
    const scores = await TaskScores.open(this.#checked.config);
    const plan = planOf(this.#checked, base, data, scores);
    if (!known || differs(known.plan, plan)) this.#append(plan);
    await this.#runs.requireUnchanged(this.#summary());
    const tried = new Set<string>();
    for (;;) {
      const summary = this.#summary();
      await this.#runs.dropCheckpoints(summary);
      await writeOutputs(this.#folder, summary);
      const work = nextWork(summary, tried);
      if (!work) return this.#concluded(summary);
      if (this.#stopRequested()) return "stopped";
      tried.add(workName(work));
      const line = work.kind === "train" ? await this.#train(work.run, summary) : await this.#score(work.run, summary, scores as TaskScores);
      if (!line) return "stopped";
      this.#append(line);
    }
  }

  #train(run: ComparedRun, summary: ComparisonSummary) {
    this.#options.onRun(run, summary);
    this.#progress.begin(run, summary);
    return this.#runs.work(run, {
      onEvent: (event) => {
        this.#progress.onEvent(event);
        this.#options.onEvent(run, event);
      },
      onWaiting: (reason) => {
        this.#progress.waiting(reason);
        this.#options.onWaiting(reason);
      },
      stopRequested: () => this.#stopRequested(),
    });
  }

  #score(run: ComparedRun | null, summary: ComparisonSummary, scores: TaskScores) {
    const name = run?.run ?? untrained;
    this.#progress.beginScore(name, scores.planned.title, summary);
    return scores.score(name, run && this.#runs.folderOf(run), {
      onProgress: (done, of) => {
        this.#progress.scored(done, of);
        this.#options.onScoring(run, done, of, summary);
      },
      stopRequested: () => this.#stopRequested(),
    });
  }

  /** Done, unless runs failed that may go well another time. */
  #concluded(summary: ComparisonSummary): "done" {
    const runs = summary.points.flatMap(allRuns);
    const failed = runs.flatMap(({ result }) => (result?.status === "failed" ? [result] : []));
    if (failed.length > 0) throw unfinished(`${failed.length === 1 ? "One run" : `${failed.length} runs`} failed`, failed[0]);
    const scores = this.#log.lines.flatMap((line) => (line.kind === "score" && line.task === summary.plan.task?.id ? [line] : []));
    const last = new Map(scores.map((score) => [score.run, score]));
    const unscored = [...last.values()].filter(({ accuracy }) => accuracy === null);
    if (unscored.length > 0) throw unfinished(`The task could not be scored for ${unscored.length} of ${last.size} models`, unscored[0]);
    return "done";
  }

  #summary(): ComparisonSummary {
    return summarise(this.#log.lines) as ComparisonSummary;
  }

  #append(line: ComparisonLine): void {
    this.#log.append(line);
    this.#options.onLine(line, this.#summary());
  }

  #stopRequested(): boolean {
    return this.#options.stopRequested() || existsSync(path.join(this.#folder, comparisonFiles.stop));
  }

  #end(outcome: "done" | "stopped" | "failed", message: string): void {
    const summary = summarise(this.#log.lines);
    const last = this.#log.lines.at(-1);
    const said = last?.kind === "ended" && last.outcome === outcome && last.message === message.slice(0, 10_000);
    if (!said) this.#log.append({ kind: "ended", timeMs: Date.now(), outcome, message: message.slice(0, 10_000) });
    this.#progress.end(outcome, summary, message);
  }
}

function unfinished(what: string, first: { run: string; message: string }): UserError {
  return new UserError(
    "compare/runs-failed",
    `${what}: ${first.run}: ${first.message}`,
    "Mend the cause and resume the comparison: only those runs are tried again.",
    { badInput: false },
  );
}

function planOf({ config, points }: CheckedComparison, base: string, data: string, scores: TaskScores | null): PlanLine {
  const { model, learningRates, seeds, train, criterion } = config;
  const plan = { model, base, data, steps: train.steps, points: points.map(({ point }) => point), learningRates, seeds };
  return { kind: "plan", timeMs: Date.now(), ...plan, ...(scores && { task: scores.planned, criterion }) };
}

function differs({ timeMs: _a, ...before }: PlanLine, { timeMs: _b, ...now }: PlanLine): boolean {
  return JSON.stringify(before) !== JSON.stringify(now);
}
