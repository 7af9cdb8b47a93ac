/** Operands and products that tests of the WebGPU device's matmul kernels share. */
import { type Device, type DType, sizeOf, type Tensor } from "../../../../src/core/devices/device.ts";
import { allCases } from "../../../conformance/cases/all.ts";
import { matmulCases } from "../../../conformance/cases/matmul.ts";
import type { ConformanceCase } from "../../../conformance/harness.ts";
import { normals } from "../../../support/randomTensors.ts";

/** A tensor filled by index. */
export function writtenTensor(device: Device, shape: readonly number[], dtype: DType, value: (i: number) => number): Tensor {
  const tensor = device.allocate(shape, dtype, "workspace");
  device.write(
    tensor,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => value(i)),
  );
  return tensor;
}

/** Bits of an f32 product that fills several tiles of any shape but the last of each row and column. */
export async function productBits(device: Device, dtype: DType): Promise<Uint32Array> {
  const [M, N, K] = [132, 130, 24];
  const [a, b] = [normals(1, M * K), normals(2, N * K)];
  const operands = [writtenTensor(device, [M, K], dtype, (i) => a[i]), writtenTensor(device, [N, K], dtype, (i) => b[i])];
  const out = device.allocate([M, N], "f32", "workspace");
  device.matmul(out, operands[0], operands[1], { transposeB: true });
  const product = (await device.read(out)) as Float32Array;
  for (const tensor of [...operands, out]) device.free(tensor);
  return new Uint32Array(product.buffer);
}

const largestCase = 6000;

/**
 * Small conformance cases of matmul with bf16 operands: all of magnitudes and of what is not finite, which share few kernels, and of the other forms every
 * `stride`-th, because a software card takes a second to compile a kernel.
 */
export function chosenCases(stride: number): ConformanceCase[] {
  const small = matmulCases.filter(({ title, elements = 0 }) => / ← .*bf16/.test(title) && elements <= largestCase);
  const special = ({ title }: ConformanceCase) => /f32 ← bf16 ← bf16 (scales|with NaN|mixed)/.test(title);
  return [...small.filter(special), ...small.filter((_, i) => i % stride === stride - 1)];
}

/** Elements of a workspace in which {@link methodCases} need several strips. */
export const smallStrip = 1200;

/** Cases of the methods' own products with bf16 operands, so many an op: a matrix of 64 by 96, which no strip but the device's own holds. */
export function methodCases(each: number): ConformanceCase[] {
  return (["adaptedMatmul", "adaptedGradients", "blockGradients", "blockScores"] as const).flatMap((op) => {
    const fitting = allCases[op].filter(({ title, elements = 0 }) => /\(64, 96\)/.test(title) && /bf16/.test(title) && elements <= 15_000);
    const stride = Math.floor(fitting.length / each);
    return Array.from({ length: each }, (_, i) => fitting[(i + 1) * stride - 1]);
  });
}

/** What fails, by title; `productError` as the harness takes it. */
export async function failuresOf(device: Device, cases: readonly ConformanceCase[], productError = 0): Promise<string[]> {
  const failures: string[] = [];
  // Known as slow: each is computed once, in the stricter layout.
  const tested = Object.assign(device, { largestCase, productError });
  for (const { title, run } of cases) await run(tested, () => {}).catch((error: Error) => failures.push(`${title}: ${error.message}`));
  return failures;
}
