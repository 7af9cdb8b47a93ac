/**
 * The part of a run that only SMT has: what `method:` of the run file resolves to for this model, the warm-up, and the selection it ends in.
 * Scores and ranking themselves are the method's.
 */
import { budgetKeys, type RunConfig } from "../protocol/runConfig.ts";
import type { Selection } from "../protocol/selection.ts";
import { UserError } from "../protocol/userError.ts";
import type { Batch } from "./data/batch.ts";
import { Frozen } from "./methods/frozen.ts";
import { FullFineTuning } from "./methods/full.ts";
import type { Linear } from "./methods/method.ts";
import { type DiagonalSize, diagonalBlockSize, diagonalSize, onDiagonal, wantedOf } from "./methods/smt/diagonal.ts";
import { ActivationScoring, GradientScoring, linearsOf, type Score, scoreNeeds, scoreWeights } from "./methods/smt/scoring.ts";
import {
  automaticBlockSize,
  type Budget,
  blocksInBudget,
  blocksWhere,
  type ChosenBlock,
  gridShape,
  type ScoreGrid,
  type SelectionMode,
  selectBlocks,
  sharesOf,
  totalMatrixParameters,
} from "./methods/smt/selection.ts";
import { type ModelConfig, type Projection, projections } from "./model/config.ts";
import { type Llama, runBatch } from "./model/llama.ts";
import type { LlamaTensors } from "./model/tensors.ts";
import { gradientNorm, updateParameters, zeroGradients } from "./optim/update.ts";
import { Random } from "./random.ts";

/** `method: {name: smt, …}` with everything automatic resolved. */
export interface SmtPlan {
  blockSize: number;
  targets: Projection[];
  score: Score;
  /** How blocks are ranked; null when a selection file says which they are. */
  mode: SelectionMode | null;
  selectionFile: string | null;
  budget: Budget;
  /** With `score: diagonal`, what the diagonals hold where they are trained whole and nothing else is; else null. */
  wholeDiagonal: DiagonalSize | null;
  warmup: { steps: number; update: boolean };
  reselectEvery: number | null;
}

type SmtConfig = Extract<RunConfig["method"], { name: "smt" }>;

/**
 * Resolves block size, targets and, with a selection from a file, what that says. Throws UserError when a target names no matrix, or when the
 * warm-up cannot do what it is asked.
 */
export function resolveSmt(method: SmtConfig, config: ModelConfig, given: Selection | null = null): SmtPlan {
  const targets =
    method.targets === "auto" ? [...projections] : projections.filter((projection) => (method.targets as string[]).includes(projection));
  if (method.targets !== "auto")
    for (const target of method.targets)
      if (!(projections as readonly string[]).includes(target))
        throw new UserError(
          "method/unknown-target",
          `The target ${target} matches no matrix of the model.`,
          `Use some of ${projections.join(", ")}, or auto.`,
        );
  const modes: readonly string[] = ["global", "perMatrix", "perKind"];
  const mode = modes.includes(method.selection) ? (method.selection as SelectionMode) : null;
  if (mode || method.reselectEvery !== null) checkScore(method);
  const byPlace = mode !== null && !given && method.score === "diagonal";
  const automatic = byPlace ? diagonalBlockSize : automaticBlockSize;
  const blockSize = given?.blockSize ?? (method.blockSize === "auto" ? automatic(config, targets, method) : method.blockSize);
  const diagonal = byPlace ? diagonalSize(config, targets, blockSize) : null;
  const whole = diagonal && (method.blockSize === "auto" || blocksInBudget(config, targets, blockSize, method) === diagonal.blocks);
  const { ratio, blocks, trainableParameters } = method;
  return {
    blockSize,
    targets,
    score: method.score,
    mode,
    selectionFile: mode ? null : method.selection,
    budget: given ? { blocks: given.blocks.length } : whole ? { blocks: diagonal.blocks } : { ratio, blocks, trainableParameters },
    wholeDiagonal: whole ? diagonal : null,
    warmup: method.warmup,
    reselectEvery: method.reselectEvery,
  };
}

/**
 * What a selection from a file makes of the run file's other keys: refuses those that contradict it, and returns a sentence on a budget, which it replaces.
 * Throws UserError `method/selection-contradicted`.
 */
