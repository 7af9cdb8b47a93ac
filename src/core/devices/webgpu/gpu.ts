/// <reference types="@webgpu/types" />
/**
 * The graphics card, through Dawn's WebGPU for Node (npm `webgpu`, an optional dependency): finds an adapter and opens it with its own limits.
 * The rule to keep: the object that `create` returns stays reachable from globalThis while its device lives, or Dawn runs on freed memory.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { UserError } from "../../../protocol/userError.ts";

export interface Gpu {
  device: GPUDevice;
  adapter: GPUAdapter;
  /** For people: vendor, architecture and driver as the driver names them. */
  title: string;
  /** Of the largest buffer that a kernel may bind. */
  bindingBytes: number;
  /** Destroys the device; nothing of it may be used afterwards. */
  close(): void;
}

interface Dawn {
  create(options: string[]): GPU;
  globals: object;
}

/** What Dawn is opened with: f16 on NVIDIA's drivers, and what stands behind `unsafe` because it is young. */
const dawnOptions = ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"];

const keptAlive = Symbol.for("sparseTuner.webgpu");
type Holder = Record<symbol, Set<object> | undefined>;

function keep(gpu: object): () => void {
  const holder = globalThis as unknown as Holder;
  holder[keptAlive] ??= new Set();
  const kept = holder[keptAlive];
  kept.add(gpu);
  return () => kept.delete(gpu);
}

export interface GpuOptions {
  /** Binds no more than this at once, though the card may allow more: at least 256. */
  bindingBytes?: number;
}

/** Opens the fastest adapter. Throws UserError `device/no-webgpu` (the package is not there) or `device/no-gpu`. */
export async function openGpu({ bindingBytes = Number.POSITIVE_INFINITY }: GpuOptions = {}): Promise<Gpu> {
  const dawn = await loadDawn();
  const gpu = dawn.create(dawnOptions);
  const release = keep(gpu);
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter)
      throw new UserError(
        "device/no-gpu",
        "No graphics card with a Vulkan, Metal or Direct3D 12 driver was found.",
        "Install the card's driver, or use device: cpu.",
      );
    const {
      maxBufferSize,
      maxStorageBufferBindingSize,
      maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup,
      maxStorageBuffersPerShaderStage,
    } = adapter.limits;
    const device = await adapter.requestDevice({
      requiredLimits: {
        maxBufferSize,
        maxStorageBufferBindingSize,
        maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup,
        maxStorageBuffersPerShaderStage,
      },
    });
    const { vendor, architecture, description } = adapter.info;
    return {
      device,
      adapter,
      title: [vendor, architecture, description].filter(Boolean).join(" "),
      bindingBytes: Math.min(bindingBytes, maxStorageBufferBindingSize, maxBufferSize),
      close() {
        device.destroy();
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** The package, where it is installed. Its flags are WebGPU's own constants, which belong on globalThis. */
async function loadDawn(): Promise<Dawn> {
  try {
    // Found from where this file lies, bundled or not.
    const dawn = (await import(pathToFileURL(createRequire(import.meta.url).resolve("webgpu")).href)) as Dawn;
    Object.assign(globalThis, dawn.globals);
    return dawn;
  } catch (error) {
    throw new UserError(
      "device/no-webgpu",
      `The WebGPU engine cannot be loaded: ${(error as Error).message.split("\n")[0]}.`,
      "Install Sparse Tuner with its optional dependencies (npm ci --include=optional), or use device: cpu.",
    );
  }
}
