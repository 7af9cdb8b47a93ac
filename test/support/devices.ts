/** Devices that whole-model tests run on: the ones of the conformance suite, opened anew for each test, and the reference where asked. */
import { nativeAvailable, openCpuDevice } from "../../src/core/devices/cpu/cpuDevice.ts";
import { openPortableDevice } from "../../src/core/devices/cpu/portableDevice.ts";
import type { Device } from "../../src/core/devices/device.ts";
import { openDevice } from "../../src/core/devices/open.ts";
import { openReferenceDevice } from "../../src/core/devices/reference.ts";
import { prepareGraphicsCard } from "./graphicsCard.ts";

export interface TestDevice {
  name: string;
  open(): Device;
}

/** The fastest device at hand, for tests that are not about devices. */
export function fastDevice(threads = 2): Device {
  return nativeAvailable() ? openCpuDevice({ threads }) : openPortableDevice();
}

export function testDevices({ reference = false } = {}): TestDevice[] {
  const devices: TestDevice[] = [{ name: "portable", open: openPortableDevice }];
  if (reference) devices.push({ name: "reference", open: openReferenceDevice });
  if (nativeAvailable())
    for (const threads of [1, 2])
      devices.push({ name: `native cpu, ${threads} thread${threads > 1 ? "s" : ""}`, open: () => openCpuDevice({ threads }) });
  else console.log("not run: whole-model tests on the native cpu device (no addon)");
  return devices;
}

/** A device that opens when it is asked for; `software`: a card that the processor plays, which is asked for little. */
export interface ModelDevice {
  name: string;
  open(): Device | Promise<Device>;
  software?: boolean;
}

/** Every device there is, for the goldens of whole models. */
export function modelDevices(): ModelDevice[] {
  const open = (name: "tensorflow" | "webgpu") => async () => (await openDevice(name, "auto")).device;
  const devices: ModelDevice[] = [...testDevices({ reference: true }), { name: "tensorflow", open: open("tensorflow") }];
  try {
    devices.push({ name: "webgpu", open: open("webgpu"), software: prepareGraphicsCard().software });
  } catch (error) {
    console.log(`not run: goldens of whole models on webgpu: ${(error as Error).message}`);
  }
  return devices;
}
