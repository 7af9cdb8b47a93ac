/**
 * Which matrices an adapter's run file means and how large each adapter is, from names and shapes alone, so that whatever can be refused is refused
 * before weights are there. It attaches nothing; the methods do.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import { type ModelConfig, type Projection, projectionName, projectionShape, projections } from "../model/config.ts";

/** A matrix as far as choosing it needs it; a {@link Linear} is one. */
export interface Matrix {
  /** Hugging Face name without `.weight`. */
  name: string;
  projection: Projection;
  weight: { readonly shape: readonly number[] };
}

/** Every linear map of a model in (layer, projection) order. */
export function matricesOf(model: ModelConfig): Matrix[] {
  return Array.from({ length: model.numLayers }, (_, layer) =>
    projections.map((projection) => ({ name: projectionName(layer, projection), projection, weight: { shape: projectionShape(model, projection) } })),
  ).flat();
}

/** Whether a target or a key of `ranks` means this matrix: by kind (q_proj) or by name (model.layers.3.self_attn.q_proj). */
const means = (target: string, { name, projection }: Matrix) => target === projection || target === name;

/**
 * The matrices that `config` adapts, in the order given. Throws UserError: `method/unknown-target`, `method/rank-too-large`, `method/groups`,
 * `method/dropout-with-quantize`, naming what does not fit.
 */
export function adapterTargets<M extends Matrix>(config: AdapterConfig, matrices: readonly M[]): M[] {
  const named = [...(config.targets === "auto" ? [] : config.targets), ...("ranks" in config ? Object.keys(config.ranks) : [])];
  for (const target of named)
    if (!matrices.some((matrix) => means(target, matrix)))
      throw new UserError(
        "method/unknown-target",
        `The target ${target} matches no matrix of the model.`,
        `Use some of ${projections.join(", ")}, whole names such as ${matrices[0]?.name}, or auto.`,
      );
  const { targets } = config;
  const chosen = targets === "auto" ? [...matrices] : matrices.filter((matrix) => targets.some((target) => means(target, matrix)));
  const unused = "ranks" in config ? Object.keys(config.ranks).find((key) => !chosen.some((matrix) => means(key, matrix))) : undefined;
  if (unused !== undefined)
    throw new UserError(
      "method/unknown-target",
      `method.ranks gives ${unused} a rank, but it is none of method.targets.`,
      "Add it to method.targets, or take it out of method.ranks.",
    );
  for (const matrix of chosen) checkMatrix(config, matrix);
  return chosen;
}

/** Rank of one matrix's adapter: `ranks` by name, by kind, then `rank`; the groups of SPP. */
export function rankOf(config: AdapterConfig, { name, projection }: Matrix): number {
  if (config.name === "spp") return config.groups;
  return ("ranks" in config ? (config.ranks[name] ?? config.ranks[projection]) : undefined) ?? config.rank;
}

/** Trained parameters of one matrix's adapter. */
export function parametersOf(config: AdapterConfig, matrix: Matrix): number {
  const [out, width] = matrix.weight.shape;
  if (config.name === "spp") return config.groups * width + out;
  return rankOf(config, matrix) * (out + width) + (config.name === "dora" ? out : 0);
}

/** What an adapter trains, by kind of matrix: in all, and layer by layer. */
export interface TrainedParameters {
  /** Matrices that have an adapter. */
  matrices: number;
  trainableParameters: number;
  parameters: Record<string, number>;
  parametersByLayer: Record<string, number>[];
}

/** Of every matrix that `config` adapts. Throws UserError as {@link adapterTargets}. */
export function trainedParameters(config: AdapterConfig, model: ModelConfig): TrainedParameters {
  const all = matricesOf(model);
  const chosen = adapterTargets(config, all);
  const parameters: Record<string, number> = {};
  const parametersByLayer = Array.from({ length: model.numLayers }, (): Record<string, number> => ({}));
  for (const matrix of chosen) {
    const own = parametersOf(config, matrix);
    const layer = Math.floor(all.indexOf(matrix) / projections.length);
    parameters[matrix.projection] = (parameters[matrix.projection] ?? 0) + own;
    parametersByLayer[layer][matrix.projection] = own;
  }
  const trainableParameters = Object.values(parameters).reduce((sum, own) => sum + own, 0);
  return { matrices: chosen.length, trainableParameters, parameters, parametersByLayer };
}

function checkMatrix(config: AdapterConfig, matrix: Matrix): void {
  const { name, weight } = matrix;
  const [out, width] = weight.shape;
  if (config.name === "spp") {
    if (out % config.groups !== 0)
      throw new UserError(
        "method/groups",
        `${name} has ${out} rows, which ${config.groups} groups do not divide.`,
        "Set method.groups to a number that divides the rows of every target, or leave the matrix out of method.targets.",
      );
    return;
  }
  const most = Math.min(out, width);
  const ranks = [rankOf(config, matrix), ...(config.name === "sqft" ? (config.neuralSearch ?? []) : [])];
  if (ranks[0] > most)
    throw new UserError(
      "method/rank-too-large",
      `An adapter of rank ${ranks[0]} is larger than ${name}, which is ${out} × ${width}.`,
      `Set a rank of at most ${most} for it.`,
    );
  if (config.name !== "sqft") return;
  const over = ranks.find((rank) => rank > config.rank);
  if (over !== undefined)
    throw new UserError(
      "method/rank-too-large",
      `method.neuralSearch holds rank ${over}, more than method.rank ${config.rank} of ${name}.`,
      "Search ranks up to method.rank only, or raise it.",
    );
  checkQuantization(config, name, width);
}

function checkQuantization({ quantize, dropout }: Extract<AdapterConfig, { name: "sqft" }>, name: string, width: number): void {
  if (!quantize) return;
  if (width % quantize.groupSize !== 0)
    throw new UserError(
      "method/groups",
      `${name} has ${width} columns, which groups of ${quantize.groupSize} do not divide.`,
      "Set method.quantize.groupSize to a number that divides the columns of every target.",
    );
  if (dropout > 0)
    throw new UserError(
      "method/dropout-with-quantize",
      "method.dropout and method.quantize exclude each other: base and adapter are rounded to 4 bits as one weight, which has one input.",
      "Set method.dropout to 0, or method.quantize to null.",
    );
}
