/** `doctor --install tensorflow` on the command line, against stand-ins on 127.0.0.1: what it prints, where it puts the engine, and that the device finds it there. */
import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { installEngine, progressText } from "../../../src/core/commands/installEngine.ts";
import { openDevice } from "../../../src/core/devices/open.ts";
import { engineFolderVariable, engineIn, userEngineFolder } from "../../../src/install/engineFolder.ts";
import { standInLock, standInRegistry, standInStorage } from "../../support/standInEngine.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

/** This process's environment for the test's time. */
function environment(t: TestContext, variables: Record<string, string | undefined>): void {
  const before = { ...process.env };
  t.after(() => {
    process.env = before;
  });
  process.env = { ...process.env, ...variables };
  for (const [name, value] of Object.entries(variables)) if (value === undefined) delete process.env[name];
}

test("it installs into the user's folder, where the device then looks, and says what it computes on", {
  skip: process.platform !== "linux",
}, async (t) => {
  const home = temporaryFolder(t);
  const [{ registry }, storage] = [await standInRegistry(t), await standInStorage(t, { binding: "card" })];
  const variables = { XDG_DATA_HOME: home, TFJS_NODE_CDN_STORAGE: `${storage.registry}/mirror`, [engineFolderVariable]: undefined };
  environment(t, { ...variables, PATH: "", npm_config_registry: registry });
  const printed: string[] = [];
  t.mock.method(process.stdout, "write", (text: string) => printed.push(text) > 0);
  t.mock.method(process.stderr, "write", (text: string) => printed.push(text) > 0);
  assert.equal(await installEngine({ registry: null, verbose: false }, standInLock()), 0);
  t.mock.restoreAll();
  assert.match(printed[0], /^Installing @tensorflow\/tfjs-node-gpu 4\.22\.0 without npm/);
  const place = engineIn(userEngineFolder({ platform: "linux", env: process.env, home: "" }));
  assert.equal(printed.at(-1), `@tensorflow/tfjs-node-gpu 4.22.0 lies in ${place} and computes on the graphics card.\n`);
  assert.equal(place, path.join(home, "sparse-tuner/tensorflow/engine"));
  // The stand-in has no kernels; that the device names its folder shows that it was looked for there.
  const { device, reasons } = await openDevice("tensorflow", "auto");
  device.close();
  assert.ok(
    device.description.includes("tfjs-node-gpu 4.22.0 on the graphics card") || reasons[0].includes(place),
    `${device.description} ${reasons}`,
  );
  await assert.rejects(installEngine({ registry: "no address", verbose: true }, standInLock()), { code: "package/bad-registry" });
});

test("each phase has its figures", () => {
  assert.equal(progressText({ phase: "packages", done: 3, total: 127 }), "packages: 3 of 127");
  assert.equal(progressText({ phase: "library", done: 3 << 20, total: null }), "libtensorflow and its binding: 3.00 MiB");
  assert.equal(progressText({ phase: "try", done: 0, total: null }), "trying it");
});
