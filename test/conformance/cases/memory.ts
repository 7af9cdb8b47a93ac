/** Memory: allocation and the ledger, views, and data coming in and out, bit by bit. */
import assert from "node:assert/strict";
import { bytesOf, type DType, type FileDType, sizeOf, type Tensor } from "../../../src/core/devices/device.ts";
import { fromBfloat16, fromFloat16, roundToBfloat16 } from "../../../src/core/devices/floatFormats.ts";
import { memoryClasses } from "../../../src/protocol/memory.ts";
import { integers, normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, expectSameBits, opCase, type TestedDevice } from "../harness.ts";

const dtypes: readonly DType[] = ["f32", "bf16", "i32"];
const floats: readonly DType[] = ["f32", "bf16"];

/** A case that allocates through `allocate`, whose tensors are freed behind it, and the ledger is back where it was. */
function memoryCase(
  title: string,
  body: (device: TestedDevice, allocate: (shape: number[], dtype: DType) => Tensor) => Promise<void>,
): ConformanceCase {
  return {
    title,
    async run(device) {
      const live = device.ledger.liveBytes;
      const tensors: Tensor[] = [];
      const allocate = (shape: number[], dtype: DType) => {
        tensors.push(device.allocate(shape, dtype, "activations"));
        return tensors[tensors.length - 1];
      };
      try {
        await body(device, allocate);
        for (const tensor of tensors) assert.notEqual(device.checkGuards?.(tensor), false, "guard bytes were overwritten");
      } finally {
        for (const tensor of tensors) device.free(tensor);
      }
      assert.equal(device.ledger.liveBytes, live);
    },
  };
}

/** Numbers whose bf16 rounding shows ties, carries, overflow, signs, subnormals and NaN. */
const tricky = Float32Array.of(
  0,
  -0,
  1 + 2 ** -8, // tie, down to even
  1 + 3 * 2 ** -8, // tie, up to even
  1 + 2 ** -8 + 2 ** -20, // above a tie
  -(1 + 3 * 2 ** -8),
  2 - 2 ** -9, // carries into the exponent
  3.4e38, // above the largest bf16: infinite
  -3.4e38,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  Number.NaN,
  2 ** -126,
  2 ** -130, // subnormal in f32 and in bf16
  2 ** -149, // smallest f32: 0 in bf16
  3 * 2 ** -134, // a tie among bf16's subnormals
  1e-8,
  -1e5,
);

export const allocateCases: ConformanceCase[] = [
  ...memoryClasses.map((memoryClass) => ({
    title: `counts ${memoryClass}`,
    async run(device: TestedDevice) {
      // With a largest tensor the room is counted that ops need beside it: what comes now is none.
      const largest = device.allocate([3, 5, 7], "f32", "workspace");
      for (const dtype of dtypes) {
        const [before, live] = [device.ledger.bytesByClass[memoryClass], device.ledger.liveBytes];
        const tensor = device.allocate([3, 5, 7], dtype, memoryClass);
        assert.deepEqual([...tensor.shape], [3, 5, 7]);
        assert.equal(tensor.dtype, dtype);
        assert.equal(tensor.memoryClass, memoryClass);
        assert.equal(device.ledger.bytesByClass[memoryClass] - before, bytesOf([3, 5, 7], dtype, device.ledger.elementBytes));
        assert.equal(device.ledger.liveBytes - live, bytesOf([3, 5, 7], dtype, device.ledger.elementBytes));
        assert.ok(device.ledger.peakBytes >= device.ledger.liveBytes);
        device.free(tensor);
        assert.equal(device.ledger.liveBytes, live);
      }
      device.free(largest);
    },
  })),
  memoryCase("tensors do not share memory, given out again or not", async (device, allocate) => {
    const shape = (i: number) => [1 + (i % 5), 3];
    for (const tensor of Array.from({ length: 20 }, (_, i) => device.allocate(shape(i), "f32", "activations"))) device.free(tensor);
    const tensors = Array.from({ length: 40 }, (_, i) => allocate(shape(i), "f32"));
    for (const [i, tensor] of tensors.entries()) device.fill(tensor, i);
    for (const [i, tensor] of tensors.entries())
      assert.ok(
        ((await device.read(tensor)) as Float32Array).every((x) => x === i),
        `tensor ${i}`,
      );
  }),
  memoryCase("a shape that is none is refused", async (device) => {
    for (const shape of [[-1], [2.5], [Number.NaN], [3, -2]]) assert.throws(() => device.allocate(shape, "f32", "weights"));
  }),
  memoryCase("memory that cannot be had is a UserError and changes nothing", async (device) => {
    const live = device.ledger.liveBytes;
    assert.throws(() => device.allocate([2 ** 20, 2 ** 20], "f32", "weights"), { name: "UserError", code: "device/out-of-memory" });
    assert.equal(device.ledger.liveBytes, live);
  }),
];

