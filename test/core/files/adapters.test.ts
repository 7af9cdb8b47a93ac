/**
 * Adapters in files. Our own format: refused without its description, on another base, or with a tensor missing or misshapen. PEFT's: the exact keys and
 * tensor names that it writes and reads, an adapter that PEFT itself made, and by name everything that would be computed otherwise.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { adapterShapes } from "../../../src/core/adapterParameters.ts";
import { openAdapter, writeAdapter } from "../../../src/core/files/adapterFile.ts";
import { type ModelFolder, openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { openSafetensors, type SafetensorsDType } from "../../../src/core/files/safetensors.ts";
import { entryOf, writeSafetensors } from "../../../src/core/files/safetensorsWriter.ts";
import type { StoredAdapter } from "../../../src/core/files/storedAdapter.ts";
import { openModel } from "../../../src/core/inference.ts";
import { runLogits } from "../../../src/core/model/llama.ts";
import { Random } from "../../../src/core/random.ts";
import { type AdapterConfig, parseRunFile } from "../../../src/protocol/runConfig.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { prunedCopy } from "../run/prunedModel.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

const fixture = path.resolve(import.meta.dirname, "../../fixtures/peft");
const common = temporaryFolder({ after });
let base: ModelFolder;
before(async () => {
  base = await openModelFolder(storyFolder);
});
after(() => base.close());

function configOf(method: string): AdapterConfig {
  return parseRunFile(`{model: m, data: {train: t}, method: ${method}}`, "run.yaml").method as AdapterConfig;
}

/** Random values for every parameter of a method. */
function randomAdapter(method: string): StoredAdapter {
  const config = configOf(method);
  const shapes = adapterShapes(config, base.config);
  const random = new Random(5);
  const values = new Map(
    [...shapes].map(([name, shape]) => [name, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal())]),
  );
  return { config, precision: "bf16", shapes, read: async (name) => values.get(name) as Float32Array, notices: [], close: async () => {} };
}

let count = 0;
/** A folder with an adapter of random values. */
async function written(method: string): Promise<string> {
  const folder = path.join(common, String(count++));
  await writeAdapter(folder, randomAdapter(method), base);
  return folder;
}

/** Writes a folder's tensors anew with a change. */
async function withTensors(
  folder: string,
  file: string,
  change: (tensors: Map<string, { dtype: SafetensorsDType; shape: readonly number[]; bytes: Uint8Array }>) => void,
): Promise<void> {
  const opened = await openSafetensors(path.join(folder, file));
  const tensors = new Map<string, { dtype: SafetensorsDType; shape: readonly number[]; bytes: Uint8Array }>();
  for (const [name, { dtype, shape }] of opened.header.tensors) tensors.set(name, { dtype, shape, bytes: await opened.readBytes(name) });
  await opened.close();
  change(tensors);
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => entryOf(name, dtype, shape, () => bytes));
  await writeSafetensors(path.join(folder, file), entries, { format: "pt" });
}

function withJson(folder: string, file: string, change: (json: Record<string, unknown>) => void): void {
  const place = path.join(folder, file);
  const json = JSON.parse(readFileSync(place, "utf8"));
  change(json);
  writeFileSync(place, JSON.stringify(json));
}

async function refusal(folder: string, model = base): Promise<string> {
  try {
    const adapter = await openAdapter(folder, model);
    try {
      for (const name of adapter.shapes.keys()) await adapter.read(name);
    } finally {
      await adapter.close();
    }
    return `accepted ${adapter.notices.join(" ")}`.trim();
  } catch (error) {
    assert.ok(error instanceof UserError && error.badInput && error.action.length > 10, String(error));
    return `${error.code}: ${error.message}`;
  }
}

