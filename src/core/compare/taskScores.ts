/**
 * Scores runs of a comparison on its test set, with the code of `evaluate --task`. The set is read once; a model is opened for each score and closed after it.
 * The rules to keep: every score of a comparison has the same questions, which the id of the plan's task stands for; what could not be scored says why.
 */
import { createHash } from "node:crypto";
import type { CompareConfig } from "../../protocol/compareConfig.ts";
import type { PlanLine, ScoreLine } from "../../protocol/compareResults.ts";
import { hashFile } from "../files/fileHash.ts";
import { openModel } from "../inference.ts";
import { defaultScoring, evaluatePrepared, type PreparedTask, prepareTask } from "../tasks/evaluateTask.ts";

export type TaskConfig = NonNullable<CompareConfig["task"]>;

export interface ScoreWatcher {
  /** Questions that were answered. */
  onProgress(done: number, of: number): void;
  stopRequested(): boolean;
}

/** Reads the test set. Throws UserError `task/…` or `data/…`. */
export function prepare({ name, data, rows, scoring, batchSize }: TaskConfig): Promise<PreparedTask> {
  return prepareTask({ task: name, data, rows, batchSize, scoring: scoring === "auto" ? defaultScoring(name) : scoring });
}

export class TaskScores {
  readonly #config: CompareConfig;
  readonly #task: PreparedTask;
  /** What stands in the plan. */
  readonly planned: NonNullable<PlanLine["task"]>;

  private constructor(config: CompareConfig, task: PreparedTask, planned: NonNullable<PlanLine["task"]>) {
    this.#config = config;
    this.#task = task;
    this.planned = planned;
  }

  /** Null for a comparison without a test set. */
  static async open(config: CompareConfig): Promise<TaskScores | null> {
    if (!config.task) return null;
    const prepared = await prepare(config.task);
    const { task, options, rows } = prepared;
    const { name, title } = task;
    const identity = [name, await hashFile(rows.file), options.rows, options.scoring, config.train.precision];
    const id = createHash("sha256").update(JSON.stringify(identity)).digest("hex").slice(0, 16);
    return new TaskScores(config, prepared, { id, name, title, file: rows.file, scoring: options.scoring });
  }

  /** The score of a run's folder, or of the base model where it is null; `run` is its name. Null when it was stopped. */
  async score(run: string, folder: string | null, watcher: ScoreWatcher): Promise<ScoreLine | null> {
    const startedMs = performance.now();
    const line = { kind: "score" as const, timeMs: Date.now(), run, task: this.planned.id };
    const ended = () => ({ timeMs: Date.now(), seconds: (performance.now() - startedMs) / 1000 });
    try {
      const result = await this.#evaluate(folder, watcher);
      if (!result) return null;
      const { accuracy, correct, total, majorityFloor, notes } = result;
      return { ...line, ...ended(), accuracy, correct, total, majorityFloor, notes: notes.slice(0, 20).map(cut), message: "" };
    } catch (error) {
      const message = cut(error instanceof Error ? error.message : String(error));
      return { ...line, ...ended(), accuracy: null, correct: 0, total: 0, majorityFloor: null, notes: [], message };
    }
  }

  /** Null when it was stopped. */
  async #evaluate(folder: string | null, { onProgress, stopRequested }: ScoreWatcher) {
    const { model, device, threads, train } = this.#config;
    const opened = await openModel(folder ?? model, { device, threads, positions: 1, precision: train.precision });
    const given = new AbortController();
    const progress = (done: number, of: number) => {
      onProgress(done, of);
      if (stopRequested()) given.abort();
    };
    try {
      return await evaluatePrepared(opened, this.#task, progress, given.signal);
    } catch (error) {
      if (given.signal.aborted) return null;
      throw error;
    } finally {
      opened.close();
    }
  }
}

function cut(text: string): string {
  return text.slice(0, 10_000);
}
