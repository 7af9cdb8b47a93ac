/** Opens the native device for tests of what only it has, and says where it cannot be opened. Not a test itself. */
import { nativeAvailable, openCpuDevice } from "../../../../src/core/devices/cpu/cpuDevice.ts";
import type { DType, Tensor } from "../../../../src/core/devices/device.ts";
import { sizeOf } from "../../../../src/core/devices/device.ts";
import { normals } from "../../../support/randomTensors.ts";

export type NativeDevice = ReturnType<typeof openCpuDevice>;

/** The reason to skip where nothing is compiled, else false. */
export const skip = nativeAvailable() ? false : "not run: no compiled addon";

/** Runs `body` on a device of its own and closes it. */
export async function withDevice<T>(threads: number, body: (device: NativeDevice) => Promise<T> | T): Promise<T> {
  const device = openCpuDevice({ threads });
  try {
    return await body(device);
  } finally {
    device.close();
  }
}

/** A tensor of random numbers. */
export function randomTensor(device: NativeDevice, shape: number[], dtype: DType, seed: number, scale = 1): Tensor {
  const tensor = device.allocate(shape, dtype, "activations");
  device.write(tensor, normals(seed, sizeOf(shape), scale));
  return tensor;
}
