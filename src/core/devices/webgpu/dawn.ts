/// <reference types="@webgpu/types" />
/**
 * Loads Dawn, WebGPU for Node (npm `webgpu`): from `webgpu/` beside the bundle, which a platform's package of the extension brings, else the installed
 * package, an optional dependency. It opens no card.
 * The rules to keep: what came with the extension goes first; a `webgpu` installed in some folder above it may be any version. What Dawn creates is never
 * let go, not even when its last device is closed: its events are still pumped then, on freed memory if it was collected, which hangs or ends the process.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { UserError } from "../../../protocol/userError.ts";

export interface Dawn {
  create(options: string[]): GPU;
  globals: object;
}

const instances = Symbol.for("sparseTuner.webgpu");

/** Dawn's one instance of this process for these options, in which adapters are found. Throws as {@link loadDawn}. */
export async function dawnInstance(options: readonly string[]): Promise<GPU> {
  const dawn = await loadDawn();
  const holder = globalThis as unknown as Record<symbol, Map<string, GPU> | undefined>;
  holder[instances] ??= new Map();
  const key = options.join(" ");
  const kept = holder[instances].get(key) ?? dawn.create([...options]);
  holder[instances].set(key, kept);
  return kept;
}

/** Dawn, its flags put on globalThis, where WebGPU's constants belong. Throws UserError `device/no-webgpu`: it is not there or does not load. */
export async function loadDawn(bundle = import.meta.url): Promise<Dawn> {
  const entry = dawnEntry(bundle);
  if (!entry) throw notThere(bundle);
  try {
    const dawn = (await import(entry)) as Dawn;
    Object.assign(globalThis, dawn.globals);
    return dawn;
  } catch (error) {
    throw new UserError("device/no-webgpu", `The WebGPU engine cannot be loaded: ${(error as Error).message.split("\n")[0]}.`, systemItNeeds());
  }
}

/** URL of the program that loads Dawn's library for a bundle (or a source file) at this URL; null when there is none. */
function dawnEntry(bundle: string): string | null {
  const beside = new URL("./webgpu/index.js", bundle);
  if (existsSync(beside)) return beside.href;
  try {
    return pathToFileURL(createRequire(bundle).resolve("webgpu")).href;
  } catch {
    return null;
  }
}

/** A package of the extension holds no command line; a clone and an installed npm package do. */
function notThere(bundle: string): UserError {
  const extension = existsSync(new URL("./core.js", bundle)) && !existsSync(new URL("./cli.js", bundle));
  const platform = `${process.platform}-${process.arch}`;
  return extension
    ? new UserError(
        "device/no-webgpu",
        `The WebGPU engine is not in ${fileURLToPath(new URL(".", bundle))}: this package of the extension is the one without native code.`,
        `Install the extension's package for ${platform}, or use device: cpu.`,
      )
    : new UserError(
        "device/no-webgpu",
        "The WebGPU engine (npm webgpu) is not installed.",
        "Install Sparse Tuner with its optional dependencies (npm ci --include=optional), or use device: cpu.",
      );
}

function systemItNeeds(): string {
  if (process.platform === "linux") return "Use a system with glibc 2.34 and GCC 12's libstdc++ or newer (Debian 12, Ubuntu 22.04), or device: cpu.";
  if (process.platform === "win32") return "Install Microsoft's Visual C++ Redistributable, or use device: cpu.";
  return "Update the operating system, or use device: cpu.";
}
