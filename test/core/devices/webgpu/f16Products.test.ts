/**
 * Products of bf16 operands in scaled f16, on a software card that has f16: conformance of matmul and of the methods' own, the largest sums, the same bits in
 * every tile, scales that follow the tensors.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, test } from "node:test";
import { openGpu } from "../../../../src/core/devices/webgpu/gpu.ts";
import type { MatrixShape } from "../../../../src/core/devices/webgpu/kernels/matrixProduct.wgsl.ts";
import { type TileShape, tileShapes } from "../../../../src/core/devices/webgpu/kernels/tiledProduct.wgsl.ts";
import { openWebgpuDevice, WebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import { halfProductError } from "../../../conformance/cases/tolerances.ts";
import { emulatedFragments } from "../../../support/emulatedFragments.ts";
import { prepareLlvmpipe } from "../../../support/llvmpipe.ts";
import { judge, lossCurve } from "../../../support/lossCurve.ts";
import { temporaryFolder } from "../../run/smallRuns.ts";
import { chosenCases, failuresOf, methodCases, productBits, smallStrip, writtenTensor } from "./products.ts";

const { folder, skip } = prepare();
after(() => folder && rmSync(folder, { recursive: true }));

function prepare(): { folder: string | null; skip: string | false } {
  try {
    return { folder: prepareLlvmpipe(), skip: false };
  } catch (error) {
    return { folder: null, skip: `not run: f16 products: ${error instanceof Error ? error.message : error}` };
  }
}

test("conformance of matmul with bf16 operands in f16", { skip }, async () => {
  const device = await openWebgpuDevice();
  assert.match(device.description, /\(f16\)$/);
  const cases = chosenCases(13);
  assert.ok(cases.length > 10, `${cases.length} cases`);
  assert.deepEqual(await failuresOf(device, cases, halfProductError), []);
  device.close();
});

test("four products are summed in f16, and no four overflow it", { skip }, async () => {
  const device = await openWebgpuDevice();
  const product = async (value: number, K: number) => {
    const [a, b] = [1, 2].map(() => writtenTensor(device, [1, K], "bf16", () => value));
    const out = device.allocate([1, 1], "f32", "workspace");
    device.matmul(out, a, b, { transposeB: true });
    const [sum] = await device.read(out);
    for (const tensor of [a, b, out]) device.free(tensor);
    return sum;
  };
  assert.equal(await product(1 + 2 ** -7, 1), 1 + 2 ** -6, "its square's last bit, 2⁻¹⁴, is none of f16's");
  const largest = 2 - 2 ** -7; // of bf16's numbers below a power of two
  for (const value of [largest, largest * 2 ** 50, largest * 2 ** -60]) {
    const sum = await product(value, 70);
    assert.ok(Math.abs(sum / (70 * value * value) - 1) < halfProductError, `${sum} of 70 squares of ${value}`);
  }
  device.close();
});

test("the methods' own products in f16, in strips of a small workspace", { skip }, async () => {
  class SmallStrips extends WebgpuDevice {
    protected override get stripElements() {
      return smallStrip;
    }
  }
  const gpu = await openGpu();
  const cases = methodCases(3);
  assert.equal(cases.length, 12);
  assert.deepEqual(await failuresOf(new SmallStrips(gpu), cases, halfProductError), []);
  gpu.close();
});

test("a run in f16: its losses are the cpu's", { skip, timeout: 300_000 }, async (t) => {
  const common = temporaryFolder(t);
  const [ours, theirs, still] = [
    await lossCurve(common, "webgpu", "bf16", 3, 2e-2),
    await lossCurve(common, "cpu", "bf16", 3, 2e-2),
    await lossCurve(common, "cpu", "bf16", 3, 0),
  ];
  const { found, most } = judge("bf16", ours, theirs, still);
  t.diagnostic(
    `worst ${found.worst.toExponential(1)} of ${most.worst.toExponential(1)}, mean ${found.mean.toExponential(1)} of ${most.mean.toExponential(1)}`,
  );
  assert.ok(found.worst <= most.worst && found.mean <= most.mean, `${ours} beside ${theirs}`);
});

test("every tile gives the same bits in f16", { skip }, async () => {
  const gpu = await openGpu();
  const withTile = (tile: TileShape) => new WebgpuDevice({ ...gpu, units: { ...gpu.units, tiles: [tile] } });
  const [bits, ...others] = await Promise.all(tileShapes.map((tile) => productBits(withTile(tile), "bf16")));
  for (const other of others) assert.deepEqual(other, bits);
  gpu.close();
});

test("a tile that computes wrongly, and units that do not compile, are left when the card is opened", { skip }, async () => {
  const gpu = await openGpu();
  const unit = { M: 16, N: 8, K: 16, lanes: 16 };
  const doesNotCompile: MatrixShape = { rows: 32, columns: 48, own: { rows: 16, columns: 32 } };
  const leavesRowsOut: TileShape = { rows: 96, columns: 64 };
  const matrix = { unit, shapes: [doesNotCompile], fragments: emulatedFragments(unit, "f16") };
  const device = new WebgpuDevice({ ...gpu, units: { f16: true, tiles: [tileShapes[0], leavesRowsOut], matrix } });
  await device.proveUnits();
  const [units, first, second] = device.description.split("; ");
  assert.match(units, /\(f16$/);
  assert.match(first, /^f16 tensor cores 16×8×16 in 32×48 left: ./);
  assert.equal(second, "f16 in 96×64 left: a product of integers came out wrong)");
  assert.deepEqual(
    await productBits(device, "bf16"),
    await productBits(new WebgpuDevice({ ...gpu, units: { ...gpu.units, tiles: tileShapes } }), "bf16"),
  );
  gpu.close();
});

test("the scale of a tensor follows what is written into it, by the host or by a kernel", { skip }, async () => {
  const device = await openWebgpuDevice();
  const K = 32;
  const a = writtenTensor(device, [4, K], "bf16", () => 1e-30);
  const b = writtenTensor(device, [4, K], "bf16", () => 1);
  const out = device.allocate([4, 4], "f32", "workspace");
  const product = async () => {
    device.matmul(out, a, b, { transposeB: true });
    return [...(await device.read(out))];
  };
  const near = (values: number[], expected: number) =>
    assert.ok(
      values.every((value) => Math.abs(value / expected - 1) < 0.01),
      `${values} beside ${expected}`,
    );
  near(await product(), K * 1e-30);
  device.write(a, new Float32Array(4 * K).fill(1e30));
  near(await product(), K * 1e30);
  device.fill(a, 1e-20);
  device.fill(device.rows(b, 1, 1), 1);
  near(await product(), K * 1e-20);
  device.fill(b, 1e36);
  near(await product(), K * 1e16);
  device.close();
});