export const freeCases: ConformanceCase[] = [
  memoryCase("freeing twice, a view, or using what was freed throws", async (device) => {
    const tensor = device.allocate([4, 4], "f32", "activations");
    const view = device.rows(tensor, 1, 2);
    assert.throws(() => device.free(view));
    device.free(tensor);
    assert.throws(() => device.free(tensor));
    assert.throws(() => device.fill(tensor, 0));
    assert.throws(() => device.fill(view, 0));
    await assert.rejects(async () => device.read(tensor));
    const next = device.allocate([4, 4], "f32", "activations");
    assert.throws(() => device.fill(tensor, 0), "memory that was given out again is still not the old tensor's");
    device.free(next);
  }),
];

export const rowsCases: ConformanceCase[] = [
  ...dtypes.map((dtype) =>
    memoryCase(`${dtype}: rows of a matrix, of a view and of a vector share memory`, async (device, allocate) => {
      const matrix = allocate([6, 5], dtype);
      const values = integers(1, 30, 100);
      device.write(matrix, (dtype === "i32" ? values : Float32Array.from(values)) as Float32Array);
      const view = device.rows(matrix, 1, 4);
      assert.deepEqual([...view.shape], [4, 5]);
      assert.deepEqual(Array.from(await device.read(view)), Array.from(values.subarray(5, 25)));
      const inner = device.rows(view, 2, 1);
      assert.deepEqual(Array.from(await device.read(inner)), Array.from(values.subarray(15, 20)));
      device.fill(inner, 7);
      assert.deepEqual(Array.from(await device.read(matrix)), Array.from(values).fill(7, 15, 20));
      const vector = allocate([9], dtype);
      device.fill(vector, 1);
      device.fill(device.rows(vector, 2, 3), 2);
      assert.deepEqual(Array.from(await device.read(vector)), [1, 1, 2, 2, 2, 1, 1, 1, 1]);
    }),
  ),
  memoryCase("rows outside the tensor are refused; a view costs no bytes", async (device, allocate) => {
    const matrix = allocate([6, 5], "f32");
    const live = device.ledger.liveBytes;
    device.rows(matrix, 0, 6);
    assert.equal(device.ledger.liveBytes, live);
    for (const [first, count] of [
      [-1, 2],
      [5, 2],
      [0, 7],
      [0.5, 1],
      [0, -1],
    ])
      assert.throws(() => device.rows(matrix, first, count), `rows(${first}, ${count})`);
    assert.throws(() => device.rows(device.rows(matrix, 2, 2), 0, 3));
  }),
];

