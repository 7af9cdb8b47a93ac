/**
 * Reads a Hugging Face config.json into a `ModelConfig`, and refuses by name whatever the model code does not compute.
 * It opens no file and looks at no weight. Missing fields take the value the family's class in transformers gives them, or are named.
 * The rule to keep: a field that changes the computation is either understood here or refused here; nothing is approximated.
 * Source: configuration_{llama,mistral,qwen2,qwen3}.py and modeling_rope_utils.py of transformers 4.57 and 5 (both spellings of rope and dtype).
 */
import { UserError } from "../../protocol/userError.ts";
import type { ModelConfig, RopeScaling } from "../model/config.ts";

type Json = Record<string, unknown>;

/** What differs between the families when a field is absent. */
const families = {
  llama: { architecture: "LlamaForCausalLM", headSize: null, keyValueHeads: "heads", slidingWindow: null },
  mistral: { architecture: "MistralForCausalLM", headSize: null, keyValueHeads: null, slidingWindow: 4096 },
  qwen2: { architecture: "Qwen2ForCausalLM", headSize: null, keyValueHeads: null, slidingWindow: 4096 },
  qwen3: { architecture: "Qwen3ForCausalLM", headSize: 128, keyValueHeads: null, slidingWindow: 4096 },
} as const;

type Family = ModelConfig["family"];

const supported = "Supported are Llama 2/3, Mistral, Qwen2, Qwen3, SmolLM and TinyLlama folders; choose one of those.";

/** Fields whose presence (not null, false, 0 or empty) means a computation we do not have. */
const unsupportedFields: Record<string, string> = {
  quantization_config: "quantised weights",
  compression_config: "compressed weights",
  vision_config: "vision input",
  audio_config: "audio input",
  text_config: "a multimodal or nested model",
  num_experts: "a mixture of experts",
  num_local_experts: "a mixture of experts",
  n_routed_experts: "a mixture of experts",
  num_experts_per_tok: "a mixture of experts",
  moe_intermediate_size: "a mixture of experts",
  is_encoder_decoder: "an encoder and decoder",
  add_cross_attention: "cross-attention",
  attn_logit_softcapping: "soft-capped logits",
  final_logit_softcapping: "soft-capped logits",
  alibi: "ALiBi positions",
  parallel_attn: "parallel attention",
  no_rope_layers: "layers without rotation",
  lm_head_bias: "a bias of the output head",
};

const unsupportedCodes: Record<string, string> = {
  "quantised weights": "model/unsupported-quantization",
  "compressed weights": "model/unsupported-quantization",
  "a mixture of experts": "model/unsupported-experts",
  "vision input": "model/unsupported-multimodal",
  "audio input": "model/unsupported-multimodal",
  "a multimodal or nested model": "model/unsupported-multimodal",
};

/** Reads fields of one JSON object and names file and field when they are missing or of the wrong type. */
class Fields {
  readonly json: Json;
  readonly file: string;
  readonly prefix: string;

  constructor(json: Json, file: string, prefix = "") {
    this.json = json;
    this.file = file;
    this.prefix = prefix;
  }

  fail(name: string, reason: string): UserError {
    return new UserError(
      "model/config-field",
      `${this.file}: ${this.prefix}${name} ${reason}.`,
      "Correct the field, or download the model's config.json again.",
    );
  }

  unsupported(what: string, code = "model/unsupported"): UserError {
    return new UserError(code, `${this.file}: ${what} is not supported.`, supported);
  }

  /** The field, `fallback` when it is absent or null; without a fallback its absence throws. */
  number(name: string, fallback: number | null, accepts: (n: number) => boolean, expected: string): number {
    const value = this.json[name] ?? fallback;
    if (value === null) throw this.fail(name, "is missing");
    if (typeof value !== "number" || !Number.isFinite(value) || !accepts(value)) throw this.fail(name, `must be ${expected}, not ${show(value)}`);
    return value;
  }

  /** A whole number from 1 to 2^24, which no dimension of a model passes and whose products stay exact. */
  dimension(name: string, fallback: number | null = null): number {
    return this.number(name, fallback, (n) => Number.isInteger(n) && n >= 1 && n <= 1 << 24, "a whole number from 1 to 16777216");
  }

  positive(name: string, fallback: number | null = null): number {
    return this.number(name, fallback, (n) => n > 0, "a number above 0");
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.json[name] ?? fallback;
    if (typeof value !== "boolean") throw this.fail(name, `must be true or false, not ${show(value)}`);
    return value;
  }

  string(name: string, fallback: string | null): string {
    const value = this.json[name] ?? fallback;
    if (value === null) throw this.fail(name, "is missing");
    if (typeof value !== "string") throw this.fail(name, `must be a string, not ${show(value)}`);
    return value;
  }

