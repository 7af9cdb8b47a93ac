/**
 * What the core knows of a Llama-family model, read from a Hugging Face config.json.
 * Both spellings of newer configs are understood; what the model code cannot compute is refused by name.
 */

/** How rotary frequencies are changed for longer contexts. */
export type RopeScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | { type: "llama3"; factor: number; lowFrequencyFactor: number; highFrequencyFactor: number; originalMaxPositions: number };

export interface ModelConfig {
  family: "llama" | "mistral" | "qwen2" | "qwen3";
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  /** head_dim; not always hiddenSize / numHeads. */
  headSize: number;
  vocabSize: number;
  /** max_position_embeddings, or the sliding window where it is smaller. */
  maxPositions: number;
  rmsNormEpsilon: number;
  ropeTheta: number;
  ropeScaling: RopeScaling;
  tiedEmbeddings: boolean;
  /** Biases of q, k and v; of o; of gate, up and down. */
  qkvBias: boolean;
  outputBias: boolean;
  mlpBias: boolean;
  /** RMSNorm over each head of q and k before the rotation (Qwen3). */
  queryKeyNorm: boolean;
  bosTokenId: number | null;
  eosTokenIds: number[];
}

/** The seven linear maps of a decoder layer, in the order in which ties are broken and shares are shown. */
export const projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;
export type Projection = (typeof projections)[number];

/** Hugging Face name of a projection's weight without `.weight`, e.g. `model.layers.3.self_attn.q_proj`. */
export function projectionName(layer: number, projection: Projection): string {
  const module = projection === "gate_proj" || projection === "up_proj" || projection === "down_proj" ? "mlp" : "self_attn";
  return `model.layers.${layer}.${module}.${projection}`;
}

/** (out, in) of a projection. */
export function projectionShape(config: ModelConfig, projection: Projection): [number, number] {
  const { hiddenSize: C, intermediateSize: H } = config;
  const queries = config.numHeads * config.headSize;
  const keys = config.numKeyValueHeads * config.headSize;
  switch (projection) {
    case "q_proj":
      return [queries, C];
    case "k_proj":
    case "v_proj":
      return [keys, C];
    case "o_proj":
      return [C, queries];
    case "gate_proj":
    case "up_proj":
      return [H, C];
    case "down_proj":
      return [C, H];
  }
}

function hasBias(config: ModelConfig, projection: Projection): boolean {
  if (projection === "q_proj" || projection === "k_proj" || projection === "v_proj") return config.qkvBias;
  return projection === "o_proj" ? config.outputBias : config.mlpBias;
}

/** Every parameter of the model by its Hugging Face name, in file order; a tied head is not listed twice. */
export function weightShapes(config: ModelConfig): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  shapes.set("model.embed_tokens.weight", [config.vocabSize, config.hiddenSize]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const prefix = `model.layers.${layer}`;
    shapes.set(`${prefix}.input_layernorm.weight`, [config.hiddenSize]);
    for (const projection of projections) {
      const name = projectionName(layer, projection);
      const shape = projectionShape(config, projection);
      shapes.set(`${name}.weight`, shape);
      if (hasBias(config, projection)) shapes.set(`${name}.bias`, [shape[0]]);
    }
    if (config.queryKeyNorm) {
      shapes.set(`${prefix}.self_attn.q_norm.weight`, [config.headSize]);
      shapes.set(`${prefix}.self_attn.k_norm.weight`, [config.headSize]);
    }
    shapes.set(`${prefix}.post_attention_layernorm.weight`, [config.hiddenSize]);
  }
  shapes.set("model.norm.weight", [config.hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set("lm_head.weight", [config.vocabSize, config.hiddenSize]);
  return shapes;
}
