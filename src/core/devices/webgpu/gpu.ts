/// <reference types="@webgpu/types" />
/**
 * The graphics card, through Dawn's WebGPU for Node (dawn.ts finds it): takes the fastest adapter and opens it with its own limits.
 */
import { UserError } from "../../../protocol/userError.ts";
import { dawnInstance } from "./dawn.ts";
import { type ProductUnits, productUnits, subgroupMatrix } from "./matmulKernels.ts";

export interface Gpu {
  device: GPUDevice;
  adapter: GPUAdapter;
  /** For people: vendor, architecture and driver as the driver names them. */
  title: string;
  /** Of the largest buffer that a kernel may bind. */
  bindingBytes: number;
  units: ProductUnits;
  /** Destroys the device; nothing of it may be used afterwards. */
  close(): void;
}

/** What Dawn is opened with: f16 on NVIDIA's drivers, and what stands behind `unsafe` because it is young. */
const dawnOptions = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  "disable-dawn-features=timestamp_quantization", // a kernel takes less than the tenth of a millisecond it would round to
];

/** What kernels use where the card has it. */
const optionalFeatures: readonly GPUFeatureName[] = ["shader-f16", "subgroups" as GPUFeatureName, subgroupMatrix, "timestamp-query"];

export interface GpuOptions {
  /** Binds no more than this at once, though the card may allow more: at least 256. */
  bindingBytes?: number;
  /** Dawn's options, beside ours. */
  dawn?: readonly string[];
}

/** Opens the fastest adapter. Throws UserError `device/no-webgpu` (there is no engine) or `device/no-gpu`. */
export async function openGpu({ bindingBytes = Number.POSITIVE_INFINITY, dawn: ownOptions = [] }: GpuOptions = {}): Promise<Gpu> {
  const dawn = await dawnInstance([...dawnOptions, ...ownOptions]);
  const adapter = await dawn.requestAdapter({ powerPreference: "high-performance" });
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
    requiredFeatures: optionalFeatures.filter((feature) => adapter.features.has(feature)),
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
    units: productUnits(device, adapter.info),
    title: [vendor, architecture, description].filter(Boolean).join(" "),
    bindingBytes: Math.min(bindingBytes, maxStorageBufferBindingSize, maxBufferSize),
    close() {
      device.destroy();
    },
  };
}
