/**
 * Products of bf16 operands in scaled f16, on a software card that has f16: conformance, the same bits in every tile, scales that follow the tensors.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, test } from "node:test";
import { openGpu } from "../../../../src/core/devices/webgpu/gpu.ts";
import { type TileShape, tileShapes } from "../../../../src/core/devices/webgpu/kernels/tiledProduct.wgsl.ts";
import { openWebgpuDevice, WebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import { matmulCases } from "../../../conformance/cases/matmul.ts";
import type { TestedDevice } from "../../../conformance/harness.ts";
import { prepareLlvmpipe } from "../../../support/llvmpipe.ts";
import { productBits, writtenTensor } from "./products.ts";

const { folder, skip } = prepare();
after(() => folder && rmSync(folder, { recursive: true }));

function prepare(): { folder: string | null; skip: string | false } {
  try {
    return { folder: prepareLlvmpipe(), skip: false };
  } catch (error) {
    return { folder: null, skip: `not run: f16 products: ${error instanceof Error ? error.message : error}` };
  }
}

/** Of the cases with a bf16 operand the small ones. Those of one form share a kernel; of the others every so-manieth runs, because a kernel takes a second to compile. */
const largestCase = 6000;
const cases = matmulCases.filter(({ title, elements = 0 }) => / ← .*bf16/.test(title) && elements <= largestCase);
const special = (title: string) => /scales|NaN|magnitudes/.test(title);
const stride = 16;

test("conformance of matmul with bf16 operands in f16", { skip }, async () => {
  const device: TestedDevice = await openWebgpuDevice();
  assert.match(device.description, /\(f16\)$/);
  device.largestCase = largestCase;
  const failures: string[] = [];
  const chosen = cases.filter(({ title }, i) => i % stride === 0 || special(title));
  for (const { title, run } of chosen) await run(device, () => {}).catch((error: Error) => failures.push(`${title}: ${error.message}`));
  device.close();
  assert.ok(chosen.length > 20);
  assert.deepEqual(failures, []);
});

test("every tile gives the same bits in f16", { skip }, async () => {
  const gpu = await openGpu();
  const withTile = (tile: TileShape) => new WebgpuDevice({ ...gpu, units: { ...gpu.units, tiles: [tile] } });
  const [bits, ...others] = await Promise.all(tileShapes.map((tile) => productBits(withTile(tile), "bf16")));
  for (const other of others) assert.deepEqual(other, bits);
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