export function checkGiven({ blockSize, targets, selection: file, ...method }: SmtConfig, selection: Selection): string | null {
  const contradicted = (message: string, key: string) =>
    new UserError("method/selection-contradicted", message, `Set ${key} to auto, or give another selection.`);
  if (blockSize !== "auto" && blockSize !== selection.blockSize)
    throw contradicted(
      `method.blockSize is ${blockSize}, but ${file} holds blocks of ${selection.blockSize} × ${selection.blockSize}.`,
      "method.blockSize",
    );
  const other = targets === "auto" ? null : selection.blocks.find(({ name }) => !targets.includes(name.split(".").at(-1) as string));
  if (other)
    throw contradicted(
      `${file} holds block ${other.name}:${other.row},${other.column}, which lies in none of method.targets (${(targets as string[]).join(", ")}).`,
      "method.targets",
    );
  const [budget] = budgetKeys(method);
  return budget ? `method.${budget} (${method[budget]}) does not count: the blocks that are trained are those of ${file}.` : null;
}

/** A sentence on a budget that is not what the diagonals of the targets hold, for `score: diagonal`; null where there is nothing to say. */
export function diagonalNotice(method: SmtConfig, config: ModelConfig, { targets, blockSize, budget, wholeDiagonal, mode }: SmtPlan): string | null {
  if (method.score !== "diagonal" || mode === null) return null;
  const size = `${blockSize} × ${blockSize}`;
  if (!wholeDiagonal) {
    const wanted = blocksInBudget(config, targets, blockSize, budget);
    const { blocks } = diagonalSize(config, targets, blockSize);
    const what = wanted < blocks ? "a part of each diagonal is trained" : "blocks beside the diagonals are trained too";
    return `The budget buys ${wanted} blocks of ${size}, and the diagonals of the targets hold ${blocks}: ${what}. With blockSize auto it is the whole diagonals alone.`;
  }
  const { wanted, unit } = wantedOf(config, method);
  if (wholeDiagonal[unit] === wanted) return null;
  const found = `${wholeDiagonal[unit]} ${unit === "blocks" ? "blocks" : "parameters"}`;
  return `The whole diagonals of the targets are ${found} in blocks of ${size}, the nearest to the ${Math.round(wanted)} that the budget asks for.`;
}

/**
 * Refuses a warm-up that would rank blocks by nothing, one that shall train although its score asks for no backward pass, and choosing anew by a score
 * that would choose the same again.
 */
function checkScore({ score, warmup, reselectEvery }: SmtConfig): void {
  if (score === "diagonal" && reselectEvery !== null)
    throw new UserError(
      "method/cannot-reselect",
      "method.reselectEvery asks to choose the blocks anew, but the score diagonal chooses the same ones every time.",
      "Set method.reselectEvery to null, or take another score.",
    );
  const needs = scoreNeeds(score);
  if (needs.forward && warmup.steps === 0)
    throw new UserError(
      "method/no-warmup",
      `The score ${score} is taken over warm-up steps, and method.warmup.steps is 0.`,
      "Set it to at least 1, or score by magnitude.",
    );
  if (warmup.update && !needs.backward)
    throw new UserError(
      "method/warmup-cannot-train",
      `method.warmup.update asks for a warm-up that trains, but the score ${score} has no backward pass.`,
      "Set it to false, or score by meanOfAbs.",
    );
}

/** The linear maps that may be chosen from, in (layer, projection) order. */
export function targetLinears(tensors: LlamaTensors, smt: Pick<SmtPlan, "targets">): Linear[] {
  return linearsOf(tensors).filter(({ projection }) => smt.targets.includes(projection));
}

/** Reads the scores that a warm-up has so far, of all matrices or of one, between two of its steps. It costs, and is for when somebody looks. */
export type ScoreReader = (only?: string) => Promise<ScoreGrid[]>;

/** What the warm-up needs of its run. */
export interface WarmupContext {
  model: Llama;
  smt: SmtPlan;
  train: RunConfig["train"];
  /** Micro-batch by global index. */
  batch(index: number): Batch;
  /** Index of the first micro-batch of the warm-up. */
  firstBatch: number;
  /** Updates before it; scores that draw random numbers draw others after others. */
  afterStep: number;
  onStep(progress: { step: number; of: number; loss: number; tokensPerSecond: number }, grids: ScoreReader): Promise<void>;
  /** Returns true to stop; asked at every step boundary. */
  stopped(): Promise<boolean>;
}

