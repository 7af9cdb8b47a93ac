/**
 * Statistics of the inputs of a decoder block's four stages, gathered while calibration tokens run through it: this class stands in for a method that
 * trains nothing and looks at what the first linear map of each stage is given. The rules to keep: all linear maps of a stage share one statistic; the
 * Hessians of one pass take no more memory than the largest one does.
 */
import type { Device, Tensor } from "../devices/device.ts";
import { Frozen } from "../methods/frozen.ts";
import type { Linear } from "../methods/method.ts";
import { type ModelConfig, projectionShape } from "../model/config.ts";
import type { LayerTensors } from "../model/tensors.ts";
import type { StageStatistics } from "./pruner.ts";

/** The stages of a decoder block, each by the maps that share its input; the first is the one that is looked at. */
export const stageProjections = [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]] as const;

export interface ObservedStage {
  linears: Linear[];
  statistics: StageStatistics;
}

/** The stages of a block that hold targets, without statistics. */
export function stagesOf({ linears }: LayerTensors, targets: ReadonlySet<string>): ObservedStage[] {
  return stageProjections
    .map((projections) => projections.filter((projection) => targets.has(projection)).map((projection) => linears[projection]))
    .filter((found) => found.length > 0)
    .map((found) => ({ linears: found, statistics: { sumSquares: null, hessian: null } }));
}

/**
 * The stages (0 to 3) that hold targets in the passes over the calibration tokens that gather their Hessians: from the last stage to the first, so that what
 * is pruned after one pass is no part of the next one, and as many in a pass as together take no more memory than the largest Hessian alone.
 */
export function passesOf(config: ModelConfig, targets: ReadonlySet<string>): number[][] {
  const stages = stageProjections.map((_, stage) => stage).filter((stage) => stageProjections[stage].some((projection) => targets.has(projection)));
  const entries = (stage: number) => projectionShape(config, stageProjections[stage][0])[1] ** 2;
  const largest = Math.max(...stages.map(entries));
  const passes: number[][] = [];
  for (const stage of stages.reverse()) {
    const pass = passes.at(-1);
    const together = (pass ?? []).reduce((sum, other) => sum + entries(other), entries(stage));
    if (pass && together <= largest) pass.unshift(stage);
    else passes.push([stage]);
  }
  return passes;
}

/** Which stages' statistics a pass gathers. */
export interface Gathered {
  sumSquares: readonly ObservedStage[];
  hessians: readonly ObservedStage[];
}

export class Observing extends Frozen {
  /** Whether Hessians are added to as well as sums of squares. */
  withHessian = true;
  /** Whether the block's output is wanted too. */
  throughTheBlock = false;
  readonly #device: Device;
  readonly #sumSquares: Map<string, Tensor>;
  readonly #hessians: Map<string, Tensor>;
  readonly #lastStage: number;

  /** Allocates the statistics of the stages, zero. */
  constructor(device: Device, { sumSquares, hessians }: Gathered) {
    super(device);
    this.#device = device;
    const zeros = (...shape: number[]) => {
      const tensor = device.allocate(shape, "f32", "workspace");
      device.fill(tensor, 0);
      return tensor;
    };
    for (const { linears, statistics } of sumSquares) statistics.sumSquares = zeros(linears[0].weight.shape[1]);
    for (const { linears, statistics } of hessians) statistics.hessian = zeros(linears[0].weight.shape[1], linears[0].weight.shape[1]);
    this.#sumSquares = new Map(sumSquares.map(({ linears, statistics }) => [linears[0].name, statistics.sumSquares as Tensor]));
    this.#hessians = new Map(hessians.map(({ linears, statistics }) => [linears[0].name, statistics.hessian as Tensor]));
    this.#lastStage = Math.max(...[...sumSquares, ...hessians].map(({ linears }) => linears[0].stage));
  }

  override linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    const sumSquares = this.#sumSquares.get(linear.name);
    if (sumSquares) this.#device.columnSumSquares(sumSquares, x);
    const hessian = this.withHessian && this.#hessians.get(linear.name);
    if (hessian) this.#device.matmul(hessian, x, x, { transposeA: true, accumulate: true });
    // What comes after the last stage that is looked at is looked at by nobody.
    if (this.throughTheBlock || linear.stage < this.#lastStage) super.linearForward(out, linear, x, accumulate);
  }
}

export function freeStatistics(device: Device, statistics: StageStatistics): void {
  for (const tensor of [statistics.sumSquares, statistics.hessian]) if (tensor) device.free(tensor);
  statistics.sumSquares = null;
  statistics.hessian = null;
}
