/**
 * What the operating system counts for a run, against the ledger: the process grows by no more than 1.05 × the ledger's peak + 64 MB from the moment
 * tokenizer and data are loaded. On a random model of 107 million parameters, because small ones drown in what Node takes.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { toBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { writeSafetensors } from "../../../src/core/files/safetensorsWriter.ts";
import { weightShapes } from "../../../src/core/model/config.ts";
import { normals } from "../../support/randomTensors.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { temporaryFolder, writeRunFile } from "./smallRuns.ts";

const skip = process.platform !== "linux" && "not run: the memory of a process is read from /proc";

describe("the process's memory against the ledger", { skip }, () => {
  const folder = temporaryFolder({ after });
  const model = path.join(folder, "model");

  before(async () => {
    const config = {
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      hidden_size: 768,
      intermediate_size: 2048,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      num_key_value_heads: 12,
      vocab_size: 28000,
      max_position_embeddings: 512,
      rms_norm_eps: 1e-6,
      rope_theta: 10000,
      tie_word_embeddings: true,
      bos_token_id: 1,
      eos_token_id: 2,
    };
    mkdirSync(model);
    writeFileSync(path.join(model, "config.json"), JSON.stringify(config));
    // Any finite numbers do: the same million again and again.
    const pool = Buffer.from(Uint16Array.from(normals(1, 1 << 20, 0.02), toBfloat16).buffer);
    const entries = [...weightShapes(parseModelConfig(config, "config.json"))].map(([name, shape]) => ({
      name,
      dtype: "BF16" as const,
      shape,
      *chunks() {
        const bytes = 2 * shape.reduce((product, n) => product * n, 1);
        for (let begin = 0; begin < bytes; begin += pool.length) yield pool.subarray(0, Math.min(pool.length, bytes - begin));
      },
    }));
    await writeSafetensors(path.join(model, "model.safetensors"), entries, { format: "pt" });
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(path.join(storyFolder, name), path.join(model, name));
  });

  const runs: Record<string, { method: object; train: object }> = {
    "smt, bf16": {
      method: { name: "smt", ratio: 0.0084, warmup: { steps: 1 } },
      train: { precision: "bf16", batchSize: 1, sequenceLength: 256, steps: 1 },
    },
    "smt, f32, recomputed": {
      method: { name: "smt", ratio: 0.0084, warmup: { steps: 1 } },
      train: { precision: "f32", recompute: "layer", batchSize: 1, sequenceLength: 128, steps: 1 },
    },
    "full, bf16": { method: { name: "full" }, train: { precision: "bf16", batchSize: 1, sequenceLength: 64, steps: 1 } },
  };
  for (const [name, overrides] of Object.entries(runs))
    test(name, (t) => {
      const runFile = writeRunFile(path.join(folder, name), {
        ...overrides,
        model,
        data: { eval: null },
        checkpoint: { every: null, keep: 1 },
        threads: 2,
      });
      const script = path.join(import.meta.dirname, "measureMemory.ts");
      const measured = JSON.parse(execFileSync(process.execPath, [script, runFile], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }));
      const { loadedBytes, peakBytes, ledgerBytes, reportedBytes, plannedBytes } = measured;
      const mega = (bytes: number) => Math.round(bytes / 1e6);
      t.diagnostic(
        `before ${mega(loadedBytes)} MB, growth ${mega(peakBytes - loadedBytes)}, ledger ${mega(ledgerBytes)}, plan ${mega(plannedBytes)}, memory event ${mega(reportedBytes)}`,
      );
      assert.ok(ledgerBytes > 200e6 && ledgerBytes <= plannedBytes);
      assert.ok(peakBytes - loadedBytes <= 1.05 * ledgerBytes + 64e6, JSON.stringify(measured));
      // The memory cannot be less than what the ledger says was written.
      assert.ok(peakBytes - loadedBytes >= 0.8 * ledgerBytes, JSON.stringify(measured));
      assert.ok(reportedBytes <= peakBytes && reportedBytes >= 0.8 * ledgerBytes, JSON.stringify(measured));
      rmSync(path.join(folder, name), { recursive: true });
    });
});
