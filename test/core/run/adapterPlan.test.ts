/**
 * The memory plan of runs with adapters, and of any run on a pruned base, whose zeros are counted on the way: the ledger's peak of the very run, to the
 * byte, also where the search for LoRS' start or the counting is what takes most. And a 7-billion-parameter plan takes a moment.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { attachBenchMethod } from "../../../src/core/bench/benchMethods.ts";
import { syntheticBatch } from "../../../src/core/bench/syntheticTraining.ts";
import { nativeAvailable } from "../../../src/core/devices/cpu/cpuDevice.ts";
import { openMetaDevice } from "../../../src/core/devices/meta.ts";
import { plannedDevice } from "../../../src/core/devices/open.ts";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { adapterParameters } from "../../../src/core/methods/adapters.ts";
import { type Llama, runBatch } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import { allocateTensors } from "../../../src/core/model/tensors.ts";
import { planMemory } from "../../../src/core/plan.ts";
import { checkRun } from "../../../src/core/prepare.ts";
import { type AdapterConfig, parseRunFile } from "../../../src/protocol/runConfig.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { prunedCopy } from "./prunedModel.ts";
import { readConfig, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

const common = temporaryFolder({ after });
const pruned = await prunedCopy(storyFolder, path.join(common, "pruned"));

interface Case {
  method: object;
  pruned?: boolean;
  train?: object;
}

/** So few tokens that what is held beside them is the peak. */
const few = { batchSize: 1, sequenceLength: 2 };

const cases: Record<string, Case> = {
  "lors, bf16": { method: { name: "lors", initSamples: 3 }, pruned: true, train: { precision: "bf16" } },
  "lors, exact gradients, recomputed, f32": {
    method: { name: "lors", gradient: "exact", init: "kaiming", targets: ["v_proj", "down_proj"] },
    train: { precision: "f32", recompute: "layer", gradientAccumulation: 2 },
  },
  "lors, whose start takes most": { method: { name: "lors", rank: 4, initSamples: 60 }, pruned: true, train: { precision: "f32", ...few } },
  "lora with dropout, f32": {
    method: { name: "lora", dropout: 0.2, ranks: { q_proj: 3, "model.layers.1.mlp.up_proj": 40 } },
    train: { precision: "f32" },
  },
  "lora of the top layer, bf16, pruned": {
    method: { name: "lora", targets: ["model.layers.1.mlp.down_proj", "model.layers.1.self_attn.o_proj"] },
    pruned: true,
    train: { precision: "bf16" },
  },
  "lora, whose zeros take most to count": { method: { name: "lora", rank: 2 }, pruned: true, train: { precision: "f32", ...few } },
  "dora, bf16": { method: { name: "dora", dropout: 0.1 }, train: { precision: "bf16" } },
  "dora with the full gradient, recomputed, pruned": {
    method: { name: "dora", normGradient: "full" },
    pruned: true,
    train: { precision: "f32", recompute: "layer" },
  },
  "spp, f32": { method: { name: "spp", groups: 8 }, pruned: true, train: { precision: "f32" } },
  "spp with dropout, bf16": { method: { name: "spp", dropout: 0.5 }, pruned: true, train: { precision: "bf16" } },
  "sqft with a search over ranks, bf16": {
    method: { name: "sqft", rank: 8, dropout: 0.1, neuralSearch: [8, 4, 2] },
    pruned: true,
    train: { precision: "bf16" },
  },
  "sqft on four bits, f32": { method: { name: "sqft", rank: 4, quantize: { groupSize: 32 } }, pruned: true, train: { precision: "f32" } },
  "full that keeps zeros, bf16": { method: { name: "full", sparse: "keep" }, pruned: true, train: { precision: "bf16" } },
  "full that fills zeros, f32, with few tokens": { method: { name: "full" }, pruned: true, train: { precision: "f32", ...few } },
};

