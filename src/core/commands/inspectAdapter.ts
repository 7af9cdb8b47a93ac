/**
 * `sparse-tuner inspect` of a run with adapters: how many parameters lie where, how large the change of each matrix is and how many directions it has. Reads the checkpoint alone: of
 * LoRS and SQFT the product is measured before the base's mask, of DoRA before its lengths, and SPP's counts as a share of each weight.
 */
import path from "node:path";
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { AdapterConfig, RunConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { adapterShapes } from "../adapterParameters.ts";
import { checkpointAt, newestCheckpoint } from "../blocks/keptCheckpoints.ts";
import { checkpointFiles } from "../checkpointing.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import { openSafetensors } from "../files/safetensors.ts";
import { checkpointAdapter, type StoredAdapter } from "../files/storedAdapter.ts";
import { lowRankScale } from "../methods/lora.ts";
import {
  type Matrix as AdaptedMatrix,
  adapterTargets,
  matricesOf,
  parametersOf,
  rankOf,
  type TrainedParameters,
  trainedParameters,
} from "../methods/targets.ts";
import { shareBars } from "../terminal/blockMap.ts";
import { formatCount } from "../terminal/format.ts";
import type { TerminalStyle } from "../terminal/style.ts";

/** What was added to one matrix. */
export interface AdapterChange {
  /** Hugging Face name without `.weight`. */
  name: string;
  rank: number;
  /** Trained ones. */
  parameters: number;
  /** Frobenius norm of s·B·A; of SPP, of what each weight is multiplied by less one. */
  norm: number;
  /** exp of the entropy of its normalised singular values (Roy & Vetterli 2007); 0 where nothing changed. */
  effectiveRank: number;
}

/** What `--json` prints. `parameters` are by kind of matrix, `shares` theirs of all; both lists are by layer. */
export interface AdapterInspection extends Omit<TrainedParameters, "matrices"> {
  step: number;
  method: AdapterConfig;
  shares: Record<string, number>;
  sharesByLayer: Record<string, number>[];
  matrices: AdapterChange[];
}

/** The matrices of a checkpoint (null: the newest). Throws UserError where there is none. */
export async function inspectAdapter(
  runFolder: string,
  { model }: RunConfig,
  config: AdapterConfig,
  step: number | null,
): Promise<AdapterInspection> {
  const checkpoint = step === null ? await newestCheckpoint(runFolder) : await checkpointAt(runFolder, step);
  if (!checkpoint) throw new UserError("run/nothing-trained", `${runFolder} has no checkpoint yet.`, "Wait for the first one, or resume the run.");
  const { config: base } = await openModelConfig(model);
  const file = await openSafetensors(path.join(checkpoint.folder, checkpointFiles.trained));
  try {
    const stored = checkpointAdapter(file, config, null, adapterShapes(config, base));
    const matrices: AdapterChange[] = [];
    for (const matrix of adapterTargets(config, matricesOf(base))) matrices.push(await changeOf(stored, config, matrix));
    const { matrices: _count, ...trained } = trainedParameters(config, base);
    const sharesOf = (parameters: Record<string, number>) =>
      Object.fromEntries(Object.entries(parameters).map(([projection, own]) => [projection, own / trained.trainableParameters]));
    const shares = { shares: sharesOf(trained.parameters), sharesByLayer: trained.parametersByLayer.map(sharesOf) };
    return { step: checkpoint.step, method: config, ...trained, ...shares, matrices };
  } finally {
    await file.close();
  }
}

async function changeOf(stored: StoredAdapter, config: AdapterConfig, matrix: AdaptedMatrix): Promise<AdapterChange> {
  const rank = rankOf(config, matrix);
  const singularValues = await productOf(stored, config, matrix, rank);
  const norm = Math.sqrt(singularValues.reduce((sum, value) => sum + value * value, 0));
  return { name: matrix.name, rank, parameters: parametersOf(config, matrix), norm, effectiveRank: effectiveRank(singularValues) };
}

/** Singular values of s·left·right. */
async function productOf(stored: StoredAdapter, config: AdapterConfig, { name }: AdaptedMatrix, rank: number): Promise<number[]> {
  const read = (part: string) => stored.read(`${name}.${part}`);
  switch (config.name) {
    case "lors":
      return singularValues(columnGram(await read("lors_A"), rank), rowGram(await read("lors_B"), rank), rank, config.alpha / Math.sqrt(rank));
    case "sqft":
      return singularValues(columnGram(await read("sqft_B"), rank), rowGram(await read("sqft_A"), rank), rank, config.alpha / rank);
    case "lora":
    case "dora":
      return singularValues(columnGram(await read("lora_B"), rank), rowGram(await read("lora_A"), rank), rank, lowRankScale(config, rank));
    case "spp":
      return singularValues(groupGram(await read("spp_beta"), rank), rowGram(await read("spp_alpha"), rank), rank, config.scaling);
  }
}

/** leftᵀ·left of left (n, r), in float64. */
function columnGram(left: Float32Array, rank: number): Matrix {
  const gram = Matrix.zeros(rank, rank);
  for (let at = 0; at < left.length; at += rank)
    for (let i = 0; i < rank; i++) for (let j = 0; j <= i; j++) gram.set(i, j, gram.get(i, j) + left[at + i] * left[at + j]);
  return mirrored(gram);
}

/** right·rightᵀ of right (r, n). */
function rowGram(right: Float32Array, rank: number): Matrix {
  const columns = right.length / rank;
  const gram = Matrix.zeros(rank, rank);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += right[i * columns + c] * right[j * columns + c];
      gram.set(i, j, sum);
    }
  return mirrored(gram);
}

