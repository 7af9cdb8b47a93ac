/**
 * The one list of devices the conformance suite judges. A device that cannot be opened here is named with the reason ("not run: …").
 * The reference is the judge and stands not in it; meta computes nothing.
 */
import { openPortableDevice } from "../../src/core/devices/cpu/portableDevice.ts";
import { prepareGraphicsCard } from "../support/graphicsCard.ts";
import type { TestedDevice } from "./harness.ts";

export interface OpenedDevice {
  label: string;
  /** Devices of one family must give the same bits. */
  family: string;
  device: TestedDevice;
}

/** Opens every device this machine can; the caller closes them. */
export async function openDevices(): Promise<{ devices: OpenedDevice[]; notRun: string[] }> {
  const devices: OpenedDevice[] = [{ label: "portable", family: "portable", device: openPortableDevice() }];
  const notRun: string[] = [];
  for (const threads of [1, 2]) {
    const label = `native cpu, ${threads} thread${threads > 1 ? "s" : ""}`;
    try {
      devices.push({ label, family: "native cpu", device: await openNative(threads) });
    } catch (error) {
      notRun.push(`not run: conformance of ${label}: ${error instanceof Error ? error.message : error}`);
    }
  }
  try {
    devices.push(await openWebgpu());
  } catch (error) {
    notRun.push(`not run: conformance of webgpu: ${error instanceof Error ? error.message : error}`);
  }
  try {
    devices.push(await openTensorflow());
  } catch (error) {
    notRun.push(`not run: conformance of tensorflow: ${error instanceof Error ? error.message : error}`);
  }
  return { devices, notRun };
}

/** WebAssembly, unless this machine's environment names another engine. */
async function openTensorflow(): Promise<OpenedDevice> {
  const { openTensorflowDevice } = await import("../../src/core/devices/tensorflow/tensorflowDevice.ts");
  const { device } = await openTensorflowDevice();
  return { label: "tensorflow", family: "tensorflow", device };
}

/** A software card takes whole cases of a few thousand elements, in the stricter layout, and no more. */
async function openWebgpu(): Promise<OpenedDevice> {
  const { software } = prepareGraphicsCard();
  const { openWebgpuDevice } = await import("../../src/core/devices/webgpu/webgpuDevice.ts");
  const device: TestedDevice = await openWebgpuDevice();
  if (software) device.largestCase = 6000;
  return { label: software ? "webgpu on a software card" : "webgpu", family: "webgpu", device };
}

async function openNative(threads: number): Promise<TestedDevice> {
  const { openCpuDevice } = await import("../../src/core/devices/cpu/cpuDevice.ts");
  return openCpuDevice({ threads });
}
