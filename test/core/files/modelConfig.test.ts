/** config.json: what is understood, in both spellings, and what is refused by name. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { readModelConfig } from "../../../src/core/files/modelFolder.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { temporaryFolder, tinyConfig } from "./smallModels.ts";

const parse = (changes: Record<string, unknown>, base: Record<string, unknown> = tinyConfig) => {
  const json: Record<string, unknown> = { ...base, ...changes };
  for (const [key, value] of Object.entries(json)) if (value === undefined) delete json[key];
  return parseModelConfig(json, "some/config.json");
};

/** Refused with this code, and a sentence that names the file and these words. */
function refused(changes: Record<string, unknown>, code: string, ...words: string[]): void {
  try {
    parse(changes);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.code, code, error.message);
    for (const word of ["some/config.json", ...words]) assert.ok(error.message.includes(word), `${error.message} does not name ${word}`);
    return;
  }
  assert.fail(`accepted: ${JSON.stringify(changes)}`);
}

const llama31 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
const mistral = { model_type: "mistral", architectures: ["MistralForCausalLM"] };
const qwen2 = { model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] };
const qwen3 = { model_type: "qwen3", architectures: ["Qwen3ForCausalLM"] };

test("a Llama configuration is read in full", () => {
  assert.deepEqual(parse({}), {
    family: "llama",
    hiddenSize: 32,
    intermediateSize: 48,
    numLayers: 2,
    numHeads: 4,
    numKeyValueHeads: 2,
    headSize: 8,
    vocabSize: 40,
    maxPositions: 64,
    rmsNormEpsilon: 1e-6,
    ropeTheta: 10000,
    ropeScaling: { type: "default" },
    tiedEmbeddings: true,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    queryKeyNorm: false,
    bosTokenId: 1,
    eosTokenIds: [2],
  });
});

test("what is absent takes the family's default", () => {
  const bare = {
    tie_word_embeddings: undefined,
    num_key_value_heads: undefined,
    bos_token_id: undefined,
    eos_token_id: null,
    rope_theta: undefined,
    rms_norm_eps: undefined,
  };
  const config = parse(bare);
  assert.deepEqual(
    [config.tiedEmbeddings, config.numKeyValueHeads, config.bosTokenId, config.eosTokenIds, config.ropeTheta, config.rmsNormEpsilon],
    [false, 4, null, [], 10000, 1e-6],
  );
  for (const family of [mistral, qwen2, qwen3]) assert.equal(parse({ ...family, tie_word_embeddings: undefined }).tiedEmbeddings, false);
  assert.equal(parse(qwen3).headSize, 128);
  assert.equal(parse({ ...qwen2, num_key_value_heads: null }).numKeyValueHeads, 4);
});

test("families differ in biases, norms and windows", () => {
  const flags = (changes: Record<string, unknown>) => {
    const { qkvBias, outputBias, mlpBias, queryKeyNorm, maxPositions } = parse(changes);
    return [qkvBias, outputBias, mlpBias, queryKeyNorm, maxPositions];
  };
  assert.deepEqual(flags({ attention_bias: true, mlp_bias: true }), [true, true, true, false, 64]);
  assert.deepEqual(flags({ ...qwen2, sliding_window: 16, use_sliding_window: false }), [true, false, false, false, 64]);
  assert.deepEqual(flags({ ...qwen2, sliding_window: 16, use_sliding_window: true }), [true, false, false, false, 16]);
  assert.deepEqual(flags(qwen3), [false, false, false, true, 64]);
  assert.deepEqual(flags({ ...qwen3, attention_bias: true, layer_types: ["full_attention", "full_attention"] }), [true, true, false, true, 64]);
  assert.deepEqual(flags({ ...mistral, sliding_window: 16 }), [false, false, false, false, 16]);
  assert.deepEqual(flags({ ...mistral, sliding_window: null, max_position_embeddings: 32768 }), [false, false, false, false, 32768]);
  assert.deepEqual(flags({ ...mistral, max_position_embeddings: 32768 }), [false, false, false, false, 4096]);
});

test("rotary settings are read in both spellings", () => {
  const scaling = { type: "llama3", factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalMaxPositions: 8192 };
  const old = parse({ rope_scaling: llama31, rope_theta: 500000 });
  const recent = parse({ rope_theta: undefined, rope_parameters: { ...llama31, rope_theta: 500000 }, dtype: "bfloat16" });
  assert.deepEqual([old.ropeScaling, old.ropeTheta], [scaling, 500000]);
  assert.deepEqual(recent, old);
  assert.deepEqual(parse({ rope_scaling: { type: "linear", factor: 2 } }).ropeScaling, { type: "linear", factor: 2 });
  assert.deepEqual(parse({ rope_parameters: { rope_theta: 10000 } }).ropeScaling, { type: "default" });
  assert.deepEqual(parse({ rope_scaling: null }).ropeScaling, { type: "default" });
  refused(
    { rope_parameters: { rope_type: "linear", factor: 2 }, rope_scaling: { type: "linear", factor: 4 } },
    "model/config-field",
    "rope_scaling",
    "contradicts",
  );
  refused({ rope_parameters: { rope_theta: 1 }, rope_theta: 2 }, "model/config-field", "rope_theta", "contradicts");
});

test("end-of-text ids may be one or several", () => {
  assert.deepEqual(parse({ eos_token_id: [3, 5] }).eosTokenIds, [3, 5]);
  refused({ eos_token_id: "2" }, "model/config-field", "eos_token_id");
  refused({ bos_token_id: -1 }, "model/config-field", "bos_token_id");
});