  object(name: string): Fields | null {
    const value = this.json[name] ?? null;
    if (value === null) return null;
    if (typeof value !== "object" || Array.isArray(value)) throw this.fail(name, `must be an object, not ${show(value)}`);
    return new Fields(value as Json, this.file, `${this.prefix}${name}.`);
  }
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/**
 * The configuration of a parsed config.json; `file` is named in errors.
 * Throws UserError: `model/unsupported…` for what we do not compute, `model/config-field` for a field that is missing or wrong.
 */
export function parseModelConfig(json: unknown, file: string): ModelConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UserError("model/config-field", `${file}: it is no JSON object.`, "Download the model's config.json again.");
  }
  const fields = new Fields(json as Json, file);
  const family = familyOf(fields);
  refuseUnsupported(fields, family);
  const heads = shapeOfHeads(fields, family);
  const maxPositions = fields.dimension("max_position_embeddings");
  const config: ModelConfig = {
    family,
    hiddenSize: fields.dimension("hidden_size"),
    intermediateSize: fields.dimension("intermediate_size"),
    numLayers: fields.number("num_hidden_layers", null, (n) => Number.isInteger(n) && n >= 1 && n <= 4096, "a whole number from 1 to 4096"),
    ...heads,
    vocabSize: fields.dimension("vocab_size"),
    maxPositions: Math.min(maxPositions, slidingWindow(fields, family)),
    rmsNormEpsilon: fields.positive("rms_norm_eps", 1e-6),
    ...rope(fields),
    tiedEmbeddings: fields.boolean("tie_word_embeddings", false),
    qkvBias: family === "qwen2" || ((family === "llama" || family === "qwen3") && fields.boolean("attention_bias", false)),
    outputBias: (family === "llama" || family === "qwen3") && fields.boolean("attention_bias", false),
    mlpBias: family === "llama" && fields.boolean("mlp_bias", false),
    queryKeyNorm: family === "qwen3",
    bosTokenId: tokenIds(fields, "bos_token_id")[0] ?? null,
    eosTokenIds: tokenIds(fields, "eos_token_id"),
  };
  return config;
}

function familyOf(fields: Fields): Family {
  const type = fields.string("model_type", null);
  if (!Object.hasOwn(families, type)) {
    const what = /moe|mixtral|deepseek|dbrx/i.test(type) ? ", a mixture of experts," : "";
    throw fields.unsupported(`the model type ${show(type)}${what}`, "model/unsupported-family");
  }
  const family = type as Family;
  const architectures = fields.json.architectures ?? [];
  if (!Array.isArray(architectures)) throw fields.fail("architectures", `must be a list, not ${show(architectures)}`);
  const { architecture } = families[family];
  if (architectures.length > 0 && !architectures.includes(architecture)) {
    throw fields.unsupported(`the architecture ${show(architectures[0])} (only ${architecture} is, for ${family})`, "model/unsupported-architecture");
  }
  return family;
}

function refuseUnsupported(fields: Fields, family: Family): void {
  for (const [name, what] of Object.entries(unsupportedFields)) {
    const value = fields.json[name];
    const absent = value === undefined || value === null || value === false || value === 0 || (Array.isArray(value) && value.length === 0);
    if (!absent) throw fields.unsupported(`${what} (${name})`, unsupportedCodes[what] ?? "model/unsupported");
  }
  for (const name of ["hidden_act", "hidden_activation"]) {
    const activation = fields.string(name, "silu");
    if (activation !== "silu" && activation !== "swish")
      throw fields.unsupported(`the activation ${show(activation)} (${name})`, "model/unsupported-activation");
  }
  if (fields.number("pretraining_tp", 1, () => true, "a number") !== 1) throw fields.unsupported("pretraining_tp other than 1");
  const biasFields = family === "mistral" || family === "qwen2" ? ["attention_bias", "mlp_bias"] : family === "qwen3" ? ["mlp_bias"] : [];
  for (const name of biasFields) {
    // Qwen2 always has biases of q, k and v; some exporters say so with attention_bias.
    if (fields.boolean(name, false) && !(family === "qwen2" && name === "attention_bias")) throw fields.unsupported(`${name} in a ${family} model`);
  }
  for (const name of [
    "residual_multiplier",
    "embedding_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "logit_scale",
    "partial_rotary_factor",
  ]) {
    if (fields.number(name, 1, () => true, "a number") !== 1) throw fields.unsupported(`${name} other than 1`);
  }
  for (const name of ["use_qk_norm", "qk_layernorm", "use_sliding_window_pattern"]) {
    if (fields.boolean(name, false)) throw fields.unsupported(name);
  }
}

function shapeOfHeads(fields: Fields, family: Family): Pick<ModelConfig, "numHeads" | "numKeyValueHeads" | "headSize"> {
  const hiddenSize = fields.dimension("hidden_size");
  const numHeads = fields.dimension("num_attention_heads");
  const defaults = families[family];
  // An explicit null means one key/value head per query head in every family; absence does so in Llama's only.
  const explicitNull = fields.json.num_key_value_heads === null;
  const numKeyValueHeads = fields.dimension("num_key_value_heads", defaults.keyValueHeads === "heads" || explicitNull ? numHeads : null);
  if (numHeads % numKeyValueHeads !== 0)
    throw fields.fail("num_key_value_heads", `(${numKeyValueHeads}) must divide num_attention_heads (${numHeads})`);
  const even = defaults.headSize ?? (hiddenSize % numHeads === 0 ? hiddenSize / numHeads : null);
  if (even === null && (fields.json.head_dim ?? null) === null)
    throw fields.fail("hidden_size", `(${hiddenSize}) is not divisible by num_attention_heads (${numHeads}), and head_dim is missing`);
  const headSize = fields.dimension("head_dim", even);
  if (headSize % 2 !== 0) throw fields.fail("head_dim", `(${headSize}) must be even, because it is rotated in pairs`);
  return { numHeads, numKeyValueHeads, headSize };
}

