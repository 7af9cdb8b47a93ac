/**
 * What `device: auto` takes and what it says of what it passed over; packages in place of @tensorflow/tfjs-node-gpu compute, crash, hang or compute wrong. And
 * that a plan, a start and its refusal are made for the device that was chosen.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { beforeEach, test } from "node:test";
import { planRun } from "../../../src/core/commands/plan.ts";
import { toolVariable } from "../../../src/core/devices/cardMonitor/tool.ts";
import { autoVariable, chooseDevice, probed, reasonAgainst } from "../../../src/core/devices/choose.ts";
import { openDevice, openDeviceFor } from "../../../src/core/devices/open.ts";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { checkRun, openRun } from "../../../src/core/prepare.ts";
import { engineFolderVariable } from "../../../src/install/engineFolder.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import type { UserError } from "../../../src/protocol/userError.ts";
import { fakeNvidiaSmi } from "../../support/fakeNvidiaSmi.ts";
import { type EngineConduct, standInEngine } from "../../support/standInTensorflow.ts";
import { readConfig, session, temporaryFolder, writeRunFile } from "../run/smallRuns.ts";

const skipped = process.platform === "linux" ? false : "not run: what this test expects of a machine without a card is Linux's";

beforeEach(() => {
  delete process.env[autoVariable];
  delete process.env[engineFolderVariable];
});

/** An engine that behaves so, not yet tried by this process. */
async function installed(test: { after(clean: () => void): void }, conduct: EngineConduct): Promise<void> {
  process.env[engineFolderVariable] = standInEngine(path.join(temporaryFolder(test), conduct), conduct);
  await probed("tensorflow", { again: true });
}

/** Why TensorFlow was passed over, on a machine without a card. */
async function tensorflowReason(): Promise<string | undefined> {
  const { name, passedOver, surprising } = await chooseDevice("auto");
  assert.deepEqual([name, surprising], ["cpu", true]);
  return passedOver?.slice(passedOver.indexOf("not tensorflow"));
}

const card = { works: true, description: "webgpu: nvidia H100", software: false, onCard: true, largestBytes: 1 } as const;

test("a real card is taken; one that the processor plays, the processor and what does not work are not", () => {
  assert.equal(reasonAgainst(card), null);
  assert.match(reasonAgainst({ ...card, software: true }) ?? "", /the processor plays one \(webgpu: nvidia H100\)/);
  assert.match(reasonAgainst({ ...card, onCard: false }) ?? "", /on no graphics card/);
  assert.equal(reasonAgainst({ works: false, code: "device/unusable", reason: "It broke.", action: "", crashed: true }), "It broke");
});

test("the environment names what auto takes, and a name that means nothing is refused", async () => {
  process.env[autoVariable] = "tensorflow";
  const silent = { passedOver: null, surprising: false, tried: null };
  assert.deepEqual(await chooseDevice("auto"), { name: "tensorflow", ...silent });
  assert.deepEqual(await chooseDevice("cpu"), { name: "cpu", ...silent });
  process.env[autoVariable] = "gpu";
  await assert.rejects(chooseDevice("auto"), { code: "device/unknown" });
});

test("without card and engine auto takes the cpu at once, and says why", { skip: skipped }, async () => {
  const { name, passedOver, surprising } = await chooseDevice("auto");
  assert.deepEqual([name, surprising], ["cpu", false]);
  assert.match(
    passedOver ?? "",
    /^device: auto takes cpu\. Not webgpu: .* no(t installed| graphics card .*); not tensorflow: @tensorflow\/tfjs-node-gpu is not installed\.$/,
  );
  const { device, reasons } = await openDevice("auto", 1);
  assert.deepEqual([device.name, reasons.some((reason) => reason.includes("auto"))], ["cpu", false]);
  device.close();
});

const conducts: [EngineConduct, RegExp][] = [
  ["crashes", /^not tensorflow: the process that tried it crashed with SIGSEGV\.$/],
  ["computesWrong", /: it computes wrong: -?\d+ where -?\d+ is right\.$/],
  ["throws", /: @tensorflow\/tfjs-node-gpu in .* cannot be used: Could not load libcudart\.so\.11\.0/],
  ["computesOnProcessor", /: it computes on no graphics card \(tensorflow: tfjs-node-gpu 4\.22\.0 on the processor/],
];
for (const [conduct, reason] of conducts)
  test(`an engine that ${conduct} is passed over, and this process goes on`, { skip: skipped }, async (t) => {
    await installed(t, conduct);
    assert.match((await tensorflowReason()) ?? "none", reason);
    // Asked again it is the same answer, of the same process.
    const answer = await probed("tensorflow");
    assert.equal(await probed("tensorflow"), answer);
  });

test("a run on auto says what was passed over before it starts, and ends on the cpu", { skip: skipped }, async (t) => {
  await installed(t, "crashes");
  const { ended, events } = await session(writeRunFile(temporaryFolder(t), { train: { steps: 1 } }));
  assert.equal(ended, "done");
  const told = events.flatMap((event) => (event.kind === "notice" && event.code === "device/auto" ? [event.message] : []));
  assert.match(told.join("\n"), /not tensorflow: the process that tried it crashed with SIGSEGV/);
  const started = events.findIndex(({ kind }) => kind === "started");
  assert.ok(started > events.findIndex(({ kind }) => kind === "notice"));
});

test("an engine on a card is taken, and planned for; a model that the card has no room for goes to the cpu", { skip: skipped }, async (t) => {
  await installed(t, "computes");
  const folder = temporaryFolder(t);
  process.env[toolVariable] = fakeNvidiaSmi(path.join(folder, "tool"), "full-card").file;
  t.after(() => delete process.env[toolVariable]);
  const { name, passedOver } = await chooseDevice("auto");
  assert.equal(name, "tensorflow");
  assert.match(passedOver ?? "", /^device: auto takes tensorflow\. Not webgpu: [^;]*\.$/);
  assert.match((await planRun(readConfig(writeRunFile(folder)))).device, /^tensorflow/);

  const small = await openDeviceFor(2 ** 20, "auto", 1);
  const large = await openDeviceFor(2 ** 30, "auto", 1);
  assert.deepEqual([small.device.name, large.device.name], ["tensorflow", "cpu"]);
  assert.match(large.reasons.join(" "), /Not tensorflow: the model needs 1\.00 GiB, and 120 MiB are free on the card\./);
  small.device.close();
  large.device.close();
});

test("what auto takes is what a start is refused for", async (t) => {
  process.env[autoVariable] = "webgpu";
  const folder = temporaryFolder(t);
  process.env[toolVariable] = fakeNvidiaSmi(path.join(folder, "tool"), "full-card").file;
  t.after(() => delete process.env[toolVariable]);
  const config = readConfig(writeRunFile(folder, { train: { batchSize: 64, sequenceLength: 128, recompute: "none", precision: "f32" } }));
  assert.equal(config.device, "auto");
  assert.match((await planRun(config)).device, /^webgpu/);
  const checked = await checkRun(config);
  t.after(() => checked.base.close());
  const runFolder = await createRunFolder(config.output, "small", stringifyRunConfig(config));
  const refusal = await openRun(checked, runFolder, null, () => {}).then(
    () => assert.fail("it was opened"),
    (error: UserError) => error,
  );
  assert.equal(refusal.code, "run/memory-too-small");
  assert.match(refusal.message, /of the graphics card's memory; NVIDIA T600 has 120 MiB free of 6\.00 GiB \(nvidia-smi\)/);
  assert.match(refusal.action, /^Set train\.recompute to layer.*device: cpu/);
});
