/**
 * How far a pruning is and how long it still takes, by the arithmetic it will have done: what runs through blocks, Hessians, sweeps, and the writing. It calls
 * back a few times a second at most, and loses no finished matrix between two calls.
 */
import type { PrunedMatrix, PruningProgress } from "../../protocol/pruning.ts";
import { type Linear, stageOf } from "../methods/method.ts";
import { type ModelConfig, type Projection, projectionShape, projections } from "../model/config.ts";
import { residualStages } from "./permuteModel.ts";
import { passesOf } from "./statistics.ts";

export interface WorkSettings {
  targets: ReadonlySet<string>;
  /** Calibration tokens, 0 without, and those whose Hessian is gathered. */
  tokens: number;
  hessianTokens: number;
  /** Whether weights are swept with an inverse Hessian. */
  sweeps: boolean;
  /** Whether an order of channels is looked for, and whether tokens go through the dense model for that. */
  permutes?: "by weights" | "by inputs" | null;
}

const reportEveryMs = 250;
/** Share of the way that loading and that writing take, for want of something better. */
const loadingShare = 0.02;
const writingShare = 0.03;
/** A remaining time from less than this share would be a guess. */
const leastShare = 0.01;

/** Work of one block by part, in FLOP. */
interface BlockWork {
  /** By pass. */
  observing: number[];
  pruning: number;
  advancing: number;
}

export class WorkMeter {
  readonly #report: (progress: PruningProgress) => void;
  readonly #now: () => number;
  readonly #startedMs: number;
  readonly #config: ModelConfig;
  readonly #settings: WorkSettings;
  readonly #block: BlockWork;
  /** Of the residual stream's order: what goes through the dense model, and the search. */
  readonly #residual: { watching: number; searching: number };
  readonly #total: number;
  #stage: PruningProgress["stage"] = "loading";
  #layer = 0;
  #worked = 0;
  /** How far the weight is that is being pruned. */
  #inWeight = 0;
  #ends = { loading: 0, writing: 0 };
  #finished: PrunedMatrix[] = [];
  #reportedMs = Number.NEGATIVE_INFINITY;

  constructor(config: ModelConfig, settings: WorkSettings, report: (progress: PruningProgress) => void, now: () => number = () => performance.now()) {
    this.#config = config;
    this.#settings = settings;
    this.#report = report;
    this.#now = now;
    this.#startedMs = now();
    this.#block = workOf(config, settings);
    const { observing, pruning, advancing } = this.#block;
    const looking = observing.reduce((sum, work) => sum + work, 0);
    this.#residual = {
      watching: settings.permutes === "by inputs" ? config.numLayers * advancing : 0,
      searching:
        config.numLayers *
        projections.reduce((sum, projection) => sum + (readsResidual(projection) ? searchWork(config, projection, settings) : 0), 0),
    };
    const { watching, searching } = this.#residual;
    this.#total = watching + searching + config.numLayers * (looking + pruning + advancing) - advancing || 1;
  }

  at(stage: PruningProgress["stage"], layer = this.#layer): void {
    this.#stage = stage;
    this.#layer = layer;
    if (stage !== "loading") this.#ends.loading = 1;
    this.#tell(true);
  }

  loaded(share: number): void {
    this.#ends.loading = share;
    this.#tell();
  }

  /** A share of what goes through the dense model. */
  watched(share: number): void {
    this.#work(share * this.#residual.watching);
  }

  /** A share of the search for the residual stream's order. */
  permuted(share: number): void {
    this.#work(share * this.#residual.searching);
  }

  /** A share of a pass over the calibration tokens. */
  observed(pass: number, share: number): void {
    this.#work(share * this.#block.observing[pass]);
  }

  advanced(share: number): void {
    this.#work(share * this.#block.advancing);
  }

  pruning(linear: Linear, done: number): void {
    this.#work(Math.max(0, done - this.#inWeight) * pruningWork(this.#config, linear.projection, this.#settings));
    this.#inWeight = done >= 1 ? 0 : done;
  }

  finished(matrix: PrunedMatrix): void {
    this.#finished.push(matrix);
    this.#tell();
  }

  written(share: number): void {
    this.#ends.writing = share;
    this.#tell(share === 1);
  }

  #work(amount: number): void {
    this.#worked += amount;
    this.#tell();
  }

  #tell(now = false): void {
    const timeMs = this.#now();
    if (!now && timeMs - this.#reportedMs < reportEveryMs) return;
    this.#reportedMs = timeMs;
    const { loading, writing } = this.#ends;
    const middle = Math.min(1, this.#worked / this.#total);
    const done = loadingShare * loading + (1 - loadingShare - writingShare) * middle + writingShare * writing;
    const elapsedMs = timeMs - this.#startedMs;
    const remainingMs = done < leastShare || this.#stage === "loading" ? null : (elapsedMs / done) * (1 - done);
    this.#report({ stage: this.#stage, layer: this.#layer, layers: this.#config.numLayers, done, remainingMs, finished: this.#finished });
    this.#finished = [];
  }
}

function workOf(config: ModelConfig, settings: WorkSettings): BlockWork {
  const { targets, tokens, hessianTokens } = settings;
  const entries = (projection: Projection) => projectionShape(config, projection).reduce((a, b) => a * b);
  const sum = (of: readonly number[]) => of.reduce((total, work) => total + work, 0);
  const observing = passesOf(config, targets).map((stages, pass) => {
    const before = projections.filter((projection) => stageOf[projection] < (stages.at(-1) as number));
    const hessians = stages.map(
      (stage) => projectionShape(config, projections.find((projection) => stageOf[projection] === stage) as Projection)[1] ** 2,
    );
    return 2 * (pass === 0 ? tokens : hessianTokens) * sum(before.map(entries)) + 2 * hessianTokens * sum(hessians);
  });
  const pruned = projections.filter((projection) => targets.has(projection));
  return {
    observing,
    pruning: sum(pruned.map((projection) => pruningWork(config, projection, settings))),
    advancing: 2 * tokens * sum(projections.map(entries)),
  };
}

/** Of one matrix: ranking counted as some operations an entry, the sweep and its part of the factoring, measuring the error. */
function pruningWork(config: ModelConfig, projection: Projection, settings: WorkSettings): number {
  const { sweeps, tokens } = settings;
  const [rows, columns] = projectionShape(config, projection);
  const searching = readsResidual(projection) ? 0 : searchWork(config, projection, settings);
  const ranking = 100 * rows * columns;
  const measuring = tokens > 0 ? 4 * rows * columns * columns : 0;
  return searching + ranking + measuring + (sweeps ? rows * columns * columns + columns ** 3 : 0);
}

const readsResidual = (projection: Projection) => residualStages.includes(stageOf[projection]);

/** Comparing every column of a slot with every group, in groups of four; on the host an operation takes the time of some fifty on the device. */
function searchWork(config: ModelConfig, projection: Projection, { permutes, targets }: WorkSettings): number {
  if (!permutes || !targets.has(projection)) return 0;
  const [rows, columns] = projectionShape(config, projection);
  const together = projection === "o_proj" ? config.headSize : Math.min(columns, 1024);
  return (50 * rows * columns * together) / 4;
}
