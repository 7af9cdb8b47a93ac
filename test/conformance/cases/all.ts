/** Every method of the Device interface with its cases. A method without an entry does not compile, an empty entry fails a test. */
import type { Device } from "../../../src/core/devices/device.ts";
import type { ConformanceCase } from "../harness.ts";
import {
  columnDotsCases,
  countZerosCases,
  doraGainsCases,
  dropoutCases,
  maskByCases,
  rowDotsCases,
  scaleColumnsCases,
  scaleRowsCases,
} from "./adapterLayers.ts";
import { adaptedGradientsCases, adaptedMatmulCases, formAdaptedCases } from "./adapters.ts";
import { attentionBackwardCases, attentionForwardCases } from "./attention.ts";
import {
  blockGradientsCases,
  blockMeansCases,
  blockScoresCases,
  columnSumSquaresCases,
  gatherBlocksCases,
  gatherColumnsCases,
  scatterBlocksCases,
} from "./blocks.ts";
import {
  addBiasCases,
  biasBackwardCases,
  embeddingBackwardCases,
  embeddingForwardCases,
  rmsNormBackwardCases,
  rmsNormForwardCases,
  ropeCases,
  swigluBackwardCases,
  swigluForwardCases,
} from "./layers.ts";
import { crossEntropyCases } from "./loss.ts";
import { matmulCases } from "./matmul.ts";
import { allocateCases, closeCases, copyCases, fillCases, freeCases, loadCases, readCases, rowsCases, turnCases, writeCases } from "./memory.ts";
import { adamwStepCases, sumSquaresCases } from "./optimizer.ts";
import { inverseCholeskyCases, mirrorLowerCases, sparseGptSweepCases } from "./pruning.ts";
import { fitQuantizationCases } from "./quantization.ts";

/** The methods of a device. */
export type OpName = Exclude<keyof Device, "name" | "description" | "ledger">;

export const allCases = {
  allocate: allocateCases,
  free: freeCases,
  rows: rowsCases,
  write: writeCases,
  load: loadCases,
  read: readCases,
  fill: fillCases,
  copy: copyCases,
  turn: turnCases,
  matmul: matmulCases,
  addBias: addBiasCases,
  biasBackward: biasBackwardCases,
  embeddingForward: embeddingForwardCases,
  embeddingBackward: embeddingBackwardCases,
  rmsNormForward: rmsNormForwardCases,
  rmsNormBackward: rmsNormBackwardCases,
  rope: ropeCases,
  attentionForward: attentionForwardCases,
  attentionBackward: attentionBackwardCases,
  swigluForward: swigluForwardCases,
  swigluBackward: swigluBackwardCases,
  crossEntropy: crossEntropyCases,
  adamwStep: adamwStepCases,
  sumSquares: sumSquaresCases,
  gatherColumns: gatherColumnsCases,
  gatherBlocks: gatherBlocksCases,
  scatterBlocks: scatterBlocksCases,
  blockGradients: blockGradientsCases,
  blockScores: blockScoresCases,
  blockMeans: blockMeansCases,
  columnSumSquares: columnSumSquaresCases,
  adaptedMatmul: adaptedMatmulCases,
  adaptedGradients: adaptedGradientsCases,
  formAdapted: formAdaptedCases,
  fitQuantization: fitQuantizationCases,
  maskBy: maskByCases,
  countZeros: countZerosCases,
  dropout: dropoutCases,
  scaleColumns: scaleColumnsCases,
  scaleRows: scaleRowsCases,
  rowDots: rowDotsCases,
  columnDots: columnDotsCases,
  doraGains: doraGainsCases,
  inverseCholesky: inverseCholeskyCases,
  mirrorLower: mirrorLowerCases,
  sparseGptSweep: sparseGptSweepCases,
  // Last: afterwards the device is gone.
  close: closeCases,
} satisfies Record<OpName, readonly ConformanceCase[]>;
