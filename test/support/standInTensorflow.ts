/**
 * A folder with a package that calls itself @tensorflow/tfjs-node-gpu: its backend is named as libtensorflow's and computes with WebAssembly's kernels, on a
 * graphics card as it says, or it behaves as a broken driver would.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

export type EngineConduct = "computes" | "computesOnProcessor" | "computesWrong" | "crashes" | "hangs" | "throws";

const conducts: Record<EngineConduct, string> = {
  computes: "",
  computesOnProcessor: "",
  // biome-ignore format: code of another file
  computesWrong: "module.exports.matMul = (...operands) => tf.add(tf.matMul(...operands), 1);",
  crashes: 'process.kill(process.pid, "SIGSEGV");',
  hangs: "for (;;);",
  throws: 'throw new Error("Could not load libcudart.so.11.0");',
};

/** Makes the folder, to be named by SPARSE_TUNER_TENSORFLOW. */
export function standInEngine(folder: string, conduct: EngineConduct): string {
  const package_ = path.join(folder, "node_modules/@tensorflow/tfjs-node-gpu");
  mkdirSync(package_, { recursive: true });
  // Not beside the package: found from here.
  const place = (name: string) => JSON.stringify(createRequire(import.meta.url).resolve(["@tensorflow", name].join("/")));
  writeFileSync(path.join(package_, "package.json"), JSON.stringify({ name: "@tensorflow/tfjs-node-gpu", version: "4.22.0", main: "index.js" }));
  writeFileSync(
    path.join(package_, "index.js"),
    `const tf = require(${place("tfjs-core")});
require(${place("tfjs-backend-wasm")});
tf.copyRegisteredKernels("wasm", "tensorflow");
tf.registerBackend("tensorflow", tf.findBackendFactory("wasm"), 100);
const backend = () => ({ isUsingGpuDevice: ${conduct !== "computesOnProcessor"} });
module.exports = { ...tf, backend, ready: async () => void (await tf.setBackend("tensorflow")) };
${conducts[conduct]}
`,
  );
  return folder;
}
