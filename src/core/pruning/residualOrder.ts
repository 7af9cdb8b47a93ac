/**
 * Before anything is pruned: one order of the residual stream's channels for the whole model, by what q, k, v, gate and up of all layers would keep. Their
 * inputs are known from a pass of the calibration windows through the dense model, of which nothing but Σ x² of each column is kept.
 */
import { forwardLayer, type Llama } from "../model/llama.ts";
import type { BlockwiseOptions } from "./blockwise.ts";
import { CalibrationWindows } from "./calibrationWindows.ts";
import { findResidualOrder, type GroupPattern, permuteResidual, residualStages, type Scored } from "./permuteModel.ts";
import { freeStatistics, type ObservedStage, Observing, stagesOf } from "./statistics.ts";

export async function permuteResidualStream(model: Llama, options: BlockwiseOptions): Promise<void> {
  const { pruner, pattern, targets, meter, signal } = options;
  meter.at("permuting", 0);
  const byLayer = model.tensors.layers.map((layer, number) =>
    stagesOf(layer, targets).filter(({ linears }) => residualStages.includes(linears[0].stage - 4 * number)),
  );
  if (byLayer.flat().length === 0 || !pruner.scores) return;
  if (pruner.needsSumSquares) await watchDense(model, byLayer, options);
  const scored: Scored[] = [];
  for (const { linears, statistics } of byLayer.flat())
    for (const { weight } of linears) scored.push({ weight, scores: await pruner.scores(model, weight, statistics) });
  const order = await findResidualOrder(model, scored, pattern as GroupPattern, () => signal.throwIfAborted());
  for (const { statistics } of byLayer.flat()) freeStatistics(model.device, statistics);
  await permuteResidual(model, order);
  meter.permuted(1);
}

/** Fills the stages' sums of squares while the windows go through the whole model. */
async function watchDense(model: Llama, byLayer: readonly ObservedStage[][], options: BlockwiseOptions): Promise<void> {
  const { calibration, meter, signal } = options;
  if (!calibration) throw new Error("a method that looks at inputs was given no calibration");
  const windows = await CalibrationWindows.open(model, calibration, options);
  try {
    for (const [layer, stages] of byLayer.entries()) {
      const observing = new Observing(model.device, { sumSquares: stages, hessians: [] });
      observing.throughTheBlock = true;
      meter.at("permuting", layer);
      for (let part = 0; part < windows.parts; part++) {
        await windows.activations.update(part, (x) => forwardLayer(model, observing, windows.batch(part), layer, x));
        await model.device.turn();
        signal.throwIfAborted();
        meter.watched(1 / (windows.parts * byLayer.length));
      }
    }
  } finally {
    await windows.close();
  }
}