describe("our own format", () => {
  const methods = [
    "{name: lors, rank: 3}",
    "{name: spp, groups: 4, scaling: 3}",
    "{name: sqft, rank: 4, alpha: 6, targets: [q_proj, model.layers.1.mlp.up_proj]}",
  ];
  for (const method of methods)
    test(`${method} comes back with its settings and every bit`, async () => {
      const made = randomAdapter(method);
      const folder = path.join(common, String(count++));
      await writeAdapter(folder, made, base);
      const read = await openAdapter(folder, base);
      assert.deepEqual([read.config, read.precision, read.shapes, read.notices], [made.config, "bf16", made.shapes, []]);
      for (const name of made.shapes.keys()) assert.deepEqual(await read.read(name), await made.read(name));
      await read.close();
    });

  test("the description says method, mask, scaling and base, and no path of this machine", async () => {
    const text = readFileSync(path.join(await written("{name: lors, rank: 4, alpha: 6}"), "sparse-tuner-adapter.json"), "utf8");
    const json = JSON.parse(text);
    assert.deepEqual([json.format, json.version, json.mask, json.scaling, json.base], ["sparse-tuner-adapter", 1, "base != 0", 3, "model"]);
    assert.deepEqual(json.method, configOf("{name: lors, rank: 4, alpha: 6}"));
    assert.match(json.baseSha256, /^[0-9a-f]{64}$/);
    assert.ok(!text.includes(storyFolder));
    const ofSpp = JSON.parse(readFileSync(path.join(await written("{name: spp}"), "sparse-tuner-adapter.json"), "utf8"));
    assert.deepEqual([ofSpp.mask, ofSpp.scaling], [null, 2]);
  });

  const description = "sparse-tuner-adapter.json";
  const tensor = "model.layers.1.self_attn.v_proj.lors_B";
  const refused: [string, (folder: string) => void | Promise<void>, RegExp][] = [
    ["without its description", (folder) => rmSync(path.join(folder, description)), /^adapter\/no-description: .* has no sparse-tuner-adapter\.json/],
    [
      "of a later version",
      (folder) => withJson(folder, description, (json) => Object.assign(json, { version: 2 })),
      /^adapter\/invalid: .*version 2/,
    ],
    [
      "of something else",
      (folder) => withJson(folder, description, (json) => Object.assign(json, { format: "lora" })),
      /^adapter\/invalid: .*does not describe/,
    ],
    [
      "without a mask",
      (folder) => withJson(folder, description, (json) => Object.assign(json, { mask: null })),
      /^adapter\/invalid: .*mask is not that of lors/,
    ],
    [
      "with another scaling",
      (folder) => withJson(folder, description, (json) => Object.assign(json, { scaling: 1 })),
      /^adapter\/invalid: .*scaling 1 is not/,
    ],
    ["without a base", (folder) => withJson(folder, description, (json) => delete json.baseSha256), /^adapter\/invalid: .*incomplete.*baseSha256/],
    [
      "with settings that no run file has",
      (folder) => withJson(folder, description, ({ method }) => Object.assign(method as object, { rank: -1 })),
      /^adapter\/invalid: .*incomplete/,
    ],
    [
      "of a method that PEFT knows",
      (folder) => withJson(folder, description, (json) => Object.assign(json, { method: configOf("{name: lora}") })),
      /^adapter\/invalid: .*lora has another format/,
    ],
    ["that is no JSON", (folder) => writeFileSync(path.join(folder, description), "{"), /^model\/bad-json/],
    [
      "with a tensor missing",
      (folder) => withTensors(folder, "adapter.safetensors", (tensors) => void tensors.delete(tensor)),
      /^adapter\/missing-tensor: .*model\.layers\.1\.self_attn\.v_proj\.lors_B/,
    ],
    [
      "with a tensor of another shape",
      (folder) =>
        withTensors(folder, "adapter.safetensors", (tensors) => {
          const { dtype, bytes } = tensors.get(tensor) as { dtype: SafetensorsDType; bytes: Uint8Array };
          tensors.set(tensor, { dtype, shape: [128, 4], bytes });
        }),
      /^adapter\/wrong-shape: .*v_proj\.lors_B.* \(128, 4\).* \(4, 128\)/,
    ],
    [
      "with a tensor too many",
      (folder) =>
        withTensors(folder, "adapter.safetensors", (tensors) => void tensors.set("more", { dtype: "F32", shape: [0], bytes: new Uint8Array() })),
      /^adapter\/invalid: .*"more"/,
    ],
    [
      "with values that are no numbers",
      (folder) => withTensors(folder, "adapter.safetensors", (tensors) => void tensors.get(tensor)?.bytes.set([0, 0, 192, 127])),
      /^adapter\/not-finite: .*v_proj\.lors_B/,
    ],
  ];
  for (const [name, damage, expected] of refused)
    test(`refused: ${name}`, async () => {
      const folder = await written("{name: lors, rank: 4}");
      assert.equal(await refusal(folder), "accepted");
      await damage(folder);
      assert.match(await refusal(folder), expected);
    });

  test("refused: on another base, by its name", async () => {
    const folder = await written("{name: lors, rank: 4}");
    const other = await openModelFolder(await prunedCopy(storyFolder, path.join(common, "other")));
    assert.match(await refusal(folder, other), /^adapter\/wrong-base: .* a model called "model"; the weights of .*other are others/);
    await other.close();
    const same = path.join(common, "same");
    cpSync(storyFolder, same, { recursive: true });
    const copy = await openModelFolder(same);
    assert.equal(await refusal(folder, copy), "accepted");
    await copy.close();
  });
});

