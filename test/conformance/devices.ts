/**
 * The one list of devices the conformance suite judges. A device that cannot be opened here is named with the reason ("not run: …").
 * The reference is the judge and stands not in it; meta computes nothing.
 */
import { rmSync } from "node:fs";
import { openPortableDevice } from "../../src/core/devices/cpu/portableDevice.ts";
import { mayHaveCard, prepareGraphicsCard } from "../support/graphicsCard.ts";
import { prepareLlvmpipe } from "../support/llvmpipe.ts";
import { halfProductError } from "./cases/tolerances.ts";
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

/**
 * This machine's card, or a software one, which computes each case once: llvmpipe all of them, and SwiftShader, which takes several times as long, those of a few
 * thousand elements. llvmpipe's f16 is left to tests of its own, so that the kernels in f32 are held to their closeness here.
 */
async function openWebgpu(): Promise<OpenedDevice> {
  const llvmpipe = mayHaveCard() ? null : tryLlvmpipe();
  const software = llvmpipe !== null || prepareGraphicsCard().software;
  const { openGpu } = await import("../../src/core/devices/webgpu/gpu.ts");
  const { WebgpuDevice } = await import("../../src/core/devices/webgpu/webgpuDevice.ts");
  const gpu = await openGpu();
  const opened = new WebgpuDevice(llvmpipe ? { ...gpu, units: { ...gpu.units, f16: false } } : gpu);
  await opened.proveUnits();
  const device: TestedDevice = opened;
  if (software) device.largestCase = llvmpipe ? Number.POSITIVE_INFINITY : 6000;
  if (/\(f16\b(?! tensor cores)/.test(opened.description)) device.productError = halfProductError;
  return { label: software ? "webgpu on a software card" : "webgpu", family: "webgpu", device };
}

function tryLlvmpipe(): string | null {
  try {
    const folder = prepareLlvmpipe();
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    return folder;
  } catch {
    return null;
  }
}

async function openNative(threads: number): Promise<TestedDevice> {
  const { openCpuDevice } = await import("../../src/core/devices/cpu/cpuDevice.ts");
  return openCpuDevice({ threads });
}
