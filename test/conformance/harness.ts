/**
 * Runs one op on a device and on the float64 reference from the same inputs and compares everything: the outputs element by element, the inputs
 * (unchanged), what lies around each tensor, and the ledger. It knows no op; the cases under cases/ say what to call and how close it must come.
 *
 * Each case runs in two layouts: `own` memory per tensor, and `view`, where every tensor is the middle of a taller one whose other rows are NaN:
 * reading beyond the rows poisons the result, writing beyond them shows. Outputs start as NaN unless the case says otherwise.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Device, DType, Tensor } from "../../src/core/devices/device.ts";
import { sizeOf } from "../../src/core/devices/device.ts";
import { openReferenceDevice, type ReferenceDevice } from "../../src/core/devices/reference.ts";
import { bf16Unit, expectClose, f32Tiny } from "../support/expectClose.ts";

/** What the suite knows of a device under test beyond the interface. */
export type TestedDevice = Device & {
  /** Throws, or returns false, when the bytes beside a tensor's memory were overwritten. */
  checkGuards?(tensor: Tensor): unknown;
  /** What its sums of products of bf16 may be off beyond f32's error, relative to Σ|terms|. */
  productError?: number;
  /** Elements of the largest case that a slow device is asked to compute; it then computes each once. */
  largestCase?: number;
};

/** A named check of one op. It throws UnsupportedError when the device cannot do it, and leaves nothing allocated. */
export interface ConformanceCase {
  title: string;
  /** Of all its tensors, where that says how long it takes. */
  elements?: number;
  run(device: TestedDevice, record: (results: Uint8Array) => void): Promise<void>;
}

export interface TensorSpec {
  shape: readonly number[];
  dtype: DType;
  /** What the tensor holds before the call; NaN when absent. */
  data?: Float32Array | Int32Array;
}

export type Tensors<Name extends string> = Record<Name, Tensor>;
/** Float contents by tensor name. */
export type Values<Name extends string> = Record<Name, Float64Array>;

/** Allowed distance by element; `exact` stands for equal bits after rounding to the tensor's dtype. */
export type Tolerance<Name extends string> = "exact" | ((context: ToleranceContext<Name>) => (index: number) => number);

export interface ToleranceContext<Name extends string> {
  /** What every float tensor held before the call, as the device received it. */
  before: Values<Name>;
  /** The reference's tensors after the call. */
  after: Values<Name>;
  /** The reference's tensors after the same call on the absolute values of all floats: for sums of products, Σ|terms|. */
  magnitude: Values<Name>;
}

export interface OpCase<Name extends string> {
  title: string;
  tensors: Record<Name, TensorSpec>;
  call(device: Device, tensors: Tensors<NoInfer<Name>>): void;
  /** Every tensor the call may change; all others must keep their bits. */
  outputs: Partial<Record<NoInfer<Name>, Tolerance<NoInfer<Name>>>>;
}

type Layout = "own" | "view";

const rowsAbove = 2;
const rowsBelow = 3;

/** Makes a case that is run in both layouts and twice in the first, where the second time must give the same bits. */
export function opCase<Name extends string>(definition: OpCase<Name>): ConformanceCase {
  let expected: ToleranceContext<Name> | null = null;
  return {
    title: definition.title,
    elements: entries(definition).reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0),
    async run(device, record) {
      if (device.largestCase !== undefined) {
        expected ??= runReference(definition);
        return compare(definition, await runOn(device, definition, "view"), expected, device, " (rows of a taller tensor)");
      }
      // The first device that gets here pays for the reference; results are kept for the other devices.
      const results = await runOn(device, definition, "own");
      expected ??= runReference(definition);
      compare(definition, results, expected, device, "");
      record(bytesOf(results));
      assert.deepEqual(bytesOf(await runOn(device, definition, "own")), bytesOf(results), "the same call twice gives different bits");
      compare(definition, await runOn(device, definition, "view"), expected, device, " (rows of a taller tensor)");
    },
  };
}

type Results = Map<string, Float32Array | Int32Array>;

function bytesOf(results: Results): Uint8Array {
  const hash = createHash("sha256");
  for (const [name, data] of results) hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return new Uint8Array(hash.digest());
}

function entries<Name extends string>(definition: OpCase<Name>): [Name, TensorSpec][] {
  return Object.entries(definition.tensors) as [Name, TensorSpec][];
}

/** NaN around and inside; ids are 0, because a wrong read must not become a wild one. */
function blank(dtype: DType, count: number): Float32Array | Int32Array {
  return dtype === "i32" ? new Int32Array(count) : new Float32Array(count).fill(Number.NaN);
}

