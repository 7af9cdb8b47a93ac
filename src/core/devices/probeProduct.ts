/** The small product that a device is tried with: it goes the way of a linear map's, to the device, through a kernel and back. */
import type { Device } from "./device.ts";

const [M, N, K] = [24, 40, 56];
/** Small whole numbers, whose products are exact in every format and any order of summation. */
const left = Float32Array.from({ length: M * K }, (_, i) => ((7 * i) % 11) - 5);
const right = Float32Array.from({ length: N * K }, (_, i) => ((5 * i) % 13) - 6);

/** Multiplies as a linear map does, x·Wᵀ with W in bf16; a sentence where the result is wrong, else null. */
export async function wrongProduct(device: Device): Promise<string | null> {
  const x = device.allocate([M, K], "f32", "activations");
  const weight = device.allocate([N, K], "bf16", "weights");
  const out = device.allocate([M, N], "f32", "activations");
  device.write(x, left);
  device.write(weight, right);
  device.matmul(out, x, weight, { transposeB: true });
  const result = await device.read(out);
  for (const tensor of [x, weight, out]) device.free(tensor);
  for (let i = 0; i < M * N; i++) {
    const [row, column] = [Math.floor(i / N), i % N];
    let expected = 0;
    for (let k = 0; k < K; k++) expected += left[row * K + k] * right[column * K + k];
    if (result[i] !== expected) return `it computes wrong: ${result[i]} where ${expected} is right`;
  }
  return null;
}
