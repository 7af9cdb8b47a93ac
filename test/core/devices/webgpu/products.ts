/** Operands and products that tests of the WebGPU device's matmul kernels share. */
import { type Device, type DType, sizeOf, type Tensor } from "../../../../src/core/devices/device.ts";
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