async function runOn<Name extends string>(device: TestedDevice, definition: OpCase<Name>, layout: Layout): Promise<Results> {
  const liveBefore = device.ledger.liveBytes;
  const owners: Tensor[] = [];
  const tensors = {} as Tensors<Name>;
  try {
    for (const [name, { shape, dtype, data }] of entries(definition)) {
      const taller = layout === "view" ? [shape[0] + rowsAbove + rowsBelow, ...shape.slice(1)] : shape;
      const owner = device.allocate(taller, dtype, "workspace");
      owners.push(owner);
      device.write(owner, blank(dtype, sizeOf(taller)) as Float32Array);
      tensors[name] = layout === "view" ? device.rows(owner, rowsAbove, shape[0]) : owner;
      if (data) device.write(tensors[name], data);
    }
    definition.call(device, tensors);
    const results: Results = new Map();
    for (const [name] of entries(definition)) results.set(name, await device.read(tensors[name]));
    for (const owner of owners)
      assert.notEqual(device.checkGuards?.(owner), false, `guard bytes beside ${owner.dtype} (${owner.shape}) were overwritten`);
    if (layout === "view") await checkSurroundings(device, definition, owners);
    return results;
  } finally {
    for (const owner of owners) device.free(owner);
    assert.equal(device.ledger.liveBytes, liveBefore, "live bytes after everything was freed");
  }
}

async function checkSurroundings<Name extends string>(device: Device, definition: OpCase<Name>, owners: Tensor[]): Promise<void> {
  for (const [index, [name, { shape, dtype }]] of entries(definition).entries()) {
    const stride = sizeOf(shape.slice(1));
    const all = await device.read(owners[index]);
    for (const range of [all.subarray(0, rowsAbove * stride), all.subarray((rowsAbove + shape[0]) * stride)]) {
      assert.ok(
        (range as Float32Array).every((x) => (dtype === "i32" ? x === 0 : Number.isNaN(x))),
        `rows beside ${name} were overwritten`,
      );
    }
  }
}

function runReference<Name extends string>(definition: OpCase<Name>): ToleranceContext<Name> {
  const values = (absolute: boolean) => {
    const reference = openReferenceDevice();
    const tensors = {} as Tensors<Name>;
    for (const [name, { shape, dtype, data }] of entries(definition)) {
      tensors[name] = reference.allocate(shape, dtype, "workspace");
      const contents = data ?? blank(dtype, sizeOf(shape));
      reference.write(tensors[name], absolute && contents instanceof Float32Array ? contents.map(Math.abs) : contents);
    }
    const before = floatsOf(reference, tensors);
    definition.call(reference, tensors);
    const after = floatsOf(reference, tensors);
    reference.close();
    return { before, after };
  };
  return { ...values(false), magnitude: values(true).after };
}

function floatsOf<Name extends string>(reference: ReferenceDevice, tensors: Tensors<Name>): Values<Name> {
  const floats = (Object.entries(tensors) as [Name, Tensor][]).filter(([, tensor]) => tensor.dtype !== "i32");
  return Object.fromEntries(floats.map(([name, tensor]) => [name, reference.readExact(tensor)])) as Values<Name>;
}

function compare<Name extends string>(
  definition: OpCase<Name>,
  results: Results,
  context: ToleranceContext<Name>,
  { productError = 0 }: TestedDevice,
  where: string,
): void {
  const ofHalves = productError > 0 && entries(definition).some(([, tensor]) => tensor.dtype === "bf16");
  for (const [name, { shape, dtype, data }] of entries(definition)) {
    const actual = results.get(name) as Float32Array | Int32Array;
    const tolerance = definition.outputs[name];
    if (dtype === "i32") {
      assert.deepEqual(actual, data ?? new Int32Array(sizeOf(shape)), `${name}${where} is an input and changed`);
    } else if (tolerance === undefined) {
      expectSameBits(`${name}${where} is an input and changed`, actual, context.before[name]);
    } else if (tolerance === "exact") {
      expectSameBits(`${name}${where}`, actual, context.after[name]);
    } else {
      const own = tolerance(context);
      const magnitude = context.magnitude[name];
      const absolute = (i: number) => own(i) + (ofHalves ? productError * magnitude[i] : 0); // a magnitude may be NaN
      const expected = context.after[name];
      // A bf16 output is the device's f32 result rounded once: half the spacing of bf16 numbers there comes on top, and only that.
      const rounding = (i: number) => (dtype === "bf16" ? bf16Unit * 2 ** Math.floor(Math.log2(Math.abs(expected[i]) + absolute(i))) : 0);
      expectClose(`${name}${where}`, actual, expected, (i) => absolute(i) + rounding(i) + f32Tiny, shape);
    }
  }
}

/** Equal as f32 numbers, −0 and 0 told apart; any NaN equals any NaN. */
export function expectSameBits(label: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(actual.length, expected.length, `${label}: number of elements`);
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], Math.fround(expected[i]))) assert.fail(`${label}: at [${i}] expected ${Math.fround(expected[i])}, actual ${actual[i]}`);
  }
}
