/**
 * The TensorFlow engine that is always there: tfjs-core with its WebAssembly backend, one thread with SIMD. Nothing but its start is here.
 * The rules to keep: this module is imported only when the device is opened, because loading it takes a while; and its memory is asked for through a
 * guard, because the backend itself does not look whether it got any and would write to address 0.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { type Engine, outOfMemory, wasmMemoryBytes } from "./engine.ts";

interface WasmBackend {
  readSync(dataId: object, start: number, end: number): Float32Array;
  wasm: { _malloc(bytes: number): number; _free(address: number): void };
}

const guarded = new WeakSet<object>();

/** Starts the backend, once a process; opened again it is the same one. */
export async function openWasmEngine(): Promise<Engine> {
  if (tf.findBackend("wasm") === null || !guarded.has(tf.findBackend("wasm"))) setWasmPaths(wasmFolder());
  if (!(await tf.setBackend("wasm"))) throw new Error("the WebAssembly backend did not start");
  await tf.ready();
  const backend = tf.backend();
  if (!guarded.has(backend)) guardMemory(backend as unknown as WasmBackend);
  guarded.add(backend);
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT");
  return {
    tf,
    title: `tfjs ${tf.version_core} on WebAssembly${simd ? " with SIMD" : ""}, 1 thread`,
    onCard: false,
    transposes: "explicit",
    // Its slice copies all of a tensor to take a part of it, and its gather is a slow loop.
    elements: (flat, start, size) => tf.tensor1d((backend as unknown as WasmBackend).readSync(flat.dataId, start, start + size)),
    memoryBytes: wasmMemoryBytes,
    // A tensor's bytes are counted in a signed number.
    largestElements: 2 ** 29,
  };
}

/** Where the .wasm files lie: beside the bundle, or in the installed package. */
function wasmFolder(): string {
  const beside = path.dirname(fileURLToPath(import.meta.url));
  const file = "tfjs-backend-wasm-simd.wasm";
  const folder = existsSync(path.join(beside, file))
    ? beside
    : path.dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm"));
  return `${folder}${path.sep}`;
}

function guardMemory({ wasm }: WasmBackend): void {
  // Its first call replaces the property; only what then stands there can be wrapped.
  wasm._free(wasm._malloc(8));
  const malloc = wasm._malloc;
  wasm._malloc = (bytes) => {
    const address = malloc(bytes);
    if (address === 0 && bytes > 0) throw outOfMemory(bytes);
    return address;
  };
}