/** Scores all blocks of the targets; null when it was stopped. With `warmup.update` the model has been fine-tuned in full when this returns. */
export async function scoreBlocks(context: WarmupContext): Promise<ScoreGrid[] | null> {
  const { model, smt, train } = context;
  const targets = targetLinears(model.tensors, smt);
  switch (smt.score) {
    case "meanOfAbs":
    case "absOfMean":
    case "absOfAccumulated": {
      const full = smt.warmup.update ? new FullFineTuning(model.device, model.tensors) : null;
      const scoring = new GradientScoring(model.device, targets, smt.score, smt.blockSize, full ?? new Frozen(model.device));
      const finished = await warmUp(context, scoring, true);
      const grids = finished ? await scoring.grids() : null;
      scoring.release();
      full?.release();
      return grids;
    }
    case "activation": {
      const scoring = new ActivationScoring(model.device, targets, smt.blockSize);
      const finished = await warmUp(context, scoring, false);
      const grids = finished ? await scoring.grids() : null;
      scoring.release();
      return grids;
    }
    default:
      return scoreWeights(model.device, targets, smt.score, smt.blockSize, new Random(train.seed, context.afterStep));
  }
}

/** Runs the warm-up's steps with `method` standing in; false when it was stopped between two of them. */
async function warmUp(context: WarmupContext, method: GradientScoring | ActivationScoring, backward: boolean): Promise<boolean> {
  const { model, smt, train } = context;
  for (let step = 1; step <= smt.warmup.steps; step++) {
    if (await context.stopped()) return false;
    const began = performance.now();
    const first = context.firstBatch + (step - 1) * train.gradientAccumulation;
    const batches = Array.from({ length: train.gradientAccumulation }, (_, i) => context.batch(first + i));
    const unmasked = batches.reduce((sum, { unmaskedTokens }) => sum + unmaskedTokens, 0);
    zeroGradients(model.device, method.parameters);
    let lossSum = 0;
    for (const batch of batches) lossSum += await runBatch(model, method, batch, backward ? 1 / unmasked : null);
    if (!Number.isFinite(lossSum)) throw notFinite(`The loss of warm-up step ${step} is ${lossSum}`);
    if (method.parameters.length > 0) {
      const gradNorm = await gradientNorm(model.device, method.parameters);
      if (!Number.isFinite(gradNorm)) throw notFinite(`The gradient's norm of warm-up step ${step} is ${gradNorm}`);
      updateParameters(model.device, method.parameters, gradNorm, train.learningRate, step, train);
      method.afterUpdate();
    }
    const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
    const tokensPerSecond = (1000 * tokens) / (performance.now() - began);
    await context.onStep({ step, of: smt.warmup.steps, loss: lossSum / unmasked, tokensPerSecond }, (only) => method.grids(only));
  }
  return true;
}

function notFinite(what: string): UserError {
  return new UserError(
    "method/score-not-finite",
    `${what}: blocks cannot be ranked by it.`,
    "Try train.precision f32, or look at the data of the warm-up with preview.",
    { badInput: false },
  );
}

/** The selection a ranking of these scores gives, as it is written to selection.json. */
export function selectionFrom(grids: readonly ScoreGrid[], config: ModelConfig, smt: SmtPlan, seed: number, dataHash: string): Selection {
  const wanted = blocksInBudget(config, smt.targets, smt.blockSize, smt.budget);
  const chosen = smt.wholeDiagonal ? blocksWhere(grids, smt.blockSize, onDiagonal) : selectBlocks(grids, smt.blockSize, wanted, smt.mode ?? "global");
  return {
    version: 1,
    blockSize: smt.blockSize,
    score: smt.score,
    selection: smt.mode ?? "global",
    seed,
    dataHash,
    steps: smt.warmup.steps,
    totalParameters: totalMatrixParameters(config),
    blocks: chosen.map(({ name, row, column, score, rank }) => ({ name, row, column, score, rank })),
    shares: sharesOf(chosen, config, smt.blockSize),
    matrices: grids.map(({ name, shape }) => {
      const [rows, columns] = gridShape(shape, smt.blockSize);
      return { name, rows, columns };
    }),
  };
}

/** Blocks of a selection with layer and projection, checked against the model. */
export function chosenFrom(selection: Selection, linears: readonly Linear[]): ChosenBlock[] {
  const byName = new Map(linears.map((linear) => [linear.name, linear]));
  return selection.blocks.map((block) => {
    const linear = byName.get(block.name);
    const grid = linear && gridShape(linear.weight.shape, selection.blockSize);
    if (!linear || !grid || block.row >= grid[0] || block.column >= grid[1])
      throw new UserError(
        "method/selection-mismatch",
        `The selection names block ${block.name}:${block.row},${block.column}, which this model does not have at block size ${selection.blockSize}.`,
        "Use a selection made for a model of the same shape.",
      );
    return { ...block, layer: linear.layer, projection: linear.projection };
  });
}
