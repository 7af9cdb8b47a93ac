/**
 * Wrong calls fail, before anything changed, with the same sentence on every device that takes its checks from shapes.ts; and indices that tensors
 * hold (ids, positions, targets, document starts) are refused on every device that computes, because beyond them lies other memory.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { AttentionShape, Device, DType, SweepOptions, Tensor } from "../../src/core/devices/device.ts";
import { openMetaDevice } from "../../src/core/devices/meta.ts";
import { openReferenceDevice } from "../../src/core/devices/reference.ts";
import type { OpName } from "./cases/all.ts";
import { openDevices } from "./devices.ts";
import { type Call, grouped, lowRank, type Make, wrongAdapterCalls } from "./wrongAdapterCalls.ts";

const shape: AttentionShape = { batchSize: 2, queryLength: 3, keyLength: 3, keyStride: 3, numHeads: 4, numKeyValueHeads: 2, headSize: 2 };
const forward = (d: Device, t: Make, change: Partial<AttentionShape> & { lse?: Tensor; q?: Tensor; start?: Tensor }) => {
  const { lse = t([6, 4]), q = t([6, 8]), start = t([6], "i32"), ...changed } = change;
  d.attentionForward(t([6, 8]), lse, q, t([6, 4]), t([6, 4]), start, { ...shape, ...changed });
};
const backward = (d: Device, t: Make, change: Partial<AttentionShape> & { dQ?: Tensor; q?: Tensor }) => {
  const { q = t([6, 8]), dQ = t([6, 8]), ...changed } = change;
  const [dK, dV, dOut, k, v, out] = [t([6, 4]), t([6, 4]), t([6, 8]), t([6, 4]), t([6, 4]), t([6, 8])];
  d.attentionBackward(dQ, dK, dV, dOut, q, k, v, out, t([6, 4]), t([6], "i32"), { ...shape, ...changed });
};
const adamw = { learningRate: 1, beta1: 0.9, beta2: 0.9, epsilon: 1, weightDecay: 0, step: 1, gradientScale: 1 };
const table = (...entries: number[]) => Int32Array.from(entries);

const sweep = (d: Device, t: Make, change: Partial<SweepOptions>, tensors: { out?: number; errors?: Tensor; upper?: Tensor } = {}) => {
  const options: SweepOptions = { pattern: { kind: "groups", zeros: 2, of: 4 }, blockSize: 4, first: 0, count: 8, ...change };
  const { out = 2, errors = t([2, 8]), upper = t([8, 8]) } = tensors;
  d.sparseGptSweep(t([2, 8]), t([out]), errors, upper, t([8]), options);
};

/** Per op, calls that must throw; `turn` and `close` cannot be called wrongly. */
const wrongCalls: Record<Exclude<OpName, "turn" | "close">, Call[]> = {
  allocate: [(d) => d.allocate([2, -1], "f32", "weights"), (d) => d.allocate([2], "f64" as DType, "weights")],
  free: [(d, t) => d.free(d.rows(t([3, 2]), 0, 1))],
  rows: [(d, t) => d.rows(t([3, 2]), 2, 2), (d, t) => d.rows(t([3, 2]), -1, 1), (d, t) => d.rows(d.rows(t([5, 2]), 1, 2), 1, 2)],
  write: [
    (d, t) => d.write(t([3]), new Float32Array(4)),
    (d, t) => d.write(t([3]), new Int32Array(3)),
    (d, t) => d.write(t([3], "i32"), new Float32Array(3)),
  ],
  load: [
    (d, t) => d.load(t([3]), 0, new Uint8Array(13), "F32"),
    (d, t) => d.load(t([3]), 1, new Uint8Array(12), "F32"),
    (d, t) => d.load(t([3], "i32"), 0, new Uint8Array(12), "F32"),
  ],
  read: [],
  fill: [(d, t) => d.fill(t([3], "i32"), 0.5)],
  copy: [(d, t) => d.copy(t([3]), t([4])), (d, t) => d.copy(t([3]), t([3], "i32"))],
  matmul: [
    (d, t) => d.matmul(t([2, 3]), t([2, 4]), t([5, 3])),
    (d, t) => d.matmul(t([2, 3]), t([2, 4]), t([4, 3]), { transposeB: true }),
    (d, t) => d.matmul(t([3, 2]), t([2, 4]), t([4, 3])),
    (d, t) => d.matmul(t([2, 3], "i32"), t([2, 4]), t([4, 3])),
    (d, t) => {
      const square = t([3, 3]);
      d.matmul(square, square, t([3, 3]));
    },
  ],
  addBias: [(d, t) => d.addBias(t([2, 3]), t([2]))],
  biasBackward: [(d, t) => d.biasBackward(t([2]), t([2, 3])), (d, t) => d.biasBackward(t([3], "bf16"), t([2, 3]))],
  embeddingForward: [(d, t) => d.embeddingForward(t([3, 2]), t([5, 2]), t([2], "i32")), (d, t) => d.embeddingForward(t([3, 2]), t([5, 2]), t([3]))],
  embeddingBackward: [
    (d, t) => d.embeddingBackward(t([5, 2], "bf16"), t([3, 2]), t([3], "i32")),
    (d, t) => d.embeddingBackward(t([5, 3]), t([3, 2]), t([3], "i32")),
  ],
  rmsNormForward: [
    (d, t) => d.rmsNormForward(t([2, 4]), t([2]), t([2, 4]), t([3]), 1),
    (d, t) => d.rmsNormForward(t([2, 4]), t([3]), t([2, 4]), t([4]), 1),
    (d, t) => d.rmsNormForward(t([2, 4]), t([2], "bf16"), t([2, 4]), t([4]), 1),
  ],
  rmsNormBackward: [
    (d, t) => d.rmsNormBackward(t([2, 4]), t([3]), t([2, 4]), t([2, 4]), t([4]), t([2]), false),
    (d, t) => d.rmsNormBackward(null, t([4], "bf16"), t([2, 4]), t([2, 4]), t([4]), t([2]), false),
    (d, t) => {
      const dX = t([2, 4]);
      d.rmsNormBackward(dX, null, dX, t([2, 4]), t([4]), t([2]), true);
    },
  ],
  rope: [
    (d, t) => d.rope(t([2, 6]), t([5, 2]), t([5, 2]), t([2], "i32"), 4, false),
    (d, t) => d.rope(t([2, 6]), t([5, 1]), t([5, 1]), t([2], "i32"), 3, false),
    (d, t) => d.rope(t([2, 8]), t([5, 2]), t([5, 2]), t([3], "i32"), 4, false),
  ],
  attentionForward: [
    (d, t) => forward(d, t, { numKeyValueHeads: 3 }),
    (d, t) => forward(d, t, { queryLength: 4 }),
    (d, t) => forward(d, t, { keyStride: 2 }),
    (d, t) => forward(d, t, { headSize: 0 }),
    (d, t) => forward(d, t, { lse: t([6, 2]) }),
    (d, t) => forward(d, t, { q: t([6, 4]) }),
    (d, t) => forward(d, t, { start: t([6]) }),
  ],
  attentionBackward: [
    (d, t) => backward(d, t, { keyLength: 4, keyStride: 4 }),
    (d, t) => backward(d, t, { dQ: t([6, 4]) }),
    (d, t) => {
      const q = t([6, 8]);
      backward(d, t, { q, dQ: q });
    },
  ],
  swigluForward: [(d, t) => d.swigluForward(t([2, 3]), t([2, 3]), t([2, 4]))],
  swigluBackward: [
    (d, t) => d.swigluBackward(t([2, 3]), t([2, 3]), t([2, 4]), t([2, 3]), t([2, 3])),
    (d, t) => {
      const gate = t([2, 3]);
      d.swigluBackward(t([2, 3]), gate, t([2, 3]), gate, t([2, 3]));
    },
  ],
  crossEntropy: [
    (d, t) => d.crossEntropy(t([2]), t([3, 4]), t([3], "i32"), 1),
    (d, t) => d.crossEntropy(t([3]), t([3, 4], "bf16"), t([3], "i32"), 1),
  ],
  adamwStep: [
    (d, t) => d.adamwStep(t([3]), t([3]), t([3]), t([4]), adamw),
    (d, t) => d.adamwStep(t([3], "bf16"), t([3]), t([3]), t([3]), adamw),
    (d, t) => d.adamwStep(t([3]), t([3]), t([3]), t([3]), { ...adamw, step: 0 }),
  ],
  sumSquares: [],
  gatherColumns: [
    (d, t) => d.gatherColumns(t([2, 3]), t([2, 4]), table(0, 1, 3, 2)),
    (d, t) => d.gatherColumns(t([2, 3]), t([2, 4]), table(0, 2)),
    (d, t) => d.gatherColumns(t([2, 3]), t([2, 4]), table(0, 2, 3)),
  ],
  gatherBlocks: [
    (d, t) => d.gatherBlocks(t([4]), t([4, 4]), table(3, 2, 0, 2, 0, 0)),
    (d, t) => d.gatherBlocks(t([4]), t([4, 4]), table(0, 2, 0, 2, 1, 0)),
    (d, t) => d.gatherBlocks(t([4]), t([4, 4]), table(0, 2, 0)),
  ],
  scatterBlocks: [
    (d, t) => d.scatterBlocks(t([4, 4]), t([4]), table(0, 2, 3, 2, 0, 0)),
    (d, t) => d.scatterBlocks(t([4, 4]), t([4], "bf16"), table(0, 2, 0, 2, 0, 0)),
  ],
  blockGradients: [
    (d, t) => d.blockGradients(t([4]), t([3, 4]), t([3, 2]), table(0, 2, 0, 2, 0, 1)),
    (d, t) => d.blockGradients(t([4]), t([3, 4]), t([2, 2]), table(0, 2, 0, 2, 0, 0)),
    (d, t) => d.blockGradients(t([4]), t([3, 4]), t([3, 2]), table(0, 2, 0, 2, -1, 0)),
  ],
  blockScores: [
    (d, t) => d.blockScores(t([2, 2]), t([3, 4]), t([3, 4]), 4, false),
    (d, t) => d.blockScores(t([1, 1]), t([3, 4]), t([3, 4]), 0, false),
  ],
  blockMeans: [
    (d, t) => d.blockMeans(t([2, 2]), t([4, 4]), 4, "value", null),
    (d, t) => d.blockMeans(t([1, 1]), t([4, 4]), 4, "squareScaled", null),
    (d, t) => d.blockMeans(t([1, 1]), t([4, 4]), 4, "absolute", t([4])),
  ],
  columnSumSquares: [(d, t) => d.columnSumSquares(t([3]), t([3, 4]))],
  ...wrongAdapterCalls,
  inverseCholesky: [],
  mirrorLower: [
    (d, t) => d.mirrorLower(t([3, 4]), t([4])),
    (d, t) => d.mirrorLower(t([4, 4]), t([3])),
    (d, t) => d.mirrorLower(t([4, 4], "bf16"), t([4])),
  ],
  sparseGptSweep: [
    (d, t) => sweep(d, t, {}, { out: 3 }),
    (d, t) => sweep(d, t, { first: 2, count: 4 }),
    (d, t) => sweep(d, t, { first: 0, count: 3 }),
    (d, t) => sweep(d, t, { first: 4, count: 8 }),
    (d, t) => sweep(d, t, { blockSize: 6 }),
    (d, t) => sweep(d, t, { pattern: { kind: "groups", zeros: 5, of: 4 } }),
    (d, t) => sweep(d, t, { pattern: { kind: "share", share: 1.5 } }),
    (d, t) => sweep(d, t, {}, { errors: t([2, 7]) }),
    (d, t) => sweep(d, t, {}, { upper: t([8, 7]) }),
  ],
};

