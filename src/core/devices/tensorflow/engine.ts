/**
 * Which TensorFlow computes: @tensorflow/tfjs-node-gpu, else @tensorflow/tfjs-node, where one is installed; else tfjs-core on WebAssembly, which comes with
 * the product. It knows no tensor. The rules to keep: what was tried and is not used is named; the environment is set before a binding is loaded, which
 * reads it once.
 */
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import type * as TF from "@tensorflow/tfjs-core";
import { engineFolderVariable, engineIn, userEngineFolder } from "../../../install/engineFolder.ts";
import { UserError } from "../../../protocol/userError.ts";

/** The functions of tfjs-core, whoever brings them. */
export type Tf = typeof TF;

export interface Engine {
  tf: Tf;
  /** For people. */
  title: string;
  /** Whether it computes on a graphics card. */
  onCard: boolean;
  /** WebAssembly multiplies transposed operands with a slow loop, so they are transposed first; libtensorflow reads them in place. */
  transposes: "explicit" | "flags";
  /** Elements [start, start + size) of a flat tensor of floats; size is not 0. */
  elements(flat: TF.Tensor1D, start: number, size: number): TF.Tensor1D;
  /** What its addresses reach. */
  memoryBytes: number;
  /** Elements of its largest tensor. */
  largestElements: number;
}

/** What the addresses of WebAssembly reach. */
export const wasmMemoryBytes = 2 ** 32 - 2 ** 16;

const gpuPackage = "@tensorflow/tfjs-node-gpu";
const packages = [gpuPackage, "@tensorflow/tfjs-node"];

/** What would be opened as far as can be told without loading it, which takes memory of a card: it may turn out not to work. */
export function installedEngine(): { name: string; forCard: boolean } | null {
  const name = packages.find((candidate) => findPackage(candidate) !== null);
  return name ? { name, forCard: name === gpuPackage } : null;
}

/** Opens the first of them that works, else WebAssembly; `reasons` says why not the others. */
export async function openEngine(): Promise<{ engine: Engine; reasons: string[] }> {
  const { engine, reasons } = await openInstalledEngine();
  if (engine) return { engine, reasons };
  // The module loads the backend, which an installed binding makes superfluous.
  const { openWasmEngine } = await import("./wasmEngine.ts");
  return { engine: await openWasmEngine(), reasons };
}

/** Opens the first installed package that works; null where none does. */
export async function openInstalledEngine(): Promise<{ engine: Engine | null; reasons: string[] }> {
  const reasons: string[] = [];
  for (const name of packages) {
    const found = findPackage(name);
    if (found === null) {
      reasons.push(`${name} is not installed.`);
      continue;
    }
    try {
      return { engine: await openBinding(name, found), reasons };
    } catch (error) {
      reasons.push(`${name} in ${found.folder} cannot be used: ${(error as Error).message.split("\n")[0]}`);
    }
  }
  return { engine: null, reasons };
}

interface Found {
  folder: string;
  require: NodeJS.Require;
}

/** Looks in the folder that the environment names, or else the command line has installed into, then beside the product. */
function findPackage(name: string): Found | null {
  const { platform, env } = process;
  const folder = env[engineFolderVariable] || engineIn(userEngineFolder({ platform, env, home: os.homedir() }));
  for (const place of [path.join(path.resolve(folder), "package.json"), import.meta.url]) {
    const require = createRequire(place);
    try {
      return { folder: path.dirname(require.resolve(`${name}/package.json`)), require };
    } catch {
      // Not there.
    }
  }
  return null;
}

async function openBinding(name: string, { require }: Found): Promise<Engine> {
  prepareProcess();
  const tf = require(name) as Tf;
  await tf.ready();
  if (tf.getBackend() !== "tensorflow") throw new Error(`it computes on ${tf.getBackend()}`);
  const { version } = require(`${name}/package.json`) as { version: string };
  const { isUsingGpuDevice: onCard = false } = tf.backend() as { isUsingGpuDevice?: boolean };
  return {
    tf,
    title: `${name.replace("@tensorflow/", "")} ${version} on the ${onCard ? "graphics card" : "processor"}`,
    onCard,
    transposes: "flags",
    elements: tf.slice,
    memoryBytes: Number.POSITIVE_INFINITY,
    largestElements: 2 ** 31 - 1,
  };
}

/** Functions that the binding's JavaScript calls and Node 23 took away, and what libtensorflow reads of the environment. */
function prepareProcess(): void {
  const util = createRequire(import.meta.url)("node:util") as Record<string, unknown>;
  util.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  util.isArray ??= Array.isArray;
  // It would take nearly all of the card's memory at once, round operands to 19 bits, and add up in any order.
  process.env.TF_FORCE_GPU_ALLOW_GROWTH = "true";
  process.env.NVIDIA_TF32_OVERRIDE ??= "0";
  process.env.TF_DETERMINISTIC_OPS ??= "1";
  process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";
}

/** The engine has no room for so many bytes. */
export function outOfMemory(bytes: number): UserError {
  return new UserError(
    "device/out-of-memory",
    `The TensorFlow engine cannot get another ${(bytes / 2 ** 20).toFixed(0)} MiB.`,
    "Lower train.batchSize or train.sequenceLength, or use device: cpu.",
    { badInput: false },
  );
}
