/// <reference types="@webgpu/types" />
/**
 * The program in the throw-away process of probe.ts: opens the named device, lets it compute a small product and reads it back. It prints one line and ends.
 * The rule to keep: it does what a run does with the device, from opening to closing, so that what would crash a run crashes here.
 */
import { UserError } from "../../protocol/userError.ts";
import type { Device } from "./device.ts";
import { answerMark, type ProbeAnswer, type ProbedDevice, unusable } from "./probe.ts";
import { wrongProduct } from "./probeProduct.ts";
import { openInstalledEngine } from "./tensorflow/engine.ts";
import { tensorflowDeviceOn } from "./tensorflow/tensorflowDevice.ts";
import { openGpu } from "./webgpu/gpu.ts";
import { openWebgpuDevice } from "./webgpu/webgpuDevice.ts";

interface Opened {
  device: Device;
  close(): void;
  software: boolean;
  onCard: boolean;
  largestBytes: number;
}

/** The card twice: as a run opens it, and for what it says of itself. */
async function openWebgpu(): Promise<Opened> {
  const gpu = await openGpu();
  const device = await openWebgpuDevice();
  const close = () => {
    device.close();
    gpu.close();
  };
  const { info, limits } = gpu.adapter;
  return { device, close, software: isSoftware(info), onCard: true, largestBytes: limits.maxStorageBufferBindingSize };
}

/** Drivers that compute on the processor say so; the names are of those that did not always. */
function isSoftware({ isFallbackAdapter, vendor, architecture, description }: GPUAdapterInfo): boolean {
  return isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|basic render|\bwarp\b/i.test(`${vendor} ${architecture} ${description}`);
}

/** An installed engine; WebAssembly needs no driver, and is never tried here. */
async function openTensorflow(): Promise<Opened> {
  const { engine, reasons } = await openInstalledEngine();
  if (!engine) throw new UserError("device/no-engine", reasons.join(" "), "Install TensorFlow's engine anew, or use device: cpu.");
  const device = tensorflowDeviceOn(engine);
  return { device, close: () => device.close(), software: false, onCard: engine.onCard, largestBytes: 4 * engine.largestElements };
}

const mend = "Update or reinstall the graphics card's driver, or use device: cpu.";

async function probe(name: ProbedDevice): Promise<ProbeAnswer> {
  try {
    const { device, close, ...found } = await (name === "webgpu" ? openWebgpu() : openTensorflow());
    const wrong = await wrongProduct(device);
    const { description } = device;
    close();
    if (wrong) return { works: false, code: unusable, reason: wrong, action: mend, crashed: false };
    return { works: true, description, ...found };
  } catch (error) {
    const { message, code, action } = error instanceof UserError ? error : { message: String(error), code: unusable, action: mend };
    return { works: false, code, reason: message, action, crashed: false };
  }
}

const answer = await probe(process.argv[2] as ProbedDevice);
process.stdout.write(`\n${answerMark}${JSON.stringify(answer)}\n`);