test("what the model code does not compute is refused by its name", () => {
  for (const type of ["yarn", "dynamic", "longrope", "mrope", "su"]) {
    refused({ rope_scaling: { type, factor: 2 } }, "model/unsupported-rope", type);
    refused({ rope_parameters: { rope_type: type, factor: 2 } }, "model/unsupported-rope", type);
  }
  refused({ rope_scaling: { type: "default", mrope_section: [1, 2] } }, "model/unsupported-rope", "mrope");
  refused({ rope_parameters: { full_attention: { rope_type: "default" } } }, "model/unsupported-rope", "rope_parameters");
  refused({ rope_parameters: { partial_rotary_factor: 0.5 } }, "model/unsupported-rope", "partial_rotary_factor");
  for (const type of ["mixtral", "qwen2_moe", "gpt2", "gemma3", "phi3", "toString"]) refused({ model_type: type }, "model/unsupported-family", type);
  refused({ num_experts: 8 }, "model/unsupported-experts", "mixture of experts");
  refused({ num_local_experts: 8 }, "model/unsupported-experts", "num_local_experts");
  refused({ hidden_act: "gelu" }, "model/unsupported-activation", "gelu");
  refused({ pretraining_tp: 2 }, "model/unsupported", "pretraining_tp");
  refused({ partial_rotary_factor: 0.25 }, "model/unsupported", "partial_rotary_factor");
  refused({ quantization_config: { bits: 4 } }, "model/unsupported-quantization", "quantization_config");
  refused({ vision_config: {} }, "model/unsupported-multimodal", "vision_config");
  refused({ architectures: ["LlamaForSequenceClassification"] }, "model/unsupported-architecture", "LlamaForSequenceClassification");
  refused({ ...qwen3, layer_types: ["full_attention", "sliding_attention"] }, "model/unsupported-attention", "sliding");
  refused({ ...qwen3, layer_types: ["linear_attention"] }, "model/unsupported-attention", "linear_attention");
  refused({ ...qwen2, mlp_bias: true }, "model/unsupported", "mlp_bias");
  refused({ logits_scaling: 8 }, "model/unsupported", "logits_scaling");
});

test("missing and wrong fields are named with the file", () => {
  for (const field of [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
    "model_type",
  ]) {
    refused({ [field]: undefined }, "model/config-field", field, "missing");
  }
  for (const field of [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "head_dim",
  ]) {
    for (const value of [0, -1, 1.5, "8", [8], 1e12, true, {}]) refused({ [field]: value }, "model/config-field", field);
  }
  refused({ rms_norm_eps: 0 }, "model/config-field", "rms_norm_eps");
  refused({ rms_norm_eps: "1e-6" }, "model/config-field", "rms_norm_eps");
  refused({ tie_word_embeddings: "true" }, "model/config-field", "tie_word_embeddings");
  refused({ num_key_value_heads: 3 }, "model/config-field", "num_key_value_heads", "divide");
  refused({ hidden_size: 30 }, "model/config-field", "head_dim");
  refused({ head_dim: 7 }, "model/config-field", "head_dim", "even");
  refused({ ...mistral, num_key_value_heads: undefined }, "model/config-field", "num_key_value_heads");
  refused({ rope_scaling: { ...llama31, factor: 0.5 } }, "model/config-field", "rope_scaling.factor");
  refused({ rope_scaling: { ...llama31, original_max_position_embeddings: undefined } }, "model/config-field", "original_max_position_embeddings");
  refused({ rope_scaling: { factor: 2 } }, "model/config-field", "rope_scaling.rope_type");
  refused({ rope_scaling: { type: "linear", rope_type: "default", factor: 2 } }, "model/config-field", "rope_scaling.rope_type", "contradicts");
  refused({ rope_scaling: "llama3" }, "model/config-field", "rope_scaling");
  for (const json of [null, [], 1, "x"]) assert.throws(() => parseModelConfig(json, "f"), { code: "model/config-field" });
});

test("configurations of real models are understood", () => {
  const smolLm = parse({
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    vocab_size: 49152,
    max_position_embeddings: 8192,
    rope_interleaved: false,
    pretraining_tp: 1,
    is_llama_config: true,
    attention_dropout: 0,
  });
  assert.deepEqual([smolLm.headSize, smolLm.maxPositions], [64, 8192]);
  const nemo = parse({
    ...mistral,
    hidden_size: 5120,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    sliding_window: null,
    max_position_embeddings: 131072,
  });
  assert.equal(nemo.headSize, 128);
  const qwen25 = parse({
    ...qwen2,
    hidden_size: 896,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    max_window_layers: 21,
    sliding_window: 32768,
    use_sliding_window: false,
    max_position_embeddings: 32768,
  });
  assert.deepEqual([qwen25.headSize, qwen25.qkvBias, qwen25.maxPositions], [64, true, 32768]);
});

test("JSON test suite as config.json: refused with a sentence, never another error", async (t) => {
  const suite = sharedData("malformed-json");
  if (!suite) return t.skip("not run: no shared data");
  const file = path.join(temporaryFolder(t), "config.json");
  for (const name of readdirSync(path.join(suite, "test_parsing"))) {
    writeFileSync(file, readFileSync(path.join(suite, "test_parsing", name)));
    await assert.rejects(readModelConfig(file), (error) => error instanceof UserError && error.message.includes(file), name);
  }
});