export const writeCases: ConformanceCase[] = [
  memoryCase("f32 keeps every bit", async (device, allocate) => {
    const tensor = allocate([tricky.length], "f32");
    device.write(tensor, tricky);
    expectSameBits("f32", (await device.read(tensor)) as Float32Array, tricky);
  }),
  memoryCase("bf16 rounds to nearest, ties to even", async (device, allocate) => {
    const data = Float32Array.of(...tricky, ...normals(1, 1000));
    const tensor = allocate([data.length], "bf16");
    device.write(tensor, data);
    expectSameBits("bf16", (await device.read(tensor)) as Float32Array, data.map(roundToBfloat16));
  }),
  ...dtypes.map((dtype) =>
    memoryCase(`${dtype}: at an offset, into a view, and not beyond`, async (device, allocate) => {
      const data = (values: number[]) => (dtype === "i32" ? Int32Array.from(values) : Float32Array.from(values)) as Float32Array;
      const tensor = allocate([4, 3], dtype);
      device.fill(tensor, 0);
      device.write(tensor, data([1, 2]), 5);
      device.write(device.rows(tensor, 2, 1), data([3]), 2);
      assert.deepEqual(Array.from(await device.read(tensor)), [0, 0, 0, 0, 0, 1, 2, 0, 3, 0, 0, 0]);
      assert.throws(() => device.write(tensor, data([1, 2]), 11));
      assert.throws(() => device.write(tensor, data([1]), -1));
      assert.throws(() => device.write(device.rows(tensor, 0, 1), data([1, 2, 3, 4])));
      assert.throws(() => device.write(tensor, (dtype === "i32" ? new Float32Array(1) : new Int32Array(1)) as Float32Array));
    }),
  ),
];

/** Little-endian bytes of 16-bit patterns or f32 values. */
function fileBytes(stored: FileDType, halves: Uint16Array, values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(stored === "F32" ? values.length * 4 : halves.length * 2);
  const view = new DataView(bytes.buffer);
  if (stored === "F32") for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true);
  else for (const [i, half] of halves.entries()) view.setUint16(2 * i, half, true);
  return bytes;
}

const everyHalf = Uint16Array.from({ length: 65536 }, (_, i) => i);
const finiteF16 = everyHalf.filter((half) => (half & 0x7c00) !== 0x7c00);
const finiteBf16 = everyHalf.filter((half) => (half & 0x7f80) !== 0x7f80);

export const loadCases: ConformanceCase[] = [
  ...floats.flatMap((dtype) =>
    (["F32", "F16", "BF16"] as const).map((stored) =>
      memoryCase(`${stored} bytes into ${dtype}: every value, unaligned, at an offset`, async (device, allocate) => {
        const halves = stored === "F16" ? finiteF16 : finiteBf16;
        const values =
          stored === "F32"
            ? Float32Array.of(...tricky.filter(Number.isFinite).filter((x) => Math.abs(x) < 3e38), ...normals(1, 5000))
            : new Float32Array();
        const plain = fileBytes(stored, halves, values);
        const bytes = new Uint8Array(plain.length + 1).subarray(1);
        bytes.set(plain);
        const expected = stored === "F32" ? values : Float32Array.from(halves, stored === "F16" ? fromFloat16 : fromBfloat16);
        const tensor = allocate([expected.length + 5], dtype);
        device.fill(tensor, 9);
        assert.equal(device.load(tensor, 3, bytes, stored), -1);
        const actual = (await device.read(tensor)) as Float32Array;
        expectSameBits("loaded", actual.subarray(3, -2), dtype === "bf16" ? expected.map(roundToBfloat16) : expected);
        assert.deepEqual([...actual.subarray(0, 3), ...actual.subarray(-2)], [9, 9, 9, 9, 9], "elements beside the loaded ones");
        assert.throws(() => device.load(tensor, 6, bytes, stored));
        assert.throws(() => device.load(tensor, 0, bytes.subarray(0, 5), stored));
      }),
    ),
  ),
  ...(["F32", "F16", "BF16"] as const).map((stored) =>
    memoryCase(`${stored}: finds the first NaN or infinity`, async (device, allocate) => {
      const tensor = allocate([200_000], "bf16");
      const [nan, infinity] = stored === "F16" ? [0x7e01, 0xfc00] : [0x7fc1, 0xff80];
      for (const [at, then] of [
        [0, 5],
        [17, 18],
        [70_001, 150_000],
        [199_999, 199_999],
      ]) {
        const halves = new Uint16Array(200_000).fill(0x3c00);
        const values = new Float32Array(200_000).fill(1);
        halves[then] = infinity;
        values[then] = Number.NEGATIVE_INFINITY;
        halves[at] = at === 17 ? infinity : nan;
        values[at] = at === 17 ? Number.NEGATIVE_INFINITY : Number.NaN;
        assert.equal(device.load(tensor, 0, fileBytes(stored, halves, values), stored), at);
      }
    }),
  ),
];

