/**
 * The shell's decisions, without a window: what can be done to a run in which state, what is told of a change, which buttons a failure gets, what New Run
 * writes, how a batch is lowered, what a walk through folders finds, how texts and tables read.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import "./withVscode.ts";
import type { Answer } from "../../src/extension/commands/multiStep.ts";
import type { MethodName } from "../../src/extension/commands/runFileText.ts";
import { type RunState, runStates } from "../../src/protocol/panelProtocol.ts";
import { checkRunFile } from "../../src/protocol/runConfig.ts";
import { runSchema } from "../../src/protocol/runSchema.ts";
import { UserError } from "../../src/protocol/userError.ts";

const { lowerBatchEdits, withEdits } = await import("../../src/extension/commands/runFileEdits.ts");
const { runFileText } = await import("../../src/extension/commands/runFileText.ts");
const { table } = await import("../../src/extension/commands/textTable.ts");
const { cachedModels, findFiles, huggingFaceCache } = await import("../../src/extension/commands/workspaceFiles.ts");
const { escapeLines, unescapeLines } = await import("../../src/extension/commands/tryModel.ts");
const { doctorText } = await import("../../src/extension/commands/doctor.ts");
const { planText } = await import("../../src/extension/commands/planMemory.ts");
const { askAll, back } = await import("../../src/extension/commands/multiStep.ts");
const { nameProblem } = await import("../../src/extension/commands/runFolders.ts");
const { failureActions, toFailure } = await import("../../src/extension/failures.ts");
const { noticeOf } = await import("../../src/extension/notifications.ts");
const { abilitiesOf, contextOf, isLive } = await import("../../src/extension/views/runAbilities.ts");

function folderWith(files: Record<string, string>): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse tuner # "));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  return folder;
}

test("a live run is neither removed nor resumed twice; one at rest is neither paused nor stopped", () => {
  for (const state of runStates) {
    const abilities = abilitiesOf(state);
    if (isLive({ state })) assert.ok(!abilities.includes("remove"), state);
    else for (const ability of ["pause", "stop", "kill"] as const) assert.ok(!abilities.includes(ability), state);
    assert.equal(abilities.includes("resume"), ["pausing", "paused", "stopped", "interrupted", "failed"].includes(state), state);
  }
});

test("context keys follow the run in front; without one any run counts, and what is not known is offered", () => {
  assert.deepEqual(contextOf("running", ["finished"], true), {
    canStart: false,
    canPause: true,
    canResume: false,
    canStop: true,
    canKill: false,
    canUse: true,
    canRemove: false,
    canUnlock: false,
  });
  assert.equal(contextOf(null, ["running", "finished"], true).canRemove, true);
  assert.equal(contextOf(null, ["running"], true).canResume, false);
  assert.equal(contextOf(null, ["running"], false).canResume, true);
  assert.equal(contextOf(null, [], true).canStart, true);
  assert.equal(contextOf("draft", [], false).canResume, false);
});

test("only what happened to a live run is told, and only of the kinds that were asked for", () => {
  const told = (level: "all" | "failures" | "none") => (["finished", "failed", "waiting"] as const).map((now) => noticeOf("running", now, level));
  assert.deepEqual(told("all"), ["finished", "failed", "waiting"]);
  assert.deepEqual(told("failures"), [null, "failed", "waiting"]);
  assert.deepEqual(told("none"), [null, null, null]);
  for (const now of runStates) {
    assert.equal(noticeOf(undefined, now, "all"), null, `${now} when the window opened`);
    for (const before of runStates.filter((state) => !isLive({ state }))) assert.equal(noticeOf(before, now, "all"), null, `${before} → ${now}`);
  }
  for (const now of ["paused", "stopped", "stopping", "running", "notResponding", "interrupted"] as const)
    assert.equal(noticeOf("running", now, "all"), null, now);
});

test("every failure gets a button that leads on, and those of its kind", () => {
  const none = { code: "data/no-usable-row", place: null };
  assert.deepEqual(failureActions(none, null), ["showLog", "copyReport"]);
  assert.deepEqual(failureActions({ ...none, place: { file: "/a.jsonl", line: 3 } }, null)[0], "openAtLine");
  assert.deepEqual(failureActions({ code: "run/memory-too-small", place: null }, "failed"), ["lowerBatch", "resume", "showLog", "copyReport"]);
  assert.deepEqual(failureActions({ code: "trust/restricted", place: null }, null), ["manageTrust"]);
  assert.deepEqual(failureActions({ code: "run/elsewhere", place: null }, null), ["removeLock", "showLog", "copyReport"]);
  const states: (RunState | null)[] = [null, ...runStates];
  fc.assert(fc.property(fc.string(), fc.constantFrom(...states), (code, state) => failureActions({ code, place: null }, state).length > 0));
});

test("a refusal keeps its code and the place it names; anything else is a bug to report", () => {
  assert.deepEqual(toFailure(new UserError("config/invalid", "/w s/a.sparse-tuner.yaml:12:3: train.steps must be a number", "Correct it.")), {
    code: "config/invalid",
    message: "/w s/a.sparse-tuner.yaml:12:3: train.steps must be a number",
    action: "Correct it.",
    place: { file: "/w s/a.sparse-tuner.yaml", line: 12 },
  });
  assert.equal(toFailure(new TypeError("x is undefined")).code, "internal");
  assert.equal(toFailure("a string").message, "a string");
});

test("New Run writes a run file that is read back as it was asked for, whatever the folders are called", () => {
  const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter((text) => !/[/\\\0\n\r]|^\.+$/.test(text));
  fc.assert(
    fc.property(name, name, fc.constantFrom("\n", "\r\n"), fc.boolean(), (model, data, lineEnd, inside) => {
      const folder = "/work space/#1";
      const base = inside ? folder : "/else where";
      const asked = {
        model: `${base}/${model}`,
        data: `${base}/${data}.jsonl`,
        method: "smt" as const,
        budget: { key: "blocks" as const, value: 7 },
        size: null,
        keepZeros: false,
      };
      const text = runFileText(asked, folder, "A comment.", lineEnd);
      const { config, problems } = checkRunFile(text, `${folder}/a.sparse-tuner.yaml`);
      assert.deepEqual(problems, []);
      assert.equal(config?.model, asked.model);
      assert.equal(config?.data.train, asked.data);
      assert.equal(config?.method.name === "smt" && config.method.blocks, 7);
      assert.equal(text.includes(base), !inside, "what lies below the folder is written relative to it");
    }),
  );
});

test("New Run writes each method with what was asked of it, and defaults for the rest", () => {
  const written = (method: MethodName, more: { size?: number; keepZeros?: boolean } = {}) => {
    const asked = { model: "/m", data: "/d.csv", method, budget: { key: "ratio", value: 0.1 } as const, size: null, keepZeros: false, ...more };
    const text = runFileText(asked, "/w", "c", "\n");
    const { config, problems } = checkRunFile(text, "/w/a.yaml");
    assert.deepEqual(problems, []);
    return { method: config?.method as Record<string, unknown>, text };
  };
  for (const { properties } of runSchema.properties.method.anyOf) assert.equal(written(properties.name.const).method.name, properties.name.const);
  assert.deepEqual(written("full").method, { name: "full", sparse: "ignore" });
  assert.equal(written("full", { keepZeros: true }).method.sparse, "keep");
  assert.match(written("lors").text, /name: lors\n {2}rank: 16\n/);
  assert.deepEqual([written("lora", { size: 8 }).method.rank, written("lora", { size: 8 }).method.alpha], [8, 16]);
  assert.deepEqual([written("lors", { size: 64 }).method.rank, written("lors", { size: 64 }).method.alpha], [64, 64]);
  assert.deepEqual([written("sqft").method.rank, written("sqft").method.alpha], [32, 64]);
  assert.equal(written("spp", { size: 4 }).method.groups, 4);
});

test("a lowered batch takes less and trains the same update, as long as there is one to lower", () => {
  const file = "/w/a.sparse-tuner.yaml";
  let text = "# mine\nmodel: m\ndata: { train: d.jsonl }\ntrain:\n  batchSize: 6 # rows\n  gradientAccumulation: 2\n  sequenceLength: 64\n";
  const seen: string[] = [];
  for (let lower = lowerBatchEdits(text, file); lower; lower = lowerBatchEdits(text, file)) {
    text = withEdits(text, lower.changes);
    const train = checkRunFile(text, file).config?.train;
    assert.ok(train, text);
    assert.ok(train.batchSize * train.gradientAccumulation >= 12);
    seen.push(`${train.batchSize} ${train.gradientAccumulation} ${train.recompute} ${train.sequenceLength}`);
  }
  assert.deepEqual(seen, ["3 4 none 64", "1 12 none 64", "1 12 layer 64", "1 12 layer 32", "1 12 layer 16"]);
  assert.ok(text.startsWith("# mine\n") && text.includes("# rows"));
  assert.equal(lowerBatchEdits("model: [", file), null);
});

test("a walk finds run files, models and data, and leaves out what tools keep there", async () => {
  const folder = folderWith({
    "a.sparse-tuner.yaml": "",
    "b/c d/#e.sparse-tuner.yml": "",
    "models/tiny/config.json": "{}",
    "models/tiny/model.safetensors": "",
    "models/tiny/extra.json": "{}",
    "models/empty/config.json": "{}",
    "data/train.jsonl": "",
    "data/rows.json": "",
    "package.json": "{}",
    "tsconfig.build.json": "{}",
    "README.txt": "",
    "node_modules/x/data.jsonl": "",
    ".sparse-tuner/runs/1/run.yaml": "",
    ".git/y.jsonl": "",
    "1/2/3/4/5/6/deep.jsonl": "",
  });
  symlinkSync(folder, path.join(folder, "loop"));
  try {
    const found = await findFiles([folder]);
    const relative = (files: string[]) => files.map((file) => path.relative(folder, file).replaceAll(path.sep, "/"));
    assert.deepEqual(relative(found.runFiles), ["a.sparse-tuner.yaml", "b/c d/#e.sparse-tuner.yml"]);
    assert.deepEqual(relative(found.modelFolders), ["models/tiny"]);
    assert.deepEqual(relative(found.dataFiles), ["data/rows.json", "data/train.jsonl"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the Hugging Face cache is where its own tools say, and its models are the revision that main names", async () => {
  assert.equal(huggingFaceCache({ HF_HUB_CACHE: "/hub" }, "/home/me"), "/hub");
  assert.equal(huggingFaceCache({ HF_HOME: "/hf" }, "/home/me"), path.join("/hf", "hub"));
  assert.equal(huggingFaceCache({ XDG_CACHE_HOME: "/cache" }, "/home/me"), path.join("/cache", "huggingface", "hub"));
  assert.equal(huggingFaceCache({}, "/home/me"), path.join("/home/me", ".cache", "huggingface", "hub"));
  const model = (revision: string) => `models--owner--name/snapshots/${revision}`;
  const cache = folderWith({
    "models--owner--name/refs/main": "aaa\n",
    [`${model("aaa")}/config.json`]: "{}",
    [`${model("aaa")}/model.safetensors`]: "",
    [`${model("bbb")}/config.json`]: "{}",
    [`${model("bbb")}/model.safetensors`]: "",
    "models--owner--no-weights/snapshots/ccc/config.json": "{}",
    "datasets--owner--rows/snapshots/ddd/config.json": "{}",
  });
  try {
    assert.deepEqual(await cachedModels(cache), [{ name: "owner/name", folder: path.join(cache, "models--owner--name", "snapshots", "aaa") }]);
    assert.deepEqual(await cachedModels(path.join(cache, "none")), []);
  } finally {
    rmSync(cache, { recursive: true });
  }
});

test("a name that is taken, or would leave its folder, is refused", () => {
  const folder = folderWith({ "taken.sparse-tuner.yaml": "" });
  try {
    for (const name of ["my run #2", "训练 2", "हिन्दी", "训".repeat(66)]) assert.equal(nameProblem(folder, name), null, name);
    assert.match(nameProblem(folder, "taken", ".sparse-tuner.yaml") ?? "", /exists already/);
    for (const name of ["", ".", "..", "a/b", "a\\b", "../a", ".hidden", "a\nb", "a.", "a ", "x".repeat(201), "训".repeat(67)])
      assert.ok(nameProblem(folder, name), JSON.stringify(name));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a prompt of several lines fits into one, and comes back", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("a", "\n", "\\", "n", " ", "数") }), (text) => {
      assert.ok(!escapeLines(text).includes("\n"));
      assert.equal(unescapeLines(escapeLines(text)), text);
    }),
  );
});

test("steps are numbered among those that apply, go back over those that do not, and end with Escape", async () => {
  interface State {
    full: boolean;
    asked: string[];
  }
  const run = async (answers: Answer<true>[], full = false) => {
    const state: State = { full, asked: [] };
    const step = (name: string) => ({
      ask: async (to: State, { step: number, totalSteps }: { step: number; totalSteps: number }): Promise<Answer<true>> => {
        to.asked.push(`${name} ${number}/${totalSteps}`);
        return answers.shift();
      },
    });
    const done = await askAll("New Run", [step("model"), { ...step("budget"), applies: (to: State) => !to.full }, step("name")], state);
    return { done, asked: state.asked };
  };
  assert.deepEqual(await run([true, true, true]), { done: true, asked: ["model 1/3", "budget 2/3", "name 3/3"] });
  assert.deepEqual(await run([true, true], true), { done: true, asked: ["model 1/2", "name 2/2"] });
  assert.deepEqual(await run([true, back as never, true, true], true), { done: true, asked: ["model 1/2", "name 2/2", "model 1/2", "name 2/2"] });
  assert.deepEqual(await run([true, undefined]), { done: false, asked: ["model 1/3", "budget 2/3"] });
});

test("what is not usable says what was probed, what came back and one thing to do", () => {
  const text = doctorText(false, [
    { subject: "node", usable: true, probe: "process.versions.node", result: "Node 20", fix: null },
    { subject: "webgpu", usable: false, probe: "opening the device", result: "not in this version", fix: "Use cpu." },
    { subject: "disk", usable: true, probe: "writing", result: "1 GiB free", fix: "Free some space." },
  ]);
  assert.equal(
    text,
    "# Doctor\n\nA run cannot start on this machine yet.\n\n## node: ok\n\nNode 20\n\n## webgpu: not usable\n\nnot in this version\n\n- Probed: opening the device\n- Fix: Use cpu.\n\n## disk: ok\n\n1 GiB free\n\n- Fix: Free some space.\n",
  );
});

test("a memory plan names every class in bytes, full fine-tuning beside it, and whether it fits", () => {
  const bytes = (factor: number) => ({
    weights: 1000 * factor,
    trainable: 20 * factor,
    gradients: 30 * factor,
    optimizer: 40 * factor,
    activations: 5 * factor,
    workspace: 6 * factor,
  });
  const plan = {
    peakBytes: 1101,
    bytesByClass: bytes(1),
    bytesPerParameter: 2.5,
    exact: false,
    fullFineTuning: { peakBytes: 11010, bytesByClass: bytes(10), bytesPerParameter: 16 },
    device: "cpu (2 threads)",
    availableBytes: 2000,
    fits: true,
    memoryProblem: null,
    cheapestChange: null,
    trainableParameters: 10,
    totalParameters: 1000,
    warnings: ["The base is pruned, and LoRA fills its zeros."],
  };
  const text = planText(plan, "tune");
  for (const expected of [
    "tune",
    "1101",
    "11010",
    "1000",
    "10000",
    "cpu (2 threads)",
    "10.0 %",
    "1.00 %",
    "It fits",
    "Worst case",
    "899 B stay free",
    "Warning: The base is pruned, and LoRA fills its zeros.",
  ])
    assert.ok(text.includes(expected), `${expected} in\n${text}`);
  const tight = planText({ ...plan, fits: false, availableBytes: 1000, exact: true, cheapestChange: "Lower batchSize to 1." }, "tune");
  for (const expected of ["It does not fit", "101 B are missing", "Lower batchSize to 1.", "The plan is exact"])
    assert.ok(tight.includes(expected), expected);
  const memoryProblem = "The card's free memory is not known: no tool tells it.";
  const unknown = planText({ ...plan, fits: null, availableBytes: null, memoryProblem }, "tune");
  assert.ok(unknown.includes(`Whether it fits is not known. ${memoryProblem}`) && !/It (fits|does not fit)/.test(unknown), unknown);
});

test("a table's columns line up, with wide characters too", () => {
  assert.equal(
    table([
      ["", "本次"],
      ["权重", "1.00 KiB"],
      ["x", "2 B"],
    ]),
    "|      |     本次 |\n|------|---------:|\n| 权重 | 1.00 KiB |\n| x    |      2 B |",
  );
});

test("the demo that Run Demo copies is complete and below its own folder", () => {
  const file = path.resolve(import.meta.dirname, "../../media/demo/demo.sparse-tuner.yaml");
  const { config } = checkRunFile(readFileSync(file, "utf8"), file);
  assert.ok(config);
  for (const used of [config.model, config.data.train, config.data.eval, config.output])
    assert.ok(used?.startsWith(path.dirname(file) + path.sep), String(used));
});
