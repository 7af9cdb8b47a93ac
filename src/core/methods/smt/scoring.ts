/**
 * Scores of all blocks of the target matrices. Gradient scores come from a warm-up: this class stands in for a method during it, forms dW tile by tile
 * inside backward, reduces it to one number a block and drops it; the others read the weights, or the activations of forward passes.
 * Three accumulations whose names must not be confused: `meanOfAbs` Σ mean|g|, `absOfMean` |mean Σ g|, `absOfAccumulated` mean|Σ g|.
 * With gradient accumulation every micro-batch counts once, so `meanOfAbs` depends on the micro-batch size.
 * Sources: SMT (arXiv 2405.15525); LIFT (2506.00772) for lowRankMagnitude; DiaBlo (2506.03230) for diagonal.
 */
import type { Device, Tensor } from "../../devices/device.ts";
import { projections } from "../../model/config.ts";
import type { LlamaTensors } from "../../model/tensors.ts";
import type { Random } from "../../random.ts";
import { Frozen } from "../frozen.ts";
import type { Linear, Parameter, TuningMethod } from "../method.ts";
import { diagonalScores } from "./diagonal.ts";
import { lowRankMeans } from "./lowRank.ts";
import { gridShape, type ScoreGrid } from "./selection.ts";

export type GradientScore = "meanOfAbs" | "absOfMean" | "absOfAccumulated";
export type Score = GradientScore | "activation" | "magnitude" | "lowRankMagnitude" | "random" | "diagonal";

/** Does the score need a warm-up over data, and its backward? */
export function scoreNeeds(score: Score): { forward: boolean; backward: boolean } {
  const backward = score === "meanOfAbs" || score === "absOfMean" || score === "absOfAccumulated";
  return { forward: backward || score === "activation", backward };
}

/** All linear maps of a model in (layer, projection) order. */
export function linearsOf(tensors: LlamaTensors): Linear[] {
  return tensors.layers.flatMap(({ linears }) => projections.map((projection) => linears[projection]));
}

interface Accumulator {
  linear: Linear;
  /** (grid) scores, or the whole (out, in) sum of gradients for `absOfAccumulated`. */
  sum: Tensor;
}

/** Stands in for a method during a warm-up by gradients; `inner` is trained at the same time when the warm-up updates the weights. */
export class GradientScoring implements TuningMethod {
  readonly lowestStage: number;
  readonly parameters: readonly Parameter[];
  readonly #device: Device;
  readonly #score: GradientScore;
  readonly #blockSize: number;
  readonly #inner: TuningMethod;
  readonly #accumulators = new Map<string, Accumulator>();
  readonly #stages: Set<number>;

  constructor(device: Device, targets: readonly Linear[], score: GradientScore, blockSize: number, inner: TuningMethod = new Frozen(device)) {
    this.#device = device;
    this.#score = score;
    this.#blockSize = blockSize;
    this.#inner = inner;
    this.#stages = new Set(targets.map(({ stage }) => stage));
    this.lowestStage = Math.min(inner.lowestStage, ...this.#stages);
    this.parameters = inner.parameters;
    for (const linear of targets) {
      const shape = score === "absOfAccumulated" ? linear.weight.shape : gridShape(linear.weight.shape, blockSize);
      const sum = device.allocate(shape, "f32", "gradients");
      device.fill(sum, 0);
      this.#accumulators.set(linear.name, { linear, sum });
    }
  }

  gradientOf(name: string): Tensor | null {
    return this.#inner.gradientOf(name);
  }

  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: ((tensor: Tensor) => void) | null): void {
    this.#inner.linearForward(out, linear, x, accumulate, keep);
  }

