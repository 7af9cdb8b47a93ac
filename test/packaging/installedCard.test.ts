/**
 * The package of this platform as VS Code unpacks it, in a folder with nothing installed around it: its core finds the WebGPU engine it brings and trains on
 * a card, here a software one; the core of the package without native code says which package to take.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { packageVsix } from "../../package.mjs";
import { ServiceClient } from "../../src/extension/service/serviceClient.ts";
import { createRun, lastJson } from "../../src/extension/startCore.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import { prepareGraphicsCard } from "../support/graphicsCard.ts";
import { readZip } from "./zip.ts";

const here = `${process.platform}-${process.arch}`;
// Short, because a socket's path may have 100 bytes. No folder above it holds node_modules.
const place = mkdtempSync(path.join(os.tmpdir(), "st-"));
process.env.TMPDIR = place;
process.env.XDG_STATE_HOME = path.join(place, "state");
after(() => rmSync(place, { recursive: true, force: true }));

const skip = noCard();

function noCard(): string | false {
  try {
    prepareGraphicsCard();
    return false;
  } catch (error) {
    return `not run: ${(error as Error).message}`;
  }
}

/** Unpacks a package and returns what starts its core. */
async function unpacked(target: string | null): Promise<{ node: string; core: string }> {
  const folder = path.join(place, target ?? "any");
  for (const entry of readZip(await packageVsix({ target, addon: null, folder: place }))) {
    const file = path.join(folder, entry.name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, entry.read());
  }
  const core = path.join(folder, "extension/dist/core.js");
  assert.throws(() => createRequire(pathToFileURL(core)).resolve("webgpu"), { code: "MODULE_NOT_FOUND" });
  return { node: process.execPath, core };
}

/** What the doctor says about the card. Asked twice of one process: a card that was closed must leave it in order. */
async function askDoctor(program: { node: string; core: string }) {
  const service = new ServiceClient({ program: async () => program, log: () => {} });
  try {
    await service.request("doctor", { folder: place });
    const { findings } = await service.request("doctor", { folder: place });
    return findings.find(({ subject }) => subject === "webgpu");
  } finally {
    service.dispose();
  }
}

/** One update of a few tokens: a software card is slow. */
const runFile = (core: string, device: string) => `model: ${JSON.stringify(path.resolve(core, "../../media/demo/model"))}
data: { train: rows.jsonl }
method: { name: lora, rank: 2, targets: [v_proj] }
train: { steps: 1, batchSize: 1, sequenceLength: 8, precision: f32 }
device: ${device}
`;

/** Makes a run with the package's core and does it: its losses, or the error that the core printed last. */
async function train({ node, core }: { node: string; core: string }, device = "webgpu") {
  const file = path.join(place, "card.sparse-tuner.yaml");
  writeFileSync(file, runFile(core, device));
  writeFileSync(path.join(place, "rows.jsonl"), '{"text": "Once upon a time there was a small house."}\n');
  const runFolder = await createRun({ node, core }, file);
  const failed = await new Promise<unknown>((resolve) => execFile(node, [core, runFolder], (_error, _out, said) => resolve(lastJson(said))));
  const lines = readFileSync(path.join(runFolder, "events.jsonl"), "utf8").split("\n").filter(Boolean);
  const events = lines.map((line) => JSON.parse(line) as RunEvent);
  return { failed, losses: events.flatMap((event) => (event.kind === "step" ? [event.loss] : [])) };
}

test("the package of this platform trains on a card with nothing installed around it", { skip }, async () => {
  const program = await unpacked(here);
  const finding = await askDoctor(program);
  assert.ok(finding?.usable, finding?.result);
  const [card, processor] = [await train(program), await train(program, "cpu")];
  assert.equal(card.losses.length, 1, JSON.stringify(card.failed));
  assert.ok(Math.abs(card.losses[0] - processor.losses[0]) < 1e-4, `${card.losses} beside ${processor.losses}`);
});

test("the package without native code says which one brings the engine, to the doctor and to a run", async () => {
  const program = await unpacked(null);
  const finding = await askDoctor(program);
  assert.equal(finding?.usable, false);
  assert.match(finding?.fix ?? "", new RegExp(`Install the extension's package for ${here}`));
  const { failed } = await train(program);
  assert.match(JSON.stringify(failed), /device\/no-webgpu.*without native code/);
});
