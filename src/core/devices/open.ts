/**
 * Opens the device a run asks for, and says what was tried and why not; what `auto` stands for is chosen in choose.ts.
 * The rule to keep: nothing falls back silently; `reasons` is shown and logged.
 */
import os from "node:os";
import { UserError } from "../../protocol/userError.ts";
import { formatBytes } from "../terminal/format.ts";
import { readMachineCards, roomFor } from "./cardMonitor/machineCards.ts";
import { toolVariable } from "./cardMonitor/tool.ts";
import { type Choice, type ComputingDevice, chooseDevice, type DeviceName } from "./choose.ts";
import { cpuWorkspaceBytes, nativeAvailable, openCpuDevice } from "./cpu/cpuDevice.ts";
import { openPortableDevice, portableWorkspaceBytes } from "./cpu/portableDevice.ts";
import type { Device, ElementBytes } from "./device.ts";
import { type ProbeAnswer, unusable } from "./probe.ts";
import { openTensorflowDevice, plannedTensorflow } from "./tensorflow/tensorflowDevice.ts";
import { openWebgpuDevice, webgpuWorkspaceBytes } from "./webgpu/webgpuDevice.ts";

/** What a plan is to know of a device, without opening it. */
export interface PlannedDevice {
  /** What it takes for itself, which the ledger counts from the start. */
  workspaceBytes: number;
  description: string;
  /** What an element occupies there, where the device has not each type. */
  elementBytes?: ElementBytes;
  /** What its ops hold beside their tensors, in parts of the largest one. */
  largestTensors?: number;
  place?: MemoryPlace;
}

/** Where a device's tensors lie; in the machine's memory where it is not said. */
export interface MemoryPlace {
  memory: "machine" | "card";
  /** What the engine's addresses reach, where that bounds it. */
  limitBytes?: number;
  /** The device's description, where it may name the card. */
  device?: string | null;
  /** Why no card could be tried, where that is so. */
  problem?: string | null;
}

export interface OpenedDevice {
  device: Device;
  /** What was tried before and why it is not used. */
  reasons: string[];
  /** Where its tensors do lie, where only opening it tells. */
  place?: MemoryPlace;
}

export type { DeviceName } from "./choose.ts";

/** Threads of the cpu device: as asked, or one a core. */
export function threadCount(threads: number | "auto"): number {
  return threads === "auto" ? os.availableParallelism() : threads;
}

/** The asked device, or the one that `auto` chooses. Throws UserError when there is no card for it. */
export async function openDevice(name: DeviceName, threads: number | "auto"): Promise<OpenedDevice> {
  const choice = await chooseDevice(name);
  const opened = await openChosen(choice, threads);
  return { ...opened, reasons: [...surprises(choice), ...opened.reasons] };
}

/** Who has no card knows it, and need not read it before each answer of a model; a run and Doctor tell it. */
function surprises({ passedOver, surprising }: Choice): string[] {
  return surprising && passedOver ? [passedOver] : [];
}

/**
 * As {@link openDevice}, for work that nobody plans, on a model of so many bytes: where what `auto` chooses has no room for them, the cpu computes, and
 * `reasons` says so.
 */
export async function openDeviceFor(bytes: number, name: DeviceName, threads: number | "auto"): Promise<OpenedDevice> {
  const choice = await chooseDevice(name);
  if (name !== "auto" || choice.name === "cpu") return openDevice(name, threads);
  const room = roomFor(await readMachineCards(), choice.tried?.works ? choice.tried.description : null);
  if ("problem" in room || bytes <= room.freeBytes) return openDevice(name, threads);
  const opened = await openChosen({ name: "cpu", tried: null }, threads);
  const small = `device: auto takes cpu. Not ${choice.name}: the model needs ${formatBytes(bytes)}, and ${formatBytes(room.freeBytes)} are free on the card.`;
  return { ...opened, reasons: [...surprises(choice), small, ...opened.reasons] };
}

async function openChosen({ name, tried }: Pick<Choice, "name" | "tried">, threads: number | "auto"): Promise<OpenedDevice> {
  if (tried && !tried.works) throw refusal(name, tried);
  if (name === "webgpu") {
    const device = await openWebgpuDevice();
    return { device, reasons: [], place: placeOfCard(tried, device.description) };
  }
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

/** A driver that crashes, hangs or computes wrong is kept out of this process. */
function refusal(name: ComputingDevice, { code, reason, action }: Extract<ProbeAnswer, { works: false }>): UserError {
  if (code !== unusable) return new UserError(code, reason, action);
  return new UserError(code, `device: ${name} cannot be used: ${reason.replace(/\.$/, "")}.`, action, { badInput: false });
}

/** Where the tensors of a card lie that answered so: in the machine's memory where the processor plays it. A monitor for tests speaks for every card. */
function placeOfCard(tried: ProbeAnswer | null, device: string | null): MemoryPlace {
  if (process.env[toolVariable]) return { memory: "card", device };
  if (tried && !tried.works) return { memory: "card", problem: tried.reason };
  return tried?.software ? { memory: "machine" } : { memory: "card", device };
}

function portableBecause(reason: string): string {
  return `The portable device computes, many times slower than the native kernels: ${reason}`;
}

/** What a device takes for itself, for a plan; nothing is opened. `tried` is what it answered, where it was tried. */
export function plannedDevice(name: ComputingDevice, threads: number | "auto", tried: ProbeAnswer | null = null): PlannedDevice {
  if (name === "webgpu") {
    const place = placeOfCard(tried, tried?.works ? tried.description : null);
    return { workspaceBytes: webgpuWorkspaceBytes, description: "webgpu", place };
  }
  if (name === "tensorflow") return plannedTensorflow();
  if (process.env.SPARSE_TUNER_NO_NATIVE === "1" || !nativeAvailable())
    return { workspaceBytes: portableWorkspaceBytes, description: "cpu: portable TypeScript" };
  return { workspaceBytes: cpuWorkspaceBytes(threadCount(threads)), description: `cpu: native kernels, ${threadCount(threads)} threads` };
}