function maker(device: Device): { make: Make; free(): void } {
  const tensors: Tensor[] = [];
  const make: Make = (dimensions, dtype = "f32") => {
    const tensor = device.allocate(dimensions, dtype, "workspace");
    device.fill(tensor, 0);
    tensors.push(tensor);
    return tensor;
  };
  return {
    make,
    free() {
      for (const tensor of tensors) device.free(tensor);
    },
  };
}

const accepted = "nothing was thrown";

function messageOf(device: Device, call: Call): string {
  const { make, free } = maker(device);
  try {
    call(device, make);
  } catch (error) {
    return (error as Error).message;
  } finally {
    free();
  }
  return accepted;
}

const { devices, notRun } = await openDevices();
for (const line of notRun) console.log(line);
const computing = [...devices, { label: "reference", device: openReferenceDevice() as Device }];
const meta = openMetaDevice({ workspaceBytes: 0, description: "meta" });
after(() => {
  for (const { device } of [...computing, { device: meta }]) device.close();
});

for (const [op, calls] of Object.entries(wrongCalls)) {
  if (calls.length === 0) continue;
  test(`${op}: ${calls.length} wrong calls fail alike on every device`, () => {
    for (const call of calls) {
      const expected = messageOf(meta, call);
      assert.match(expected, /^(\w+): ./, `meta accepts ${call}`);
      for (const { label, device } of computing) assert.equal(messageOf(device, call), expected, `${label}: ${call}`);
    }
  });
}

