/**
 * The same run file gives the same loss curve on every device: its losses beside the cpu's, which must lie much nearer than those of a model that is not
 * updated. All 200 on TensorFlow in f32; where updates take long there are fewer, at a rate at which these few are seen; `npm run curves` compares all.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ComputingDevice } from "../../../src/core/devices/choose.ts";
import type { Precision } from "../../../src/core/model/tensors.ts";
import { prepareGraphicsCard } from "../../support/graphicsCard.ts";
import { fullRate, fullSteps, judge, lossCurve } from "../../support/lossCurve.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

interface Curve {
  steps: number;
  learningRate: number;
}
type Curves = Record<Precision, Curve>;

const full: Curve = { steps: fullSteps, learningRate: fullRate };
const onSoftwareCard: Curves = { f32: { steps: 6, learningRate: fullRate }, bf16: { steps: 3, learningRate: 2e-2 } };
const card = findCard();

function findCard(): { curves: Curves; skip: string | false } {
  try {
    return { curves: prepareGraphicsCard().software ? onSoftwareCard : { f32: full, bf16: full }, skip: false };
  } catch (error) {
    return { curves: onSoftwareCard, skip: `not run: ${(error as Error).message}` };
  }
}

const curves: [device: ComputingDevice, curves: Curves, skip: string | false][] = [
  ["tensorflow", { f32: full, bf16: { steps: 20, learningRate: 3e-3 } }, false],
  ["webgpu", card.curves, card.skip],
];

for (const [device, curvesOf, skip] of curves)
  for (const precision of ["f32", "bf16"] as const) {
    const { steps, learningRate } = curvesOf[precision];
    test(`${device} in ${precision}: ${steps} losses are the cpu's`, { skip }, async (t) => {
      const folder = temporaryFolder(t);
      const ours = await lossCurve(folder, device, precision, steps, learningRate);
      const theirs = await lossCurve(folder, "cpu", precision, steps, learningRate);
      const still = await lossCurve(folder, "cpu", precision, steps, 0);
      assert.equal(ours.length, steps);
      const { found, most } = judge(precision, ours, theirs, still);
      const said = `worst ${found.worst.toExponential(1)} of ${most.worst.toExponential(1)}, mean ${found.mean.toExponential(1)} of ${most.mean.toExponential(1)}`;
      assert.ok(found.worst <= most.worst && found.mean <= most.mean, `${said}: ${ours} beside ${theirs}`);
      t.diagnostic(`${said} over ${steps} updates`);
    });
  }
