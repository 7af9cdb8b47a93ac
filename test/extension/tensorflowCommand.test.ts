/**
 * Install TensorFlow GPU Engine as a person meets it: what it asks, what it says, Cancel, which Node it takes, and that a core started afterwards is told
 * where the engine lies. What is installed, and how that fails, is test/install's business.
 */
import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import "./withVscode.ts";
import type { CoreProgram } from "../../src/extension/startCore.ts";
import { engineFolderVariable } from "../../src/install/engineFolder.ts";
import { type InstallEngineOptions, installTensorflow } from "../../src/install/installTensorflow.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { standInLock, standInRegistry, standInStorage } from "../support/standInEngine.ts";
import { Uri, window, workspace } from "./vscodeStandIn.ts";

const { engineVariables, installTensorflowCommand } = await import("../../src/extension/commands/installTensorflow.ts");

/** A window in which the person presses `answers` one after the other; the registry is a stand-in. */
async function opened(t: TestContext, { kind = "path" as CoreProgram["kind"], answers = ["Install"] as (string | undefined)[] } = {}) {
  const folder = temporaryFolder(t);
  const [registry, storage] = [await standInRegistry(t), await standInStorage(t)];
  const said: string[] = [];
  const cancels: (() => void)[] = [];
  let given: InstallEngineOptions | null = null;
  Object.assign(window, {
    showInformationMessage: async (text: string, options?: { detail?: string }) => {
      said.push([text, options?.detail].filter(Boolean).join("\n"));
      return answers.shift();
    },
    withProgress: async (options: { title: string }, work: (progress: unknown, token: unknown) => Promise<unknown>) => {
      said.push(options.title);
      const token = { onCancellationRequested: (cancel: () => void) => cancels.push(cancel) };
      return work({ report: ({ message }: { message: string }) => said.push(message) }, token);
    },
  });
  const before = workspace.getConfiguration;
  t.after(() => void Object.assign(workspace, { getConfiguration: before }));
  Object.assign(workspace, {
    getConfiguration: () => ({ get: (name: string, fallback: unknown) => (name === "registry" ? registry.registry : fallback) }),
  });
  const context = { globalStorageUri: Uri.file(folder) };
  let [renewed, refreshed] = [0, 0];
  const log: string[] = [];
  const parts = {
    context,
    log: { info: (line: string) => log.push(line) },
    service: { renew: async () => void renewed++ },
    program: async () => ({ node: process.execPath, core: "/core.js", kind }),
  } as unknown as Parameters<typeof installTensorflowCommand>[0];
  const env = { HOME: folder, PATH: "", TFJS_NODE_CDN_STORAGE: `${storage.registry}/mirror` };
  const install: typeof installTensorflow = (options) => {
    given = options;
    return installTensorflow({ ...options, npm: null, lock: standInLock(), env });
  };
  const command = installTensorflowCommand(parts, async () => void refreshed++, install).installTensorflow;
  const variables = () => engineVariables(context as unknown as Parameters<typeof engineVariables>[0]);
  return { command, said, cancels, folder, variables, log, counts: () => ({ renewed, refreshed }), given: () => given };
}

test("it says what it takes before it fetches, and a core is told of the engine afterwards", async (t) => {
  delete process.env[engineFolderVariable];
  const { command, said, folder, variables, counts, given, log } = await opened(t);
  assert.deepEqual(variables(), {});
  const place = path.join(folder, "tensorflow", "engine");
  assert.deepEqual(await command(), { folder: place, version: "4.22.0", onCard: false });
  assert.match(said[0], /^Install @tensorflow\/tfjs-node-gpu 4\.22\.0\?\nAbout 0\.5 GB/);
  for (const told of [/checked by their hashes/, /checks no hash/, /takes 4 bytes/, /not been proved/]) assert.match(said[0], told);
  assert.deepEqual(said.slice(1, 3), ["Installing TensorFlow 4.22.0", "packages: 0 of 2"]);
  assert.match(said.at(-1) as string, /^TensorFlow 4\.22\.0 is ready and computes on the processor/);
  assert.deepEqual(counts(), { renewed: 2, refreshed: 1 });
  assert.equal(given()?.node, process.execPath);
  assert.ok(log.includes("install: * Downloading libtensorflow"));
  assert.deepEqual(variables(), { [engineFolderVariable]: place });
  process.env[engineFolderVariable] = "/another";
  t.after(() => void delete process.env[engineFolderVariable]);
  assert.deepEqual(variables(), {}, "what a person has set wins");
});

test("who does not agree fetches nothing; who cancels gets nothing", async (t) => {
  const declined = await opened(t, { answers: [undefined] });
  assert.equal(await declined.command(), null);
  assert.equal(declined.given(), null);
  const cancelled = await opened(t);
  const ended = cancelled.command();
  ended.catch(() => undefined);
  while (cancelled.cancels.length === 0) await new Promise(setImmediate);
  cancelled.cancels[0]();
  await assert.rejects(ended, { name: "AbortError" });
  assert.deepEqual(cancelled.variables(), {});
});

test("without a plain Node it is refused with the way to one", async (t) => {
  const { command, said } = await opened(t, { kind: "electron" });
  await assert.rejects(async () => command(), { code: "node/not-found", action: /Install Runtime/ });
  assert.deepEqual(said, []);
});
