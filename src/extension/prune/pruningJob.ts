/**
 * One pruning of this window while it runs: asked of the service, followed, cancelled. Plain Node, no VS Code. The report of an earlier pruning has the same
 * shape, so that a view shows both.
 * The rule to keep: what it has become stays what it is; cancelled or failed, there is no pruned model.
 */
import path from "node:path";
import type { Failure } from "../../protocol/panelProtocol.ts";
import type { PruneView } from "../../protocol/prunePanelProtocol.ts";
import type { PruningProgress, PruningReport } from "../../protocol/pruning.ts";
import type { ServiceParams } from "../../protocol/serviceProtocol.ts";
import type { ServiceClient } from "../service/serviceClient.ts";

export type PruneRequest = Omit<ServiceParams["prune"], "stream">;

/** Told what happens. */
export interface PruneListener {
  onProgress(progress: PruningProgress): void;
  onNotes(notes: string[]): void;
  onEnded(view: PruneView): void;
}

/** What a view shows: a pruning that runs or has ended. */
export interface PruneSubject {
  readonly view: PruneView;
  /** The base's folder; null where only its name is known. */
  readonly model: string | null;
  listen(listener: PruneListener): { dispose(): void };
  cancel(): void;
}

export interface JobParts {
  service: Pick<ServiceClient, "prune">;
  /** An error as people see it. */
  explain(error: unknown): Failure;
}

export class PruningJob implements PruneSubject {
  readonly model: string;
  /** Resolves when it has ended, however it did. */
  readonly ended: Promise<PruneView>;
  #view: PruneView;
  readonly #listeners = new Set<PruneListener>();
  readonly #controller = new AbortController();

  /** Begins at once. `base` is what the model is called. */
  constructor(request: PruneRequest, base: string, parts: JobParts) {
    const { model, method, pattern, grouping, permute, calibration, samples, to } = request;
    this.model = model;
    this.#view = {
      state: "running",
      base,
      method,
      pattern,
      grouping,
      permuted: permute,
      calibration: calibration === null ? null : { file: path.basename(calibration), samples, tokens: null },
      folder: to,
      progress: null,
      matrices: [],
      total: null,
      failure: null,
      notes: [],
    };
    this.ended = this.#run(request, parts);
  }

  get view(): PruneView {
    return this.#view;
  }

  listen(listener: PruneListener): { dispose(): void } {
    this.#listeners.add(listener);
    return { dispose: () => void this.#listeners.delete(listener) };
  }

  /** Ends it; nothing is written then. */
  cancel(): void {
    this.#controller.abort();
  }

  async #run(request: PruneRequest, { service, explain }: JobParts): Promise<PruneView> {
    const { signal } = this.#controller;
    try {
      const listener = {
        onProgress: (progress: PruningProgress) => this.#onProgress(progress),
        onNotes: (notes: readonly string[]) => this.#onNotes(notes),
      };
      const report = await service.prune(request, listener, { signal });
      this.#view = {
        ...reportView(report, this.#view.folder),
        state: "done",
        base: this.#view.base,
        progress: this.#view.progress,
        notes: this.#view.notes,
      };
    } catch (error) {
      this.#view = signal.aborted ? { ...this.#view, state: "cancelled" } : { ...this.#view, state: "failed", failure: explain(error) };
    }
    for (const { onEnded } of this.#listeners) onEnded(this.#view);
    return this.#view;
  }

  #onNotes(notes: readonly string[]): void {
    if (this.#view.state !== "running") return;
    this.#view = { ...this.#view, notes: [...this.#view.notes, ...notes] };
    for (const { onNotes } of this.#listeners) onNotes(this.#view.notes);
  }

  #onProgress(progress: PruningProgress): void {
    // What the service said before it heard that nobody waits any more.
    if (this.#view.state !== "running") return;
    const { finished, ...where } = progress;
    this.#view = { ...this.#view, progress: where, matrices: finished.length > 0 ? [...this.#view.matrices, ...finished] : this.#view.matrices };
    for (const { onProgress } of this.#listeners) onProgress(progress);
  }
}

/** An earlier pruning, as its report says. */
export function reportView(report: PruningReport, folder: string): PruneView {
  const { base, method, pattern, grouping = null, permuted = false, calibration, matrices, zeros, entries } = report;
  return {
    state: "report",
    base,
    method,
    pattern,
    grouping,
    permuted,
    calibration: calibration && { file: calibration.file, samples: calibration.samples, tokens: calibration.tokens },
    folder,
    progress: null,
    matrices,
    total: { zeros, entries },
    failure: null,
    notes: [],
  };
}

/** A report to look at: nothing happens to it any more. */
export function reportSubject(report: PruningReport, folder: string): PruneSubject {
  return { view: reportView(report, folder), model: null, listen: () => ({ dispose: () => undefined }), cancel: () => undefined };
}
