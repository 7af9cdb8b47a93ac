/** The harness and its comparison can fail: a device with one fault each is caught. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openPortableDevice } from "../../src/core/devices/cpu/portableDevice.ts";
import type { Device, Tensor } from "../../src/core/devices/device.ts";
import { expectClose } from "../support/expectClose.ts";
import { normals } from "../support/randomTensors.ts";
import { opCase, type TestedDevice } from "./harness.ts";

const copyCase = () =>
  opCase({
    title: "copy",
    tensors: { out: { shape: [4, 3], dtype: "f32" }, x: { shape: [4, 3], dtype: "f32", data: normals(1, 12) } },
    call: (d, t) => d.copy(t.out, t.x),
    outputs: { out: "exact" },
  });

/** A portable device whose copy is replaced. */
function faulty(copy: (d: Device, out: Tensor, x: Tensor) => void, more: Partial<TestedDevice> = {}): TestedDevice {
  const device = openPortableDevice();
  return new Proxy(device as TestedDevice, {
    get(target, property) {
      if (property === "copy") return (out: Tensor, x: Tensor) => copy(target, out, x);
      if (property in more) return more[property as keyof TestedDevice];
      const value = Reflect.get(target, property);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Copies rightly and then does something else. */
const spoiled = (after: (d: Device, out: Tensor, x: Tensor) => void) =>
  faulty((d, out, x) => {
    d.copy(out, x);
    after(d, out, x);
  });

let calls = 0;
const faults: [name: string, device: TestedDevice, message: RegExp][] = [
  ["a wrong element", spoiled((d, out) => d.write(out, Float32Array.of(7), 5)), /out: at \[5\]/],
  ["an element left alone", faulty((d, out, x) => d.copy(d.rows(out, 0, 3), d.rows(x, 0, 3))), /out: at \[9\] .* actual NaN/],
  ["a changed input", spoiled((d, _out, x) => d.fill(d.rows(x, 3, 1), 0)), /x is an input and changed/],
  ["memory that stays", spoiled((d) => d.allocate([1], "f32", "workspace")), /live bytes/],
  ["different bits the second time", spoiled((d, out) => calls++ === 1 && d.fill(out, 0)), /different bits/],
  ["overwritten guard bytes", faulty((d, out, x) => d.copy(out, x), { checkGuards: () => false }), /guard bytes/],
];

for (const [name, device, message] of faults) {
  test(`${name} is caught`, async () => {
    await assert.rejects(
      copyCase().run(device, () => {}),
      message,
    );
  });
}

test("writing into the rows beside a tensor is caught", async () => {
  const device = openPortableDevice();
  let parent: Tensor | null = null;
  const spy = new Proxy(device as TestedDevice, {
    get(target, property) {
      if (property === "rows")
        return (tensor: Tensor, first: number, count: number) => {
          parent = tensor;
          return target.rows(tensor, first, count);
        };
      if (property === "copy")
        return (out: Tensor, x: Tensor) => {
          target.copy(out, x);
          if (parent) target.fill(target.rows(parent, 0, 1), 0);
        };
      const value = Reflect.get(target, property);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  await assert.rejects(
    copyCase().run(spy, () => {}),
    /rows beside x were overwritten/,
  );
});

test("a correct device passes", async () => {
  let recorded = 0;
  await copyCase().run(openPortableDevice(), () => recorded++);
  assert.equal(recorded, 1);
});

test("expectClose tells NaN, infinities and numbers apart and names the worst element", () => {
  const close = (actual: number[], expected: number[], tolerance = 1) =>
    expectClose("it", actual, expected, () => tolerance, [2, expected.length / 2]);
  const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
  close([1, nan, infinity, -infinity], [1.5, nan, infinity, -infinity]);
  close([0, infinity], [-0, 1e39]);
  assert.throws(() => close([1, nan], [1, 1]), /worst at \[1, 0\]: expected 1, actual NaN/);
  assert.throws(() => close([1, 1], [1, nan]), /expected NaN, actual 1/);
  assert.throws(() => close([1, infinity], [1, -infinity]), /expected -Infinity, actual Infinity/);
  assert.throws(() => close([1, infinity], [1, 1]), /expected 1, actual Infinity/);
  assert.throws(() => close([1, 1], [1, 1.5], nan), /1 of 2/);
  assert.throws(() => close([0, 3, 9, 0], [0, 0, 0, 0]), /2 of 4 elements are wrong; worst at \[1, 0\]: expected 0, actual 9, 9.00 × the tolerance/);
  assert.throws(() => close([1], [1, 2]), /number of elements/);
});
