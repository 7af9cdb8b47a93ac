/** The same run gives the same bits: twice, on one thread and on two, with and without recomputation. What must only agree closely is in invariance.test.ts. */
import assert from "node:assert/strict";
import path from "node:path";
import { describe, test } from "node:test";
import { methods, resultOf, session, temporaryFolder, writeRunFile } from "./smallRuns.ts";

describe("the same seed gives the same bits", () => {
  for (const [name, overrides] of Object.entries(methods))
    test(`${name}: twice, and at 2 threads`, async (t) => {
      const folder = temporaryFolder(t);
      const results = [];
      for (const [i, threads] of [1, 1, 2].entries()) {
        const run = await session(writeRunFile(path.join(folder, String(i)), { ...overrides, threads }));
        assert.equal(run.ended, "done");
        results.push(run.folder);
      }
      const [once, twice, threaded] = results.map(resultOf);
      assert.ok(once.numbers.length >= 12);
      assert.deepEqual(twice, once);
      assert.deepEqual(threaded.numbers, once.numbers);
      // state.json names the device with its threads, and the manifest hashes it; every tensor and the selection are the same bytes.
      const tensors = (files: Record<string, string>) => Object.entries(files).filter(([file]) => !/(state|manifest)\.json$/.test(file));
      assert.deepEqual(tensors(threaded.files), tensors(once.files));
    });

  for (const precision of ["f32", "bf16"])
    for (const method of [{ name: "full" }, { name: "smt", blocks: 40, blockSize: 16, warmup: { steps: 2 } }])
      test(`recompute: layer gives the bits of recompute: none (${method.name}, ${precision})`, async (t) => {
        const folder = temporaryFolder(t);
        const [none, layer] = await Promise.all(
          ["none", "layer"].map(async (recompute) =>
            resultOf((await session(writeRunFile(path.join(folder, recompute), { method, train: { precision, recompute, steps: 6 } }))).folder),
          ),
        );
        assert.deepEqual(layer.numbers, none.numbers);
        assert.deepEqual(
          Object.entries(layer.files).filter(([file]) => /safetensors$/.test(file)),
          Object.entries(none.files).filter(([file]) => /safetensors$/.test(file)),
        );
      });

  test("another seed gives other losses", async (t) => {
    const folder = temporaryFolder(t);
    const numbers = [];
    for (const seed of [1, 2])
      numbers.push(resultOf((await session(writeRunFile(path.join(folder, String(seed)), { train: { seed, steps: 2 } }))).folder).numbers);
    assert.notDeepEqual(numbers[0], numbers[1]);
  });
});
