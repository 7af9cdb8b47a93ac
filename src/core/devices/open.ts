/**
 * Opens the device a run asks for, and says what was tried and why not. The rule to keep: nothing falls back silently; `reasons` is shown and logged.
 */
import os from "node:os";
import { UserError } from "../../protocol/userError.ts";
import { cpuWorkspaceBytes, nativeAvailable, openCpuDevice } from "./cpu/cpuDevice.ts";
import { openPortableDevice, portableWorkspaceBytes } from "./cpu/portableDevice.ts";
import type { Device, ElementBytes } from "./device.ts";
import { openTensorflowDevice, plannedTensorflow } from "./tensorflow/tensorflowDevice.ts";
import { openWebgpuDevice, webgpuWorkspaceBytes } from "./webgpu/webgpuDevice.ts";

/** What a plan is to know of a device, without opening it. */
export interface PlannedDevice {
  /** What it takes for itself, which the ledger counts from the start. */
  workspaceBytes: number;
  description: string;
  /** What an element occupies there, where the device has not each type. */
  elementBytes?: ElementBytes;
  place?: MemoryPlace;
}

/** Where a device's tensors lie; in the machine's memory where it is not said. */
export interface MemoryPlace {
  memory: "machine" | "card";
  /** What the engine's addresses reach, where that bounds it. */
  limitBytes?: number;
}

export interface OpenedDevice {
  device: Device;
  /** What was tried before and why it is not used. */
  reasons: string[];
  /** Where its tensors do lie, where only opening it tells. */
  place?: MemoryPlace;
}

export type DeviceName = "auto" | "cpu" | "webgpu" | "tensorflow";

/** Threads of the cpu device: as asked, or one a core. */
export function threadCount(threads: number | "auto"): number {
  return threads === "auto" ? os.availableParallelism() : threads;
}

/** The asked device; `auto` takes the cpu. Throws UserError when there is no card for it. */
export async function openDevice(name: DeviceName, threads: number | "auto"): Promise<OpenedDevice> {
  if (name === "webgpu") return { device: await openWebgpuDevice(), reasons: [] };
  if (name === "tensorflow") return openTensorflowDevice();
  if (process.env.SPARSE_TUNER_NO_NATIVE === "1")
    return { device: openPortableDevice(), reasons: [portableBecause("SPARSE_TUNER_NO_NATIVE=1 is set.")] };
  try {
    return { device: openCpuDevice({ threads: threadCount(threads) }), reasons: [] };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { device: openPortableDevice(), reasons: [portableBecause(`${error.message} ${error.action}`)] };
  }
}

function portableBecause(reason: string): string {
  return `The portable device computes, many times slower than the native kernels: ${reason}`;
}

/** What the asked device takes for itself, for a plan; nothing is opened. */
export function plannedDevice(name: DeviceName, threads: number | "auto"): PlannedDevice {
  if (name === "webgpu") return { workspaceBytes: webgpuWorkspaceBytes, description: "webgpu", place: { memory: "card" } };
  if (name === "tensorflow") return plannedTensorflow();
  if (process.env.SPARSE_TUNER_NO_NATIVE === "1" || !nativeAvailable())
    return { workspaceBytes: portableWorkspaceBytes, description: "cpu: portable TypeScript" };
  return { workspaceBytes: cpuWorkspaceBytes(threadCount(threads)), description: `cpu: native kernels, ${threadCount(threads)} threads` };
}