for (const native of [true, false])
  describe(`plan and ledger on the ${native ? "native" : "portable"} device`, {
    skip: native && !nativeAvailable() && "not run: no native addon",
  }, () => {
    for (const [name, { method, pruned: sparse, train }] of Object.entries(cases))
      test(`${name}: equal to the byte`, async () => {
        if (!native) process.env.SPARSE_TUNER_NO_NATIVE = "1";
        try {
          const runFile = writeRunFile(path.join(common, `${name} ${native}`), {
            model: sparse ? pruned : storyFolder,
            method,
            // The portable device is slow.
            train: { steps: native ? 2 : 1, ...(native ? {} : { batchSize: 1, sequenceLength: 12 }), ...train },
            evaluate: { every: 1, rows: 1 },
            checkpoint: { every: null },
            threads: 2,
          });
          const { plan, base } = await checkRun(readConfig(runFile));
          await base.close();
          assert.ok(plan.exact);
          let measured = {};
          await session(runFile, {
            async onDone({ device: { ledger } }) {
              measured = { peak: ledger.peakBytes, byClass: ledger.peakBytesByClass };
            },
          });
          assert.deepEqual(measured, { peak: plan.peakBytes, byClass: plan.bytesByClass });
        } finally {
          delete process.env.SPARSE_TUNER_NO_NATIVE;
        }
      });

    test("smt with a known selection, on a pruned base with few tokens: equal to the byte", async () => {
      if (!native) process.env.SPARSE_TUNER_NO_NATIVE = "1";
      try {
        const folder = path.join(common, `smt ${native}`);
        const blocks = [{ name: "model.layers.1.self_attn.v_proj", row: 0, column: 1 }];
        const runFile = writeRunFile(folder, {
          model: pruned,
          method: { name: "smt", selection: "selection.json" },
          train: { steps: 2, precision: "f32", batchSize: 1, sequenceLength: 8 },
          evaluate: { every: 1, rows: 1 },
        });
        writeFileSync(path.join(folder, "selection.json"), JSON.stringify({ version: 1, blockSize: 16, blocks }));
        const { plan, base } = await checkRun(readConfig(runFile));
        await base.close();
        let peak = 0;
        await session(runFile, {
          async onDone({ device }) {
            peak = device.ledger.peakBytes;
          },
        });
        assert.deepEqual([peak, plan.exact], [plan.peakBytes, true]);
      } finally {
        delete process.env.SPARSE_TUNER_NO_NATIVE;
      }
    });
  });

describe("LLaMA-2-7B", () => {
  const model = parseModelConfig(
    {
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      vocab_size: 32000,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      tie_word_embeddings: false,
      bos_token_id: 1,
      eos_token_id: 2,
    },
    "config.json",
  );
  const methods = ["{name: lors}", "{name: lora, dropout: 0.1}", "{name: dora}", "{name: spp}", "{name: sqft, rank: 16}"];
  const config = (method: string) =>
    parseRunFile(`{model: m, data: {train: t}, method: ${method}, train: {batchSize: 1, sequenceLength: 2048, precision: bf16}}`, "run.yaml");

  test("lors of rank 16 has as many parameters as the paper's", () => {
    assert.equal(adapterParameters(config("{name: lors}").method as AdapterConfig, model), 39_976_960);
  });

  for (const method of methods)
    test(`a plan of ${method} takes less than 2 s, and far less memory than full fine-tuning`, async () => {
      const before = process.cpuUsage();
      const { peakBytes, fullFineTuning, exact } = await planMemory(config(method), model, null, plannedDevice("cpu", 2), { pruned: true });
      const { user, system } = process.cpuUsage(before);
      assert.ok(user + system < 2e6, `${(user + system) / 1e6} s of processor time`);
      assert.ok(exact && peakBytes < 0.35 * fullFineTuning.peakBytes, `${peakBytes} of ${fullFineTuning.peakBytes}`);
    });

  /** Bytes at the peak of forward and backward, which is where naive masking has its peak too, by counting. */
  async function stepBytes(method: "lors" | "naive"): Promise<number> {
    const device = openMetaDevice(plannedDevice("cpu", 2));
    const tensors = allocateTensors(device, model, "bf16");
    const llama: Llama = { device, config: model, tensors, rope: ropeTables(device, model, 2048), precision: "bf16", recompute: "none" };
    const attached = attachBenchMethod(device, tensors, model, method);
    attached.beginBatch?.({ step: 1, batch: 0 });
    await runBatch(llama, attached, syntheticBatch(model, 1, 2048, 0), 1);
    return device.ledger.peakBytes;
  }

  test("a step of lors takes 40 % less memory than naive masking's", async () => {
    const [lors, naive] = [await stepBytes("lors"), await stepBytes("naive")];
    assert.ok(lors <= 0.6 * naive, `${lors} of ${naive}`);
  });
});
