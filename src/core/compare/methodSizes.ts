/** What a model answers about the size of a method's configuration: the shapes behind budgets.ts. No weights are read. */
import type { MethodConfig } from "../../protocol/runConfig.ts";
import type { Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { sizeOf } from "../devices/device.ts";
import type { DiagonalSize } from "../methods/smt/diagonal.ts";
import { blocksInBudget } from "../methods/smt/selection.ts";
import { adapterTargets, matricesOf, parametersOf } from "../methods/targets.ts";
import { type ModelConfig, projectionShape, projections, weightShapes } from "../model/config.ts";
import { resolveSmt } from "../smtRun.ts";
import type { MethodSizes } from "./budgets.ts";

/** The answers for one model, with the selection files that methods name. They throw the UserError that a run would be refused with. */
export function methodSizes(model: ModelConfig, given: ReadonlyMap<string, Selection> = new Map()): MethodSizes {
  const matrices = matricesOf(model);
  const all = [...weightShapes(model).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  const parameters = (method: MethodConfig): number => {
    if (method.name === "full") return all;
    if (method.name !== "smt") return adapterTargets(method, matrices).reduce((sum, matrix) => sum + parametersOf(method, matrix), 0);
    const { targets, blockSize, budget, wholeDiagonal } = resolveSmt(method, model, given.get(method.selection) ?? null);
    return wholeDiagonal?.entries ?? blocksInBudget(model, targets, blockSize, budget) * blockSize ** 2;
  };
  return {
    parameters,
    accepts(method) {
      try {
        parameters(method);
        return true;
      } catch (error) {
        if (error instanceof UserError) return false;
        throw error;
      }
    },
    diagonals(method, trainableParameters) {
      const { blockSize, wholeDiagonal } = resolveSmt({ ...method, ratio: null, blocks: null, trainableParameters }, model);
      return { blockSize, blocks: (wholeDiagonal as DiagonalSize).blocks };
    },
    blocks(method) {
      // A method of a comparison has no budget of its own, which is what its blocks are counted for.
      const { targets, blockSize } = resolveSmt({ ...method, ratio: null, trainableParameters: null, blocks: 1 }, model);
      const entries = blockSize ** 2;
      const held = targets.reduce((sum, target) => sum + model.numLayers * sizeOf(projectionShape(model, target)), 0);
      return { entries, available: held / entries };
    },
    largest: Math.max(...projections.flatMap((projection) => projectionShape(model, projection))),
  };
}
