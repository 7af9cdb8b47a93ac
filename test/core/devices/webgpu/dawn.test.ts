/** Where the WebGPU engine is looked for, and what is said when it is not there or not loadable. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { loadDawn } from "../../../../src/core/devices/webgpu/dawn.ts";
import { UserError } from "../../../../src/protocol/userError.ts";
import { temporaryFolder } from "../../run/smallRuns.ts";

/** A folder with these files, and the URL of its core. */
function bundleWith(t: { after(clean: () => void): void }, files: Record<string, string>): string {
  const folder = temporaryFolder(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  return pathToFileURL(path.join(folder, "core.js")).href;
}

const engine = (name: string) => `export const create = () => "${name}"; export const globals = {};`;
const installed = {
  "node_modules/webgpu/package.json": '{ "type": "module", "main": "index.js" }',
  "node_modules/webgpu/index.js": engine("installed"),
};

test("the engine that came with the extension goes before an installed one", async (t) => {
  const both = await loadDawn(bundleWith(t, { ...installed, "package.json": '{ "type": "module" }', "webgpu/index.js": engine("brought") }));
  assert.equal(both.create([]), "brought");
  assert.equal((await loadDawn(bundleWith(t, installed))).create([]), "installed");
});

const refused = (action: RegExp) => (error: unknown) => error instanceof UserError && error.code === "device/no-webgpu" && action.test(error.action);

test("without an engine an extension is told its package, a clone its dependencies", async (t) => {
  await assert.rejects(loadDawn(bundleWith(t, { "core.js": "" })), refused(/Install the extension's package for/));
  await assert.rejects(loadDawn(bundleWith(t, { "core.js": "", "cli.js": "" })), refused(/npm ci --include=optional/));
});

test("an engine that does not load says why, and what it needs", async (t) => {
  const broken = bundleWith(t, { "package.json": '{ "type": "module" }', "webgpu/index.js": 'throw new Error("GLIBC_2.34 not found\\nmore");' });
  await assert.rejects(loadDawn(broken), (error: Error) => /cannot be loaded: GLIBC_2.34 not found\.$/.test(error.message));
  if (process.platform === "linux") await assert.rejects(loadDawn(broken), refused(/glibc 2\.34/));
});