/** The column gram of SPP's left factor: row i has beta_i in the column of its group and zeros elsewhere. */
function groupGram(beta: Float32Array, groups: number): Matrix {
  const gram = Matrix.zeros(groups, groups);
  const rows = beta.length / groups;
  for (const [i, value] of beta.entries()) {
    const group = Math.floor(i / rows);
    gram.set(group, group, gram.get(group, group) + value * value);
  }
  return gram;
}

function mirrored(gram: Matrix): Matrix {
  for (let i = 0; i < gram.rows; i++) for (let j = 0; j < i; j++) gram.set(j, i, gram.get(i, j));
  return gram;
}

/** Of left·right: the roots of the eigenvalues of √L·R·√L, L = leftᵀ·left and R = right·rightᵀ, which are r × r. Descending. */
function singularValues(left: Matrix, right: Matrix, rank: number, scale: number): number[] {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(left, { assumeSymmetric: true });
  const roots = Matrix.diag(realEigenvalues.map((value) => Math.sqrt(Math.max(value, 0))));
  const root = eigenvectorMatrix.mmul(roots).mmul(eigenvectorMatrix.transpose());
  const core = mirrored(root.mmul(right).mmul(root));
  const values = new EigenvalueDecomposition(core, { assumeSymmetric: true }).realEigenvalues;
  return Array.from({ length: rank }, (_, i) => scale * Math.sqrt(Math.max(values[i], 0))).sort((a, b) => b - a);
}

function effectiveRank(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  return Math.exp(values.reduce((entropy, value) => (value > 0 ? entropy - (value / sum) * Math.log(value / sum) : entropy), 0));
}

/** Lines of a table, for people. */
export function adapterLines({ step, method, matrices, trainableParameters, shares }: AdapterInspection, style: TerminalStyle): string[] {
  const width = Math.max(...matrices.map(({ name }) => name.length));
  const head = `${method.name} on ${matrices.length} matrices with ${formatCount(trainableParameters)} trained parameters, as of step ${step}`;
  const rows = matrices.map(
    ({ name, rank, norm, effectiveRank: directions }) =>
      `${name.padEnd(width)}  ${method.name === "spp" ? "groups" : "rank"} ${String(rank).padStart(3)}  norm ${norm.toExponential(3)}  effective rank ${directions.toFixed(2)}`,
  );
  return [head, ...shareBars(shares, style), ...rows];
}