describe("PEFT's format", () => {
  /** Keys that PEFT 0.10 and later have in common. */
  const keys = [
    ...["alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights"],
    ...["layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "rank_pattern", "revision"],
    ...["target_modules", "task_type", "use_dora", "use_rslora"],
  ];

  test("exactly the keys and tensors that PEFT has, each of its shape", async () => {
    const method =
      "{name: dora, rank: 4, alpha: 8, dropout: 0.1, rankStabilized: true, targets: [q_proj, down_proj], ranks: {q_proj: 3, model.layers.1.mlp.down_proj: 6}}";
    const folder = await written(method);
    const json = JSON.parse(readFileSync(path.join(folder, "adapter_config.json"), "utf8"));
    assert.deepEqual(Object.keys(json), keys);
    assert.deepEqual(json, {
      ...{ alpha_pattern: {}, auto_mapping: null, base_model_name_or_path: "model", bias: "none", fan_in_fan_out: false, inference_mode: true },
      ...{ init_lora_weights: true, layers_pattern: null, layers_to_transform: null, lora_alpha: 8, lora_dropout: 0.1, modules_to_save: null },
      ...{
        peft_type: "LORA",
        r: 4,
        revision: null,
        target_modules: ["q_proj", "down_proj"],
        task_type: "CAUSAL_LM",
        use_dora: true,
        use_rslora: true,
      },
      rank_pattern: { "model.layers.0.self_attn.q_proj": 3, "model.layers.1.self_attn.q_proj": 3, "model.layers.1.mlp.down_proj": 6 },
    });
    const file = await openSafetensors(path.join(folder, "adapter_model.safetensors"));
    const expected: Record<string, number[]> = {};
    for (const [module, rank, out, width] of [
      ["layers.0.self_attn.q_proj", 3, 128, 128],
      ["layers.0.mlp.down_proj", 4, 128, 384],
      ["layers.1.self_attn.q_proj", 3, 128, 128],
      ["layers.1.mlp.down_proj", 6, 128, 384],
    ] as const) {
      expected[`base_model.model.model.${module}.lora_A.weight`] = [rank, width];
      expected[`base_model.model.model.${module}.lora_B.weight`] = [out, rank];
      expected[`base_model.model.model.${module}.lora_magnitude_vector`] = [out];
    }
    assert.deepEqual(Object.fromEntries([...file.header.tensors].map(([name, { shape }]) => [name, shape])), expected);
    assert.deepEqual([...file.header.metadata], [["format", "pt"]]);
    assert.ok([...file.header.tensors.values()].every(({ dtype }) => dtype === "F32"));
    await file.close();
  });

  for (const method of [
    "{name: lora, rank: 4, ranks: {v_proj: 2}}",
    "{name: dora, rank: 2, alpha: 3}",
    "{name: lora, targets: [model.layers.1.mlp.up_proj]}",
  ])
    test(`${method} comes back with its settings and every bit`, async () => {
      const made = randomAdapter(method);
      const folder = path.join(common, String(count++));
      await writeAdapter(folder, made, base);
      const read = await openAdapter(folder, base);
      assert.deepEqual(read.shapes, made.shapes);
      assert.deepEqual(adapterShapes(read.config, base.config), made.shapes);
      const { targets: _targets, ranks: _ranks, ...settings } = made.config as Extract<AdapterConfig, { name: "lora" }>;
      const { targets: _others, ranks: _otherRanks, ...back } = read.config as Extract<AdapterConfig, { name: "lora" }>;
      assert.deepEqual([back, read.notices], [settings, []]);
      for (const name of made.shapes.keys()) assert.deepEqual(await read.read(name), await made.read(name));
      await read.close();
    });

  test("an adapter that PEFT made, with other ranks and alphas for some modules, computes what PEFT computes", async () => {
    const { ids, logits }: { ids: number[]; logits: number[] } = JSON.parse(readFileSync(path.join(fixture, "expected.json"), "utf8"));
    const opened = await openModel(fixture, { device: "auto", threads: 1, positions: 64, precision: "f32", base: storyFolder });
    const ours = await opened.model.device.read(await runLogits(opened.model, opened.method, Int32Array.from(ids), 1, null));
    opened.close();
    const difference = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - ours[i])), 0);
    assert.ok(difference <= 1e-4, `largest difference ${difference}`);
    const plain = await openModel(storyFolder, { device: "auto", threads: 1, positions: 64, precision: "f32" });
    const without = await plain.model.device.read(await runLogits(plain.model, plain.method, Int32Array.from(ids), 1, null));
    plain.close();
    assert.ok(
      logits.some((value, i) => Math.abs(value - without[i]) > 1),
      "the adapter changes much",
    );
  });

  const config = "adapter_config.json";
  const tensors = "adapter_model.safetensors";
  const set = (entries: object) => (folder: string) => withJson(folder, config, (json) => Object.assign(json, entries));
  const first = "base_model.model.model.layers.0.self_attn.q_proj";
  const cases: [string, (folder: string) => void | Promise<void>, RegExp][] = [
    ["as PEFT wrote it", () => {}, /^accepted$/],
    [
      "with newer keys that say something, said",
      set({ peft_version: "9", brand_new: 3, brand_old: null, brand_off: false, brand_empty: {} }),
      /^accepted \S+adapter_config\.json has "brand_new" \(3\), which this program does not know: it is taken to change nothing\.$/,
    ],
    ["of another kind", set({ peft_type: "IA3" }), /^adapter\/unsupported: .*peft_type is "IA3"/],
    ["with trained biases", set({ bias: "lora_only" }), /^adapter\/unsupported: .*bias is "lora_only"/],
    ["with whole modules", set({ modules_to_save: ["lm_head"] }), /^adapter\/unsupported: .*modules_to_save is \["lm_head"\]/],
    ["with a changed base", set({ init_lora_weights: "pissa_niter_16" }), /^adapter\/unsupported: .*init_lora_weights is "pissa_niter_16"/],
    ["with copied layers", set({ layer_replication: [[0, 2]] }), /^adapter\/unsupported: .*layer_replication/],
    ["that acts at some tokens only", set({ alora_invocation_tokens: [5] }), /^adapter\/unsupported: .*alora_invocation_tokens/],
    ["with a pattern that is a program", set({ alpha_pattern: { "(a+)+$": 3 } }), /^adapter\/unsupported: .*regular expression/],
    ["without a rank", set({ r: null }), /^adapter\/invalid: .* r is null/],
    ["without DoRA's key", set({ use_dora: false }), /^adapter\/invalid: .*magnitude .*use_dora/],
    [
      "with one magnitude missing",
      (folder) => withTensors(folder, tensors, (all) => void all.delete(`${first}.lora_magnitude_vector`)),
      /^adapter\/missing-tensor: .*q_proj\.lora_magnitude_vector/,
    ],
    [
      "with one A missing",
      (folder) => withTensors(folder, tensors, (all) => void all.delete(`${first}.lora_A.weight`)),
      /^adapter\/missing-tensor: .*q_proj\.lora_A\.weight/,
    ],
    [
      "of a module that is not adapted here",
      (folder) =>
        withTensors(
          folder,
          tensors,
          (all) => void all.set("base_model.model.lm_head.lora_A.weight", { dtype: "F32", shape: [0], bytes: new Uint8Array() }),
        ),
      /^adapter\/unsupported: .*"base_model\.model\.lm_head\.lora_A\.weight"/,
    ],
    [
      "of a deeper model",
      (folder) =>
        withTensors(folder, tensors, (all) => {
          const name = `${first}.lora_A.weight`;
          all.set(name.replace("layers.0", "layers.9"), all.get(name) as never);
        }),
      /^adapter\/unsupported: .*layers\.9/,
    ],
    [
      "of a wider model",
      (folder) =>
        withTensors(folder, tensors, (all) => {
          const name = `${first}.lora_B.weight`;
          const { dtype, bytes } = all.get(name) as never as { dtype: SafetensorsDType; bytes: Uint8Array };
          all.set(name, { dtype, shape: [256, 1], bytes });
        }),
      /^adapter\/wrong-shape: .*q_proj\.lora_B\.weight.* \(256, 1\)/,
    ],
    [
      "as a pickle",
      (folder) => {
        rmSync(path.join(folder, tensors));
        writeFileSync(path.join(folder, "adapter_model.bin"), "\x80\x02");
      },
      /^adapter\/pickle: .*adapter_model\.bin is a pickle, which could run code and is never opened/,
    ],
    ["without its configuration", (folder) => rmSync(path.join(folder, config)), /^adapter\/no-description: .*adapter_config\.json/],
  ];
  for (const [name, change, expected] of cases)
    test(`${expected.source.startsWith("^accepted") ? "read" : "refused"}: ${name}`, async () => {
      const folder = path.join(common, String(count++));
      mkdirSync(folder);
      for (const file of [config, tensors]) cpSync(path.join(fixture, file), path.join(folder, file));
      await change(folder);
      assert.match(await refusal(folder), expected);
    });
});
