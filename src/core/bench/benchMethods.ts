/**
 * The methods the bench trains, by name: how each is attached to a model, what it costs, and which base it wants. Ranks, scales and starting values are
 * those of the peer's script, so that losses can be compared. It times nothing.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { Device } from "../devices/device.ts";
import { attachAdapter } from "../methods/adapters.ts";
import { FullFineTuning } from "../methods/full.ts";
import type { Parameter, TuningMethod } from "../methods/method.ts";
import { linearsOf } from "../methods/smt/scoring.ts";
import { gridShape, totalMatrixParameters } from "../methods/smt/selection.ts";
import { SparseMatrixTuning } from "../methods/smt/smt.ts";
import { matricesOf } from "../methods/targets.ts";
import { type ModelConfig, projectionName, projectionShape } from "../model/config.ts";
import type { LlamaTensors } from "../model/tensors.ts";
import { NaiveMasked, PublishedSpp } from "./comparators.ts";

/** `naive` and `published` are the comparators of comparators.ts. */
export const benchMethods = ["smt", "full", "lora", "dora", "lors", "naive", "spp", "published", "sqft"] as const;
export type BenchMethod = (typeof benchMethods)[number];

/** What each row of the bench calls them. */
export const benchTitles: Record<BenchMethod, string> = {
  smt: "smt",
  full: "full",
  lora: "lora",
  dora: "dora",
  lors: "lors",
  naive: "naive masked",
  spp: "spp",
  published: "spp as published",
  sqft: "sqft",
};

/** Methods that are for pruned models, and are trained on the pruned copy. */
export const wantsPruned = (method: BenchMethod) => ["lors", "naive", "spp", "published", "sqft"].includes(method);

/** Methods that the peer's script has too. */
export const peerKnows = (method: BenchMethod) => ["smt", "full", "lora", "dora", "lors"].includes(method);

export const rank = 16;
const seed = 1;
const blockSize = 256;
const ratio = 0.0084;

const lowRank = { rank, alpha: rank, dropout: 0, rankStabilized: false, targets: "auto", ranks: {} } as const;
const configs: Record<AdapterConfig["name"], AdapterConfig> = {
  lors: { name: "lors", rank, alpha: rank, targets: "auto", gradient: "ste", init: "kaiming", initSamples: 128 },
  lora: { name: "lora", ...lowRank },
  dora: { name: "dora", ...lowRank, normGradient: "detached" },
  spp: { name: "spp", groups: rank, scaling: 2, dropout: 0, targets: "auto" },
  sqft: { name: "sqft", rank, alpha: rank, dropout: 0, neuralSearch: null, quantize: null, targets: "auto" },
};

/** A method on a loaded model, ready for its first step. */
export function attachBenchMethod(device: Device, tensors: LlamaTensors, config: ModelConfig, name: BenchMethod): TuningMethod & { release(): void } {
  if (name === "full") return new FullFineTuning(device, tensors);
  if (name === "smt") return new SparseMatrixTuning(device, tensors, benchBlocks(config), blockSize);
  const method = attach(device, tensors, name);
  for (const parameter of method.parameters) if (/\.(lora_A|lors_B|sqft_A)$/.test(parameter.name)) writeStart(device, parameter);
  method.afterUpdate();
  return method;
}

function attach(device: Device, tensors: LlamaTensors, name: Exclude<BenchMethod, "full" | "smt">) {
  if (name === "naive") return new NaiveMasked(device, linearsOf(tensors), { rank, alpha: rank }, seed);
  if (name === "published") return new PublishedSpp(device, linearsOf(tensors), { groups: rank, scaling: 2 }, seed);
  return attachAdapter(device, tensors, configs[name], seed);
}

/** The peer's starting values of an adapter's (r, in) matrix. */
function writeStart(device: Device, { value }: Parameter): void {
  const [rows, columns] = value.shape;
  const start = Float32Array.from({ length: rows * columns }, (_, n) => ((((7919 * n + 13) % 65521) / 65521) * 2 - 1) / Math.sqrt(columns));
  device.write(value, start);
}

/** The first blocks of v_proj in layer order, as many as the ratio buys. */
export function benchBlocks(config: ModelConfig): { name: string; row: number; column: number }[] {
  const count = Math.floor((ratio * totalMatrixParameters(config)) / blockSize / blockSize) || 1;
  const [rows, columns] = gridShape(projectionShape(config, "v_proj"), blockSize);
  return Array.from({ length: count }, (_, i) => {
    const within = i % (rows * columns);
    return { name: projectionName(Math.floor(i / (rows * columns)), "v_proj"), row: Math.floor(within / columns), column: within % columns };
  });
}

/** FLOPs of one token's matrix products, forward and backward, in steps of `tokens`; attention itself is left out. */
export function flopsPerToken(config: ModelConfig, method: BenchMethod, tokens: number): number {
  const shapes = matricesOf(config).map(({ weight }) => weight.shape);
  const linear = shapes.reduce((sum, [out, width]) => sum + out * width, 0);
  const sides = shapes.reduce((sum, [out, width]) => sum + out + width, 0);
  const head = config.vocabSize * config.hiddenSize;
  /** rank·out·in products done once a step, and thin products of every token. */
  const [formed, thin] = [(rank * linear) / tokens, rank * sides];
  const costs: Record<BenchMethod, number> = {
    smt: 4 * linear,
    full: 6 * linear + 2 * head,
    lora: 4 * linear + 6 * thin,
    dora: 4 * linear + 6 * thin,
    lors: 4 * linear + 4 * formed + 4 * thin,
    naive: 6 * linear + 6 * formed,
    spp: 6 * linear,
    published: 10 * linear,
    sqft: 6 * linear + 8 * formed,
  };
  return costs[method] + 4 * head;
}
