/**
 * Install Runtime and Install TensorFlow GPU Engine in the real VS Code, against a registry on 127.0.0.1: what they ask, how far they are, Cancel, and what
 * is not the pinned package. The pinned ones come in no test; what is installed of them is test/extension/installRuntime.test.ts' and test/install's business.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, test } from "node:test";
import { runtimePackageFor } from "../../src/extension/runtime/runtimePackages.ts";
import { findNpm } from "../../src/install/npmProgram.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";

const pinned = runtimePackageFor();
const skip = pinned === null && "not run: no package is pinned for this platform";
const totalBytes = 1 << 20;
/** Half of what was announced comes at once, the rest when a test says so. */
let waiting: http.ServerResponse | null = null;
const asked: string[] = [];
/** Whether the registry has nothing. */
let missing = false;
const registry = http.createServer((request, response) => {
  asked.push(request.url ?? "");
  if (missing) return void response.writeHead(404).end("{}");
  response.writeHead(200, { "content-length": totalBytes });
  response.write(Buffer.alloc(totalBytes / 2));
  waiting = response;
});
await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
after(() => {
  registry.close();
  registry.closeAllConnections();
});

const inWorkbench = workbenchSession({ settings: { "sparseTuner.registry": `http://127.0.0.1:${(registry.address() as AddressInfo).port}` } });

test(
  "it says which Node is used, shows how far it is, and leaves nothing after Cancel",
  { skip },
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    await window.runCommand("Sparse Tuner: Install Runtime");
    await window.quickPickRows.filter({ hasText: `Download Node.js ${pinned?.version}` }).waitFor();
    await window.screenshot("runtime-choices");
    await window.pick(/Download Node\.js/);
    const progress = window.notification(`Installing Node.js ${pinned?.version}`);
    await progress.filter({ hasText: "512 KiB of 1.00 MiB" }).waitFor();
    await window.screenshot("runtime-download");
    const ended = new Promise((resolve) => waiting?.once("close", resolve));
    await progress.getByRole("button", { name: "Cancel" }).click();
    await ended;
    await progress.waitFor({ state: "detached" });
    await until("an empty folder", () => left(workbench.globalStorage("sparse-tuner.sparse-tuner")).length === 0);
  }),
);

test(
  "a package that is not the pinned one is refused by its hash",
  { skip },
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const before = asked.length;
    await window.runCommand("Sparse Tuner: Install Runtime");
    await window.pick(/Download Node\.js/);
    await until("the second request", () => asked.length > before);
    waiting?.end(Buffer.alloc(totalBytes / 2));
    await window.notification("have another hash. Nothing was unpacked.").waitFor();
    await window.screenshot("runtime-wrong-hash");
    assert.deepEqual(new Set(asked), new Set([`/${pinned?.name}/-/${pinned?.name}-${pinned?.version}.tgz`]));
    assert.deepEqual(left(workbench.globalStorage("sparse-tuner.sparse-tuner")), []);
  }),
);

test(
  "TensorFlow's engine: says what it takes, names what npm could not get, and Cancel ends npm and leaves nothing",
  { skip: findNpm({ node: process.execPath }) === null && "not run: no npm is on the PATH" },
  inWorkbench(async (workbench) => {
    const { window } = workbench;
    const agree = async () => {
      await window.runCommand("Sparse Tuner: Install TensorFlow GPU Engine");
      const question = window.dialog("Install @tensorflow/tfjs-node-gpu 4.22.0?");
      await question.filter({ hasText: "has not been proved on any machine yet" }).waitFor();
      await window.screenshot("tensorflow-question");
      await question.getByRole("button", { name: "Install" }).click();
    };
    missing = true;
    await agree();
    await window.notification("npm failed: ").filter({ hasText: "404" }).waitFor();
    await window.screenshot("tensorflow-failed");
    assert.deepEqual(left(workbench.globalStorage("sparse-tuner.sparse-tuner"), "tensorflow"), []);

    missing = false;
    waiting = null;
    await agree();
    const progress = window.notification("Installing TensorFlow 4.22.0");
    await progress.filter({ hasText: "packages: 0 of 127" }).waitFor();
    await until("npm's first request", () => waiting);
    await window.screenshot("tensorflow-packages");
    const ended = new Promise((resolve) => waiting?.once("close", resolve));
    await progress.getByRole("button", { name: "Cancel" }).click();
    await ended;
    await progress.waitFor({ state: "detached" });
    await until("an empty folder", () => left(workbench.globalStorage("sparse-tuner.sparse-tuner"), "tensorflow").length === 0);
  }),
);

/** What lies in the folder of runtimes, or another. */
function left(storage: string, name = "runtime"): string[] {
  const folder = path.join(storage, name);
  return existsSync(folder) ? readdirSync(folder) : [];
}