test("read, sumSquares and countZeros reject wrong calls on every device", async () => {
  for (const { device } of [...computing, { device: meta }]) {
    const { make, free } = maker(device);
    await assert.rejects(async () => device.read(make([3]), 1, 3), /^Error: read: /);
    await assert.rejects(async () => device.sumSquares([make([3]), make([3], "i32")]), /^Error: sumSquares: /);
    await assert.rejects(async () => device.countZeros([make([3]), make([3], "i32")]), /^Error: countZeros: /);
    await assert.rejects(async () => device.inverseCholesky(make([3, 4]), make([4]), 0.01, null), /^Error: inverseCholesky: /);
    await assert.rejects(async () => device.inverseCholesky(make([4, 4]), make([4]), Number.NaN, null), /^Error: inverseCholesky: /);
    await assert.rejects(async () => device.inverseCholesky(make([4, 4]), make([4]), 0, make([4, 4])), /^Error: inverseCholesky: /);
    free();
  }
});

test("a tensor of another device is refused", () => {
  for (const { device } of [...computing, { device: meta }]) {
    const other = openReferenceDevice();
    const foreign = other.allocate([2, 2], "f32", "weights");
    assert.throws(() => device.fill(foreign, 0), /another device/);
    assert.throws(() => device.free(foreign), /another device/);
    other.close();
  }
});

