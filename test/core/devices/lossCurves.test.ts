/**
 * The same run file gives the same loss curve on every device: losses of the first updates beside the cpu's. On a software card few, because each takes
 * seconds; `npm run curves` compares all 200.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ComputingDevice } from "../../../src/core/devices/choose.ts";
import type { Precision } from "../../../src/core/model/tensors.ts";
import { prepareGraphicsCard } from "../../support/graphicsCard.ts";
import { distance, fullSteps, lossCurve, tolerances } from "../../support/lossCurve.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

const card = findCard();

function findCard(): { steps: Record<Precision, number>; skip: string | false } {
  try {
    return { steps: prepareGraphicsCard().software ? { f32: 6, bf16: 3 } : { f32: fullSteps, bf16: fullSteps }, skip: false };
  } catch (error) {
    return { steps: { f32: 0, bf16: 0 }, skip: `not run: ${(error as Error).message}` };
  }
}

/** WebAssembly's one thread does 10 to 20 updates a second. */
const curves: [device: ComputingDevice, steps: Record<Precision, number>, skip: string | false][] = [
  ["tensorflow", { f32: 50, bf16: 20 }, false],
  ["webgpu", card.steps, card.skip],
];

for (const [device, stepsOf, skip] of curves)
  for (const precision of ["f32", "bf16"] as const)
    test(`${device} in ${precision}: ${stepsOf[precision]} losses are the cpu's`, { skip }, async (t) => {
      const folder = temporaryFolder(t);
      const steps = stepsOf[precision];
      const ours = await lossCurve(folder, device, precision, steps);
      const theirs = await lossCurve(folder, "cpu", precision, steps);
      assert.equal(ours.length, steps);
      const { worst, mean } = distance(ours, theirs);
      assert.ok(worst <= tolerances[precision].worst && mean <= tolerances[precision].mean, `worst ${worst}, mean ${mean}: ${ours} beside ${theirs}`);
      t.diagnostic(`worst ${worst.toExponential(1)}, mean ${mean.toExponential(1)} over ${steps} updates`);
    });

test("updates at this rate are seen in the losses", async (t) => {
  const folder = temporaryFolder(t);
  const trained = await lossCurve(folder, "cpu", "f32", 200);
  const still = await lossCurve(folder, "cpu", "f32", 200, 0);
  assert.ok(distance(trained, still).worst > 5 * tolerances.f32.worst, `${distance(trained, still).worst}`);
});
