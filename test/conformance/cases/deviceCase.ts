/** Conformance cases that are more than one call: a body on a device, with the checks that every case gets. */
import assert from "node:assert/strict";
import { sizeOf, type Tensor } from "../../../src/core/devices/device.ts";
import type { ConformanceCase, TensorSpec, TestedDevice } from "../harness.ts";

/** Runs a body on fresh tensors of a device, and looks after them. `elements`: of all its tensors, where they are many. */
export function deviceCase(
  title: string,
  body: (device: TestedDevice, make: (spec: TensorSpec) => Tensor) => Promise<Float32Array>,
  elements = 0,
): ConformanceCase {
  return {
    title,
    elements,
    async run(device, record) {
      const tensors: Tensor[] = [];
      const live = device.ledger.liveBytes;
      try {
        const result = await body(device, ({ shape, dtype, data }) => {
          const tensor = device.allocate(shape, dtype, "workspace");
          tensors.push(tensor);
          device.write(tensor, (data ?? new Float32Array(sizeOf(shape)).fill(Number.NaN)) as Float32Array);
          return tensor;
        });
        record(new Uint8Array(result.buffer, result.byteOffset, result.byteLength));
        for (const tensor of tensors) assert.notEqual(device.checkGuards?.(tensor), false, "guard bytes were overwritten");
      } finally {
        for (const tensor of tensors) device.free(tensor);
      }
      assert.equal(device.ledger.liveBytes, live);
    },
  };
}
