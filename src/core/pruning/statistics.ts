/**
 * Statistics of the inputs of a decoder block's four stages, gathered while calibration tokens run through it: this class stands in for a method that
 * trains nothing and looks at what the first linear map of each stage is given. The rule to keep: all linear maps of a stage share one statistic.
 */
import type { Device, Tensor } from "../devices/device.ts";
import { Frozen } from "../methods/frozen.ts";
import type { Linear } from "../methods/method.ts";
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

export class Observing extends Frozen {
  /** Whether Hessians are added to as well as sums of squares. */
  withHessian = true;
  readonly #device: Device;
  readonly #byFirst: Map<string, StageStatistics>;

  /** Allocates the statistics of the stages, zero. */
  constructor(device: Device, stages: readonly ObservedStage[], needs: { sumSquares: boolean; hessian: boolean }) {
    super(device);
    this.#device = device;
    this.#byFirst = new Map(stages.map(({ linears, statistics }) => [linears[0].name, statistics]));
    const zeros = (...shape: number[]) => {
      const tensor = device.allocate(shape, "f32", "workspace");
      device.fill(tensor, 0);
      return tensor;
    };
    for (const { linears, statistics } of stages) {
      const C = linears[0].weight.shape[1];
      if (needs.sumSquares) statistics.sumSquares = zeros(C);
      if (needs.hessian) statistics.hessian = zeros(C, C);
    }
  }

  override linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    const statistics = this.#byFirst.get(linear.name);
    if (statistics?.sumSquares) this.#device.columnSumSquares(statistics.sumSquares, x);
    if (statistics?.hessian && this.withHessian) this.#device.matmul(statistics.hessian, x, x, { transposeA: true, accumulate: true });
    super.linearForward(out, linear, x, accumulate);
  }
}

export function freeStatistics(device: Device, statistics: StageStatistics): void {
  for (const tensor of [statistics.sumSquares, statistics.hessian]) if (tensor) device.free(tensor);
  statistics.sumSquares = null;
  statistics.hessian = null;
}
