/**
 * Which engine is taken, and why not the others. libtensorflow itself is not here: packages of its names stand in for it, whose backend calls itself
 * `tensorflow` and computes with the kernels of the WebAssembly one. That also shows that the device's forms for libtensorflow compute the same.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { after, beforeEach, test } from "node:test";
import { openDevice } from "../../../../src/core/devices/open.ts";
import { UnsupportedError } from "../../../../src/core/devices/unsupported.ts";
import { engineFolderVariable } from "../../../../src/install/engineFolder.ts";
import { allCases } from "../../../conformance/cases/all.ts";

const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-engines-"));
after(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  delete process.env.TF_FORCE_GPU_ALLOW_GROWTH;
});

/** What @tensorflow/tfjs-node does when it is loaded, of which Node 23 took a part away: util's function, and a backend of this name. */
const standIn = (place: (name: string) => string) => `
const util = require("node:util");
if (!util.isNullOrUndefined(null) || util.isNullOrUndefined(0)) throw new Error("the polyfill is wrong");
if (process.env.TF_FORCE_GPU_ALLOW_GROWTH !== "true") throw new Error("it would take all of the card's memory");
const tf = require(${JSON.stringify(place("tfjs-core"))});
require(${JSON.stringify(place("tfjs-backend-wasm"))});
if (!tf.findBackendFactory("tensorflow")) {
  tf.copyRegisteredKernels("wasm", "tensorflow");
  tf.registerBackend("tensorflow", tf.findBackendFactory("wasm"), 100);
}
module.exports = { ...tf, ready: async () => void (await tf.setBackend("tensorflow")) };
`;

/** A folder with these packages and their code. */
function installed(name: string, packages: Record<string, string>): string {
  for (const [packageName, code] of Object.entries(packages)) {
    const own = path.join(folder, name, "node_modules/@tensorflow", packageName);
    mkdirSync(own, { recursive: true });
    writeFileSync(path.join(own, "package.json"), JSON.stringify({ name: `@tensorflow/${packageName}`, version: "4.22.0", main: "index.js" }));
    writeFileSync(path.join(own, "index.js"), code);
  }
  return path.join(folder, name);
}

const scope = ["@tensorflow"];
const working = standIn((name) => createRequire(import.meta.url).resolve([...scope, name].join("/")));

async function opened(place: string) {
  process.env[engineFolderVariable] = place;
  return openDevice("tensorflow", "auto");
}

test("a binding that cannot be loaded is named, and WebAssembly computes", async () => {
  const { device, reasons } = await opened(installed("broken", { "tfjs-node-gpu": 'throw new Error("Could not load libcudart.so.11.0");' }));
  assert.match(device.description, /WebAssembly/);
  assert.equal(reasons.length, 2);
  assert.match(reasons[0], /^@tensorflow\/tfjs-node-gpu in .* cannot be used: Could not load libcudart\.so\.11\.0$/);
  assert.equal(reasons[1], "@tensorflow/tfjs-node is not installed.");
  device.close();
});

test("a folder that holds nothing, or is not there, leaves WebAssembly", async () => {
  const { device, reasons } = await opened(path.join(folder, "nowhere"));
  assert.match(device.description, /WebAssembly/);
  assert.equal(reasons.length, 2);
  device.close();
});

test("tfjs-node is taken where tfjs-node-gpu is not installed", async () => {
  const { device, reasons } = await opened(installed("cpu", { "tfjs-node": working }));
  assert.equal(device.description, "tensorflow: tfjs-node 4.22.0 on the processor; each weight takes 4 bytes");
  assert.deepEqual(reasons, ["@tensorflow/tfjs-node-gpu is not installed."]);
  device.close();
});

test("tfjs-node-gpu comes first, and the forms for libtensorflow compute what they must", async () => {
  const { device, reasons } = await opened(installed("gpu", { "tfjs-node-gpu": working, "tfjs-node": working }));
  assert.equal(device.description, "tensorflow: tfjs-node-gpu 4.22.0 on the processor; each weight takes 4 bytes");
  assert.deepEqual(reasons, []);
  const failures: string[] = [];
  let passed = 0;
  for (const [op, cases] of Object.entries(allCases))
    for (const { title, elements = 0, run } of cases.filter((_, i) => i % 7 === 0)) {
      if (op === "close" || elements > 5000) continue;
      try {
        await run(device, () => {});
        passed++;
      } catch (error) {
        if (!(error instanceof UnsupportedError)) failures.push(`${op} ${title}: ${(error as Error).message}`);
      }
    }
  assert.deepEqual(failures, []);
  assert.ok(passed > 100, `only ${passed} cases ran`);
  device.close();
});
