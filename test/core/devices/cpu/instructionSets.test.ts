/**
 * The conformance suite once more with each instruction set that this processor has but would not choose. One process each, because the
 * environment is read when a device opens and the suite opens its devices when it loads. At two threads alone: how work is cut among threads does not
 * depend on the instruction set, and is judged with the chosen one. In CI every third case, and not with avx512f, whose kernels
 * are those of the chosen one but for bf16's.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openCpuDevice } from "../../../../src/core/devices/cpu/cpuDevice.ts";
import { skip } from "./nativeDevice.ts";

const suite = fileURLToPath(new URL("../../../conformance/ops.test.ts", import.meta.url));

function described(isa: string): string {
  process.env.SPARSE_TUNER_ISA = isa;
  try {
    const device = openCpuDevice({ threads: 1 });
    device.close();
    return device.description;
  } finally {
    delete process.env.SPARSE_TUNER_ISA;
  }
}

const chosen = skip ? "" : described("");
const seen = new Set([chosen]);

for (const isa of ["avx512f", "avx2", "portable"]) {
  const description = skip ? "" : described(isa);
  const inVain = seen.has(description) ? `not run: ${isa} is not to be had beside ${chosen}` : false;
  const reason = skip || inVain || (process.env.CI && isa === "avx512f" ? `not run: ${isa} in CI` : false);
  seen.add(description);
  test(`conformance with ${isa}`, { skip: reason }, () => {
    const run = spawnSync(process.execPath, ["--test", "--test-name-pattern=native cpu, 2 threads", suite], {
      cwd: path.dirname(suite),
      encoding: "utf8",
      // Without this the inner runner believes itself a part of the outer one and prints nothing.
      env: { ...process.env, SPARSE_TUNER_ISA: isa, NODE_TEST_CONTEXT: undefined, ...(process.env.CI ? { SPARSE_TUNER_EVERY: "3" } : {}) },
    });
    assert.match(run.stdout, new RegExp(`native cpu, 2 threads \\(${description.replace("1 thread", "2 threads")}\\)`));
    assert.equal(run.status, 0, run.stdout.slice(-4000));
  });
}

test("an unknown instruction set is refused by name", { skip }, () => {
  assert.throws(() => described("avx1024"), /SPARSE_TUNER_ISA is avx1024/);
});
