/**
 * Devices tried in a throw-away process, whatever that process does: programs that crash, hang, end without a word or answer stand in place of the probing
 * one. The probing program itself is run on SwiftShader, and its product is judged on devices that compute right and wrong.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { openPortableDevice } from "../../../src/core/devices/cpu/portableDevice.ts";
import { answerMark, probeDevice } from "../../../src/core/devices/probe.ts";
import { wrongProduct } from "../../../src/core/devices/probeProduct.ts";
import { prepareGraphicsCard } from "../../support/graphicsCard.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

const right = { works: true, description: "webgpu: a card", software: false, onCard: true, largestBytes: 7 };
const print = `process.stdout.write(${JSON.stringify(`a driver's noise\n${answerMark}${JSON.stringify(right)}\n`)});`;

function program(test: { after(clean: () => void): void }, code: string): string {
  const file = path.join(temporaryFolder(test), "probe.mjs");
  writeFileSync(file, code);
  return file;
}

test("an answer comes through a driver's noise", async (t) => {
  assert.deepEqual(await probeDevice("webgpu", { program: program(t, print) }), right);
});

const crashes: [name: string, code: string, reason: RegExp][] = [
  ["crashes", 'console.error("the driver said\\nwhy"); process.kill(process.pid, "SIGSEGV"); for (;;);', /crashed with SIGSEGV: why$/],
  ["ends with a code", "process.exit(3);", /crashed with exit code 3$/],
  ["crashes after its answer", `${print} setImmediate(() => process.kill(process.pid, "SIGSEGV"));`, /crashed with SIGSEGV$/],
  ["says nothing", "", /ended without an answer$/],
];
for (const [name, code, reason] of crashes)
  test(`a program that ${name} is an answer, and this process goes on`, async (t) => {
    const answer = await probeDevice("webgpu", { program: program(t, code) });
    assert.ok(!answer.works && answer.crashed, JSON.stringify(answer));
    assert.match(answer.reason, reason);
    assert.match(answer.action, /device: cpu/);
  });

test("a program that hangs is ended at the limit", async (t) => {
  const file = program(t, "");
  writeFileSync(file, `import { writeFileSync } from "node:fs"; writeFileSync(${JSON.stringify(`${file}.pid`)}, String(process.pid)); for (;;);`);
  const answer = await probeDevice("webgpu", { program: file, limitMs: 2000 });
  assert.deepEqual([answer.works, !answer.works && answer.reason], [false, "it did not answer within 2 s"]);
  // On a busy machine it may not have come so far as to hang.
  if (!existsSync(`${file}.pid`)) return;
  const pid = Number(readFileSync(`${file}.pid`, "utf8"));
  const deadline = Date.now() + 10_000;
  while (isAlive(pid)) {
    assert.ok(Date.now() < deadline, "the process is still there");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("a program that cannot be started, or whose answer cannot be read, is an answer", async (t) => {
  const missing = await probeDevice("webgpu", { program: path.join(temporaryFolder(t), "nowhere.mjs") });
  assert.ok(!missing.works);
  const unreadable = await probeDevice("webgpu", { program: program(t, `console.log(${JSON.stringify(`${answerMark}{`)});`) });
  assert.match(unreadable.works ? "" : unreadable.reason, /cannot be read/);
});

test("the small product is right on a device that computes, and told where it is wrong", async () => {
  const device = openPortableDevice();
  assert.equal(await wrongProduct(device), null);
  const matmul = device.matmul.bind(device);
  device.matmul = (out, a, b, options) => {
    matmul(out, a, b, options);
    device.fill(device.rows(out, 3, 1), 1);
  };
  assert.match((await wrongProduct(device)) ?? "", /^it computes wrong: 1 where -?\d+ is right$/);
  assert.equal(device.ledger.liveBytes, device.ledger.bytesByClass.workspace);
  device.close();
});

test("the probing program tries SwiftShader, and says that it is none", { skip: cardMissing() }, async () => {
  const answer = await probeDevice("webgpu", { limitMs: 120_000 });
  assert.ok(answer.works, JSON.stringify(answer));
  assert.match(answer.description, /^webgpu: /);
  assert.equal(answer.software, prepareGraphicsCard().software);
  assert.ok(answer.onCard && answer.largestBytes >= 2 ** 27);
});

function cardMissing(): string | false {
  try {
    prepareGraphicsCard();
    return false;
  } catch (error) {
    return `not run: ${(error as Error).message}`;
  }
}

test("where there is no driver the probing program says so", {
  skip: process.platform === "linux" ? false : "not run: only Linux lets drivers be hidden",
}, async () => {
  const before = process.env.VK_DRIVER_FILES;
  process.env.VK_DRIVER_FILES = "/nowhere.json";
  try {
    const answer = await probeDevice("webgpu", { limitMs: 120_000 });
    assert.deepEqual(answer.works ? null : [answer.crashed, answer.reason], [
      false,
      "No graphics card with a Vulkan, Metal or Direct3D 12 driver was found.",
    ]);
  } finally {
    if (before === undefined) delete process.env.VK_DRIVER_FILES;
    else process.env.VK_DRIVER_FILES = before;
  }
});
