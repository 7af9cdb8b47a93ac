/**
 * `npm run curves [-- STEPS DEVICE…]`: the losses of one run file on every device beside the cpu's, in f32 and bf16, as rows of docs/devices.md. 200 updates take
 * minutes on a software card. `llvmpipe` in place of `webgpu` is the software card that computes in f16.
 */
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { ComputingDevice } from "../../src/core/devices/choose.ts";
import { openDevice } from "../../src/core/devices/open.ts";
import { prepareGraphicsCard } from "../support/graphicsCard.ts";
import { prepareLlvmpipe } from "../support/llvmpipe.ts";
import { distance, fullRate, fullSteps, lossCurve } from "../support/lossCurve.ts";

const [steps = String(fullSteps), ...named] = process.argv.slice(2);
const onLlvmpipe = named.includes("llvmpipe");
const devices = (named.length > 0 ? named : ["tensorflow", "webgpu"]).map((name) => (name === "llvmpipe" ? "webgpu" : name)) as ComputingDevice[];
const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-curves-"));
const driver = onLlvmpipe ? prepareLlvmpipe() : null;
try {
  if (!onLlvmpipe && devices.includes("webgpu")) prepareGraphicsCard();
  console.log("| device | precision | updates | rate | worst distance | mean distance | worst, not updated |\n|---|---|---|---|---|---|---|");
  for (const name of devices)
    for (const precision of ["f32", "bf16"] as const) {
      const theirs = await lossCurve(folder, "cpu", precision, Number(steps));
      const ours = await lossCurve(folder, name, precision, Number(steps));
      const still = await lossCurve(folder, "cpu", precision, Number(steps), 0);
      const [{ worst, mean }, learnt] = [distance(ours, theirs), distance(still, theirs)];
      const distances = [worst, mean, learnt.worst].map((each) => each.toExponential(1));
      console.log(`| ${[await descriptionOf(name), precision, steps, fullRate.toExponential(), ...distances].join(" | ")} |`);
    }
} finally {
  for (const made of [folder, driver]) if (made) rmSync(made, { recursive: true, force: true });
}

async function descriptionOf(name: ComputingDevice): Promise<string> {
  const { device } = await openDevice(name, "auto");
  device.close();
  return device.description;
}
