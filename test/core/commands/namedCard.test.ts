/**
 * A run file that names `device: webgpu` on a machine whose driver is missing or crashes: the plan says that it does not know the card's memory, and a run is
 * refused with one sentence, before the driver came into its process.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { prepareGraphicsCard } from "../../support/graphicsCard.ts";
import { writeRunFile } from "../run/smallRuns.ts";
import { jsonLines, sparseTuner, temporaryFolder } from "./commandLine.ts";

/** Lets commands of this test see these Vulkan drivers alone. */
function withDriver(t: { after(clean: () => void): void }, file: string): void {
  const before = process.env.VK_DRIVER_FILES;
  process.env.VK_DRIVER_FILES = file;
  t.after(() => {
    if (before === undefined) delete process.env.VK_DRIVER_FILES;
    else process.env.VK_DRIVER_FILES = before;
  });
}

const skip = process.platform === "linux" ? false : "not run: only Linux lets drivers be hidden";

test("without a driver: nothing is said to fit, and a run is refused in our words alone", { skip }, (t) => {
  const folder = temporaryFolder((clean) => t.after(clean));
  withDriver(t, "/nowhere.json");
  const runFile = writeRunFile(folder, { device: "webgpu" });
  const { stdout, stderr } = sparseTuner(folder, "plan", runFile);
  assert.match(stdout, /^Whether it fits \(webgpu\) is not known\. The card's free memory is not known: No graphics card .* was found\.$/m);
  assert.doesNotMatch(stdout, /It fits|are free/);
  const [planned] = jsonLines<Record<string, unknown>>(sparseTuner(folder, "plan", runFile, "--json"));
  assert.deepEqual([planned.fits, planned.availableBytes], [null, null]);
  const refused = sparseTuner(folder, "train", runFile);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /No graphics card with a Vulkan, Metal or Direct3D 12 driver was found\./);
  assert.doesNotMatch(stderr + refused.stderr, /vkCreateInstance|VulkanError|\.cpp/);
});

test("a driver that crashes takes down no process of ours", { skip: skip || crashingMissing() }, (t) => {
  const folder = temporaryFolder((clean) => t.after(clean));
  const driver = path.join(folder, "driver.so");
  writeFileSync(path.join(folder, "driver.c"), "void *vk_icdGetInstanceProcAddr(void *instance, const char *name) { __builtin_trap(); }\n");
  assert.equal(spawnSync("cc", ["-shared", "-fPIC", "-o", driver, path.join(folder, "driver.c")]).status, 0);
  const manifest = { file_format_version: "1.0.0", ICD: { library_path: driver, api_version: "1.1.0" } };
  writeFileSync(path.join(folder, "driver.json"), JSON.stringify(manifest));
  withDriver(t, path.join(folder, "driver.json"));
  const { status, stderr } = sparseTuner(folder, "train", writeRunFile(folder, { device: "webgpu" }));
  assert.equal(status, 1);
  assert.match(stderr, /device: webgpu cannot be used: the process that tried it crashed with SIG(ILL|TRAP)/);
  assert.match(stderr, /use device: cpu/);
});

/** Without the loader of Vulkan drivers none is loaded. */
function crashingMissing(): string | false {
  if (spawnSync("cc", ["--version"]).status !== 0) return "not run: there is no C compiler";
  try {
    prepareGraphicsCard();
    return false;
  } catch (error) {
    return `not run: ${(error as Error).message}`;
  }
}
