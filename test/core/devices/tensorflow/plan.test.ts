/**
 * The memory of runs on TensorFlow: a bf16 weight is planned and counted with the 4 bytes it takes, and a plan is compared with the memory that the engine at
 * hand computes in: what WebAssembly's addresses reach, or the card's where node-gpu is installed, and WebAssembly's again where that turns out not to load.
 */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { beforeEach, type TestContext, test } from "node:test";
import { memoryOf } from "../../../../src/core/deviceMemory.ts";
import { toolVariable } from "../../../../src/core/devices/cardMonitor/tool.ts";
import { plannedDevice } from "../../../../src/core/devices/open.ts";
import { wasmMemoryBytes } from "../../../../src/core/devices/tensorflow/engine.ts";
import { openModelConfig } from "../../../../src/core/files/modelFolder.ts";
import { createRunFolder } from "../../../../src/core/files/runFolder.ts";
import { planMemory } from "../../../../src/core/plan.ts";
import { checkRun, openRun } from "../../../../src/core/prepare.ts";
import { engineFolderVariable } from "../../../../src/install/engineFolder.ts";
import { stringifyRunConfig } from "../../../../src/protocol/runConfig.ts";
import { parseSelection } from "../../../../src/protocol/selection.ts";
import { UserError } from "../../../../src/protocol/userError.ts";
import { fakeNvidiaSmi } from "../../../support/fakeNvidiaSmi.ts";
import { readConfig, session, temporaryFolder, writeRunFile } from "../../run/smallRuns.ts";

const mib = 2 ** 20;

beforeEach(() => {
  process.env[engineFolderVariable] = path.join(os.tmpdir(), "no-engine-lies-here");
});

/** A folder with a package of that name that cannot be loaded. */
function installed(t: TestContext, name: string): string {
  const folder = temporaryFolder(t);
  const own = path.join(folder, "node_modules/@tensorflow", name);
  mkdirSync(own, { recursive: true });
  writeFileSync(path.join(own, "package.json"), JSON.stringify({ name: `@tensorflow/${name}`, version: "4.22.0", main: "index.js" }));
  writeFileSync(path.join(own, "index.js"), 'throw new Error("Could not load libcudart.so.11.0")');
  return folder;
}

const selection = {
  version: 1,
  blockSize: 16,
  blocks: [0, 1].flatMap((layer) =>
    ["self_attn.v_proj", "mlp.down_proj"].map((map) => ({ name: `model.layers.${layer}.${map}`, row: layer, column: 2 })),
  ),
};

for (const method of [{ name: "smt", selection: "selection.json" }, { name: "full" }, { name: "lora", rank: 4 }])
  test(`${method.name} in bf16: the plan is the ledger's peak to the byte, with 4 bytes a weight`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(path.join(folder, "selection.json"), JSON.stringify(selection));
    const train = { steps: 1, precision: "bf16", batchSize: 1, sequenceLength: 32 };
    const runFile = writeRunFile(folder, { device: "tensorflow", method, train, data: { eval: null } });
    const config = readConfig(runFile);
    const { config: model } = await openModelConfig(config.model);
    const known = method.name === "smt" ? parseSelection(JSON.stringify(selection), "selection.json") : null;
    const plan = await planMemory(config, model, known, plannedDevice("tensorflow", 2));
    const onCpu = await planMemory(config, model, known, plannedDevice("cpu", 2));
    let peak = { bytes: 0, bytesByClass: {} };
    await session(runFile, {
      async onDone({ device }) {
        peak = { bytes: device.ledger.peakBytes, bytesByClass: device.ledger.peakBytesByClass };
      },
    });
    assert.ok(plan.exact);
    assert.deepEqual(peak, { bytes: plan.peakBytes, bytesByClass: plan.bytesByClass });
    // Vectors are f32 everywhere, and few.
    const share = plan.bytesByClass.weights / onCpu.bytesByClass.weights;
    assert.ok(share > 1.9 && share <= 2, `weights take ${share} times what they take in bf16`);
  });

test("a plan is compared with what the engine at hand computes in", async (t) => {
  const [wasm, cpu] = [plannedDevice("tensorflow", 2), plannedDevice("cpu", 2)];
  assert.equal(wasm.description, "tensorflow: WebAssembly; each weight takes 4 bytes");
  const reached = await memoryOf(wasm.place);
  assert.deepEqual([reached.kind, reached.totalBytes], os.totalmem() > wasmMemoryBytes ? ["engine", wasmMemoryBytes] : ["machine", os.totalmem()]);
  assert.ok((reached.freeBytes ?? Number.POSITIVE_INFINITY) <= os.totalmem());
  assert.equal((await memoryOf(cpu.place)).kind, "machine");
  process.env[toolVariable] = fakeNvidiaSmi(path.join(temporaryFolder(t), "tool"), "full-card").file;
  t.after(() => delete process.env[toolVariable]);
  assert.equal((await memoryOf(wasm.place)).kind, reached.kind, "the card is no business of WebAssembly's");
  process.env[engineFolderVariable] = installed(t, "tfjs-node");
  assert.equal((await memoryOf(plannedDevice("tensorflow", 2).place)).kind, "machine");
  process.env[engineFolderVariable] = installed(t, "tfjs-node-gpu");
  const onCard = plannedDevice("tensorflow", 2);
  assert.equal(
    onCard.description,
    "tensorflow: @tensorflow/tfjs-node-gpu, on the graphics card if it finds one it can use; each weight takes 4 bytes",
  );
  const card = await memoryOf(onCard.place);
  assert.deepEqual([card.kind, card.freeBytes, card.mostBytes], ["card", 120 * mib, 120 * mib]);
  assert.match(card.text, /NVIDIA T600 has 120 MiB free/);
});

const skip = os.totalmem() < 1.5 * wasmMemoryBytes && "not run: this machine has little more memory than WebAssembly's addresses reach";

test("what WebAssembly cannot reach is refused with a change that fits, also where it stands in for what does not load", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const train = { batchSize: 1024, sequenceLength: 256, recompute: "none", precision: "f32" };
  const config = { ...readConfig(writeRunFile(folder, { train, method: { name: "full" } })), device: "tensorflow" as const };
  for (const name of [null, "tfjs-node-gpu"]) {
    if (name) process.env[engineFolderVariable] = installed(t, name);
    const checked = await checkRun(config);
    assert.ok(checked.plan.peakBytes > wasmMemoryBytes, `the plan is ${checked.plan.peakBytes}`);
    const runFolder = await createRunFolder(config.output, `small-${name}`, stringifyRunConfig(config));
    const notices: string[] = [];
    const refusal = await openRun(checked, runFolder, null, (event) => void (event.kind === "notice" && notices.push(event.message))).then(
      () => assert.fail("it was opened"),
      (error: unknown) => error as UserError,
    );
    await checked.base.close().catch(() => undefined);
    assert.ok(refusal instanceof UserError && refusal.code === "run/memory-too-small", String(refusal));
    assert.match(refusal.message, /of memory; the device's engine reaches 4\.00 GiB\.$/);
    assert.match(refusal.action, /^Set train\.recompute to layer.* Or use device: cpu\.$/);
    assert.doesNotMatch(refusal.action, /bf16/, "it takes as much here");
    assert.equal(
      notices.some((notice) => notice.includes("libcudart")),
      name !== null,
    );
  }
});