  saveInput(stage: number, x: Tensor): Tensor | null {
    return this.#inner.saveInput(stage, x) ?? (this.#stages.has(stage) ? x : null);
  }

  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean, kept: Tensor | null): void {
    const sum = this.#accumulators.get(linear.name)?.sum;
    if (sum && this.#score === "absOfAccumulated") this.#device.matmul(sum, dOut, saved as Tensor, { transposeA: true, accumulate: true });
    else if (sum) this.#device.blockScores(sum, dOut, saved as Tensor, this.#blockSize, this.#score === "absOfMean");
    this.#inner.linearBackward(dX, linear, dOut, saved, accumulate, kept);
  }

  afterUpdate(): void {
    this.#inner.afterUpdate();
  }

  /** The scores so far, as they would be ranked now; of all matrices, or of one. */
  async grids(only?: string): Promise<ScoreGrid[]> {
    const grids: ScoreGrid[] = [];
    for (const { linear, sum } of this.#accumulators.values()) {
      if (only !== undefined && linear.name !== only) continue;
      const scores =
        this.#score === "absOfAccumulated"
          ? await readMeans(this.#device, sum, this.#blockSize, "absolute", null)
          : ((await this.#device.read(sum)) as Float32Array);
      for (let i = 0; i < scores.length; i++) scores[i] = Math.abs(scores[i]);
      grids.push(gridOf(linear, scores));
    }
    return grids;
  }

  release(): void {
    for (const { sum } of this.#accumulators.values()) this.#device.free(sum);
  }
}

/** Stands in for a method during forward passes and sums x² of every column that a target reads; the score is mean over the block of W²·Σx². */
export class ActivationScoring extends Frozen {
  readonly #device: Device;
  readonly #blockSize: number;
  readonly #targets: readonly Linear[];
  readonly #sums = new Map<number, Tensor>();
  readonly #first: Map<number, string>;

  constructor(device: Device, targets: readonly Linear[], blockSize: number) {
    super(device);
    this.#device = device;
    this.#blockSize = blockSize;
    this.#targets = targets;
    this.#first = new Map([...targets].reverse().map(({ stage, name }) => [stage, name]));
    for (const { stage, weight } of targets)
      if (!this.#sums.has(stage)) {
        const sum = device.allocate([weight.shape[1]], "f32", "gradients");
        device.fill(sum, 0);
        this.#sums.set(stage, sum);
      }
  }

  override linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    // The linear maps of a stage share their input: it is counted once.
    if (this.#first.get(linear.stage) === linear.name) this.#device.columnSumSquares(this.#sums.get(linear.stage) as Tensor, x);
    super.linearForward(out, linear, x, accumulate);
  }

  /** As {@link GradientScoring.grids}. */
  async grids(only?: string): Promise<ScoreGrid[]> {
    const grids: ScoreGrid[] = [];
    for (const linear of this.#targets) {
      if (only !== undefined && linear.name !== only) continue;
      const columnScale = this.#sums.get(linear.stage) as Tensor;
      grids.push(gridOf(linear, await readMeans(this.#device, linear.weight, this.#blockSize, "squareScaled", columnScale)));
    }
    return grids;
  }

  release(): void {
    for (const sum of this.#sums.values()) this.#device.free(sum);
  }
}

/** Scores that need no data. The score `random` draws uniform ones; `diagonal` ranks by the place in the matrix. */
export async function scoreWeights(
  device: Device,
  targets: readonly Linear[],
  score: "magnitude" | "lowRankMagnitude" | "random" | "diagonal",
  blockSize: number,
  random: Pick<Random, "uniform" | "normal">,
): Promise<ScoreGrid[]> {
  const grids: ScoreGrid[] = [];
  for (const linear of targets) {
    const [rows, columns] = gridShape(linear.weight.shape, blockSize);
    if (score === "magnitude") grids.push(gridOf(linear, await readMeans(device, linear.weight, blockSize, "absolute", null)));
    else if (score === "lowRankMagnitude") grids.push(gridOf(linear, await lowRankMeans(device, linear.weight, blockSize, random)));
    else if (score === "random")
      grids.push(
        gridOf(
          linear,
          Float32Array.from({ length: rows * columns }, () => random.uniform()),
        ),
      );
    else grids.push(gridOf(linear, diagonalScores(rows, columns)));
    await device.turn();
  }
  return grids;
}

async function readMeans(
  device: Device,
  x: Tensor,
  blockSize: number,
  mean: "absolute" | "squareScaled",
  columnScale: Tensor | null,
): Promise<Float32Array> {
  const means = device.allocate(gridShape(x.shape, blockSize), "f32", "workspace");
  device.blockMeans(means, x, blockSize, mean, columnScale);
  const scores = (await device.read(means)) as Float32Array;
  device.free(means);
  return scores;
}

function gridOf(linear: Linear, scores: Float32Array): ScoreGrid {
  const { name, layer, projection, weight } = linear;
  return { name, layer, projection, shape: [weight.shape[0], weight.shape[1]], scores };
}
