/** The thread that analyst.ts starts: statistics of one block after the other, each with the time that it took. */
import { parentPort } from "node:worker_threads";
import { analyze } from "./analysis.ts";
import type { Found, Question } from "./analyst.ts";

parentPort?.on("message", ({ id, values, rows, columns }: Question) => {
  const began = performance.now();
  const analysis = analyze(values, rows, columns);
  const found: Found = { id, analysis, analysisMs: performance.now() - began };
  parentPort?.postMessage(found);
});
