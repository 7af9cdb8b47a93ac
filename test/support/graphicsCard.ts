/**
 * The graphics card that tests of the WebGPU device compute on: this machine's, or SwiftShader, the software card that Debian's chromium brings, over Debian's
 * Vulkan loader. As root with CI=true both are installed.
 */
import { existsSync, readdirSync } from "node:fs";
import type { Device } from "../../src/core/devices/device.ts";
import { openWebgpuDevice } from "../../src/core/devices/webgpu/webgpuDevice.ts";
import { installCommand, installPackages, mayInstall } from "./debianPackages.ts";

const swiftShader = "/usr/lib/chromium/vk_swiftshader_icd.json";
const packages = ["chromium-common", "libvulkan1"];

/** Whether it is a software card, which is slow. Throws a sentence that says why there is none. */
export function prepareGraphicsCard(): { software: boolean } {
  if (mayHaveCard()) return { software: process.env.VK_DRIVER_FILES?.includes("swiftshader") ?? false };
  if (!hasSwiftShader() && mayInstall()) installPackages(packages);
  if (!hasSwiftShader()) throw new Error(`there is no graphics card and no SwiftShader; run \`sudo ${installCommand(packages)}\``);
  process.env.VK_DRIVER_FILES = swiftShader;
  return { software: true };
}

/** The opened card, or why tests that need it are skipped; the caller closes it. */
export async function openCard(): Promise<{ card: Device | null; skip: string | false }> {
  try {
    prepareGraphicsCard();
    return { card: await openWebgpuDevice(), skip: false };
  } catch (error) {
    return { card: null, skip: `not run: ${error instanceof Error ? error.message : error}` };
  }
}

/** Whether a driver of this machine's own, or one that was named, is to be used. */
export function mayHaveCard(): boolean {
  if (process.platform !== "linux" || process.env.VK_DRIVER_FILES) return true;
  const cards = existsSync("/dev/dri") ? readdirSync("/dev/dri") : [];
  return existsSync("/dev/nvidia0") || cards.some((name) => name.startsWith("renderD"));
}

function hasSwiftShader(): boolean {
  const loaders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"].map((folder) => `${folder}/libvulkan.so.1`);
  return existsSync(swiftShader) && loaders.some((file) => existsSync(file));
}