export const readCases: ConformanceCase[] = dtypes.map((dtype) =>
  memoryCase(`${dtype}: a part, a view, and not beyond; the copy is the caller's`, async (device, allocate) => {
    const tensor = allocate([3, 4], dtype);
    const values = Array.from({ length: 12 }, (_, i) => i);
    device.write(tensor, (dtype === "i32" ? Int32Array.from(values) : Float32Array.from(values)) as Float32Array);
    const part = await device.read(tensor, 5, 3);
    assert.ok(dtype === "i32" ? part instanceof Int32Array : part instanceof Float32Array);
    assert.deepEqual(Array.from(part), [5, 6, 7]);
    assert.deepEqual(Array.from(await device.read(tensor, 10)), [10, 11]);
    assert.deepEqual(Array.from(await device.read(device.rows(tensor, 1, 2), 6, 2)), [10, 11]);
    part.fill(99);
    device.fill(tensor, 1);
    assert.deepEqual(Array.from(part), [99, 99, 99]);
    assert.deepEqual(Array.from(await device.read(tensor, 5, 3)), [1, 1, 1]);
    await assert.rejects(async () => device.read(tensor, 10, 3));
    await assert.rejects(async () => device.read(tensor, -1, 2));
  }),
);

export const fillCases: ConformanceCase[] = [
  ...floats.flatMap((dtype) =>
    [...tricky].map((value) =>
      opCase({
        title: `${dtype} with ${Object.is(value, -0) ? "-0" : value}`,
        tensors: { x: { shape: [33, 5], dtype } },
        call: (d, t) => d.fill(t.x, value),
        outputs: { x: "exact" },
      }),
    ),
  ),
  memoryCase("i32", async (device, allocate) => {
    const tensor = allocate([33], "i32");
    device.fill(tensor, -7);
    assert.ok((await device.read(tensor)).every((x: number) => x === -7));
  }),
];

export const copyCases: ConformanceCase[] = floats.flatMap((out) =>
  floats.flatMap((x) =>
    [
      [1, 1],
      [3, 6],
      [33, 65],
      [70, 1030],
    ].map(([rows, columns]) => {
      const data = normals(rows, rows * columns);
      if (data.length >= tricky.length) data.set(tricky);
      return opCase({
        title: `[${rows}, ${columns}] ${out} ← ${x}`,
        tensors: { out: { shape: [rows, columns], dtype: out }, x: { shape: [rows, columns], dtype: x, data } },
        call: (d, t) => d.copy(t.out, t.x),
        outputs: { out: "exact" },
      });
    }),
  ),
);

export const turnCases: ConformanceCase[] = [
  memoryCase("lets the event loop run and keeps the order of work", async (device, allocate) => {
    const tensor = allocate([4], "f32");
    let ran = false;
    setImmediate(() => {
      ran = true;
    });
    device.fill(tensor, 1);
    // One turn may hand over work only; a few must let a callback that was already due run.
    for (let i = 0; i < 3; i++) await device.turn();
    device.fill(tensor, 2);
    assert.ok(((await device.read(tensor)) as Float32Array).every((x) => x === 2));
    assert.ok(ran, "three turns did not let the event loop run");
  }),
];

/** Runs last, on a device of its own: what is still allocated is given back. */
export const closeCases: ConformanceCase[] = [
  {
    title: "gives all memory back",
    async run(device) {
      device.allocate([1000], "f32", "weights");
      const tensor = device.allocate([sizeOf([10, 10])], "bf16", "activations");
      device.close();
      assert.equal(device.ledger.liveBytes, 0);
      assert.throws(() => device.fill(tensor, 0));
    },
  },
];
