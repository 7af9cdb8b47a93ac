/**
 * inverseCholesky in float64 for a device that has none: on this machine's processor, natively where the kernels are compiled. Takes 24 bytes an entry of
 * the machine's memory while it works, which no ledger of the card counts.
 */
import os from "node:os";
import { nativeAvailable, openCpuDevice } from "../cpu/cpuDevice.ts";
import { openPortableDevice } from "../cpu/portableDevice.ts";
import type { Device, Tensor } from "../device.ts";
import { columnsOf } from "../shapes.ts";

/** As {@link Device.inverseCholesky} with `wide`, for tensors of `device`. */
export async function factorOnHost(device: Device, h: Tensor, diagonal: Tensor, damping: number): Promise<boolean> {
  const C = columnsOf(h);
  const host = nativeAvailable() ? openCpuDevice({ threads: os.availableParallelism() }) : openPortableDevice();
  try {
    const [matrix, entries, wide] = [[C, C], [C], [C, 2 * C]].map((shape) => host.allocate(shape, "f32", "workspace"));
    host.write(matrix, (await device.read(h)) as Float32Array);
    const found = await host.inverseCholesky(matrix, entries, damping, wide);
    device.write(diagonal, (await host.read(entries)) as Float32Array);
    if (found) device.write(h, (await host.read(matrix)) as Float32Array);
    return found;
  } finally {
    host.close();
  }
}