/** Calls whose i32 contents point outside. */
const wrongIndices: Record<string, (index: number) => Call> = {
  "embeddingForward id": (index) => (d, t) => d.embeddingForward(t([3, 2]), t([5, 2]), filled(d, t([3], "i32"), index)),
  "embeddingBackward id": (index) => (d, t) => d.embeddingBackward(t([5, 2]), t([3, 2]), filled(d, t([3], "i32"), index)),
  "rope position": (index) => (d, t) => d.rope(t([3, 4]), t([5, 2]), t([5, 2]), filled(d, t([3], "i32"), index), 4, false),
  "crossEntropy target": (index) => (d, t) => d.crossEntropy(t([3]), t([3, 5]), filled(d, t([3], "i32"), 5 + Math.abs(index)), 1),
  "attentionForward documentStart": (index) => (d, t) => forward(d, t, { start: filled(d, t([6], "i32"), index) }),
};

function filled(d: Device, tensor: Tensor, last: number): Tensor {
  d.write(tensor, Int32Array.of(last), tensor.shape[0] - 1);
  return tensor;
}

for (const [what, callWith] of Object.entries(wrongIndices)) {
  test(`${what} out of range is refused on every device that computes`, () => {
    for (const { label, device } of computing) {
      // One beyond the end, and one that is a crash when it is followed.
      for (const index of [5, -1, -(2 ** 30)]) assert.notEqual(messageOf(device, callWith(index)), accepted, `${label} accepts ${index}`);
    }
  });
}

test("a freed tensor is refused in every place of every op by meta", () => {
  const ops: Partial<Record<OpName, (d: Device, t: Tensor[]) => void>> = {
    matmul: (d, [a, b, c]) => d.matmul(a, b, c),
    swigluForward: (d, [a, b, c]) => d.swigluForward(a, b, c),
    copy: (d, [a, b]) => d.copy(a, b),
  };
  for (const [op, call] of Object.entries(ops)) {
    for (const freed of [0, 1, 2].slice(0, op === "copy" ? 2 : 3)) {
      const tensors = [0, 1, 2].map(() => meta.allocate([2, 2], "f32", "weights"));
      meta.free(tensors[freed]);
      assert.throws(() => call(meta, tensors), /freed/, `${op}, tensor ${freed}`);
      for (const [i, tensor] of tensors.entries()) if (i !== freed) meta.free(tensor);
    }
  }
  assert.equal(meta.ledger.liveBytes, 0);
});

test("a freed tensor among those that form an adapted weight is refused on every device", () => {
  for (const { label, device } of [...computing, { label: "meta", device: meta }]) {
    for (const freed of ["weight", "left", "right", "scales", "zeros", "alpha", "beta"]) {
      const { make, free } = maker(device);
      const gone = device.allocate([4, 4], "f32", "workspace");
      device.free(gone);
      const square = (name: string) => (name === freed ? gone : make([4, 4]));
      const quantization = { scales: square("scales"), zeros: square("zeros"), groupSize: 1 };
      const group = freed === "alpha" || freed === "beta";
      const beta = freed === "beta" ? device.allocate([4], "f32", "workspace") : make([4]);
      if (freed === "beta") device.free(beta);
      const adapted = group
        ? grouped(make, { weight: square("weight"), alpha: square("alpha"), beta })
        : lowRank(make, { weight: square("weight"), left: square("left"), right: square("right"), rank: 4, quantization });
      assert.throws(() => device.adaptedMatmul(make([4, 4]), make([4, 4]), adapted), /freed/, `${label}: adaptedMatmul, ${freed}`);
      assert.throws(() => device.formAdapted(make([4, 4]), adapted), /freed/, `${label}: formAdapted, ${freed}`);
      free();
    }
  }
});