/** The window of sliding attention, infinite where there is none. Up to that length sliding and full attention are the same. */
function slidingWindow(fields: Fields, family: Family): number {
  const none = Number.POSITIVE_INFINITY;
  const layerTypes = fields.json.layer_types ?? null;
  let sliding = family === "mistral" || (family !== "llama" && fields.boolean("use_sliding_window", false));
  if (layerTypes !== null) {
    if (!Array.isArray(layerTypes)) throw fields.fail("layer_types", `must be a list, not ${show(layerTypes)}`);
    const kinds = [...new Set(layerTypes)];
    const unknown = kinds.find((kind) => kind !== "full_attention" && kind !== "sliding_attention");
    if (unknown !== undefined) throw fields.unsupported(`the layer type ${show(unknown)}`, "model/unsupported-attention");
    if (kinds.length > 1) throw fields.unsupported("a mix of full and sliding attention (layer_types)", "model/unsupported-attention");
    sliding = kinds[0] === "sliding_attention" || (family === "mistral" && kinds.length === 0);
  }
  if (!sliding) return none;
  if (fields.json.sliding_window === null) return none;
  return fields.dimension("sliding_window", families[family].slidingWindow);
}

/** Rotary frequencies: `rope_parameters` in newer files, `rope_theta` and `rope_scaling` (`rope_type` or `type`) in older ones. */
function rope(fields: Fields): Pick<ModelConfig, "ropeTheta" | "ropeScaling"> {
  const parameters = fields.object("rope_parameters");
  const scaling = fields.object("rope_scaling");
  const source = parameters ?? scaling;
  const topTheta = fields.positive("rope_theta", 10000);
  const ropeTheta = parameters ? parameters.positive("rope_theta", topTheta) : topTheta;
  if (parameters && (fields.json.rope_theta ?? null) !== null && ropeTheta !== topTheta) {
    throw fields.fail("rope_theta", `(${topTheta}) contradicts rope_parameters.rope_theta (${ropeTheta})`);
  }
  if (!source) return { ropeTheta, ropeScaling: { type: "default" } };
  const ropeScaling = readScaling(source);
  if (parameters && scaling && JSON.stringify(readScaling(scaling)) !== JSON.stringify(ropeScaling)) {
    throw fields.fail("rope_scaling", "contradicts rope_parameters");
  }
  return { ropeTheta, ropeScaling };
}

function readScaling(source: Fields): RopeScaling {
  if (Object.values(source.json).some((value) => typeof value === "object" && value !== null && !Array.isArray(value))) {
    throw source.unsupported(`a rotation that differs between layers (${source.prefix.slice(0, -1)})`, "model/unsupported-rope");
  }
  if (source.number("partial_rotary_factor", 1, () => true, "a number") !== 1)
    throw source.unsupported(`${source.prefix}partial_rotary_factor other than 1`, "model/unsupported-rope");
  if ((source.json.mrope_section ?? null) !== null) throw source.unsupported("the rope type mrope (mrope_section)", "model/unsupported-rope");
  const { rope_type: newName = null, type: oldName = null } = source.json;
  if (newName !== null && oldName !== null && newName !== oldName)
    throw source.fail("rope_type", `(${show(newName)}) contradicts type (${show(oldName)})`);
  const type = source.string(newName === null && oldName !== null ? "type" : "rope_type", source.prefix === "rope_parameters." ? "default" : null);
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor: factorOf(source) };
    case "llama3": {
      const lowFrequencyFactor = source.positive("low_freq_factor");
      const highFrequencyFactor = source.positive("high_freq_factor");
      if (highFrequencyFactor <= lowFrequencyFactor)
        throw source.fail("high_freq_factor", `(${highFrequencyFactor}) must be above low_freq_factor (${lowFrequencyFactor})`);
      return {
        type,
        factor: factorOf(source),
        lowFrequencyFactor,
        highFrequencyFactor,
        originalMaxPositions: source.dimension("original_max_position_embeddings"),
      };
    }
    default:
      throw source.unsupported(`the rope type ${show(type)}`, "model/unsupported-rope");
  }
}

function factorOf(source: Fields): number {
  return source.number("factor", null, (n) => n >= 1, "a number of at least 1");
}

function tokenIds(fields: Fields, name: string): number[] {
  const value = fields.json[name] ?? [];
  const ids = Array.isArray(value) ? value : [value];
  for (const id of ids)
    if (!Number.isInteger(id) || (id as number) < 0) throw fields.fail(name, `must be a token id or a list of them, not ${show(value)}`);
  return ids as number[];
}
