/**
 * Tensors larger than the largest buffer a kernel may bind: the device is opened with a small one, so that small tensors lie in parts. The conformance cases
 * and a model's training must not see it.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { UnsupportedError } from "../../../../src/core/devices/unsupported.ts";
import { openWebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import { allCases } from "../../../conformance/cases/all.ts";
import type { ConformanceCase, TestedDevice } from "../../../conformance/harness.ts";
import { prepareGraphicsCard } from "../../../support/graphicsCard.ts";

/** 2048 floats, or 4096 elements of bf16. */
const bindingBytes = 8192;
/** Cases of an op: kernels are compiled anew for nearly each. */
const mostCases = 3;
const sizes = { least: 3000, most: 13000 };

const { card, skip } = await openCard();
after(() => card?.close());

async function openCard(): Promise<{ card: TestedDevice | null; skip: string | false }> {
  try {
    prepareGraphicsCard();
    return { card: Object.assign(await openWebgpuDevice({ bindingBytes }), { largestCase: sizes.most }), skip: false };
  } catch (error) {
    return { card: null, skip: `not run: ${error instanceof Error ? error.message : error}` };
  }
}

/** Cases with a tensor in more parts than a kernel may bind: one of 200,003 elements is copied, one Hessian is factored whole. */
const refusals: Record<string, number> = { countZeros: 1, inverseCholesky: 1 };

/** Such as have a tensor in several parts, and are soon done. */
function casesOf(cases: readonly ConformanceCase[]): ConformanceCase[] {
  const large = cases.filter(({ elements = sizes.least }) => elements >= sizes.least && elements <= sizes.most);
  const stride = Math.ceil(large.length / mostCases);
  return large.filter((_, i) => i % stride === 0);
}

for (const [op, cases] of Object.entries(allCases)) {
  const chosen = casesOf(cases);
  if (chosen.length === 0) continue;
  test(`${op} on tensors in parts (${chosen.length} cases)`, { skip }, async () => {
    const failures: string[] = [];
    let refused = 0;
    for (const { title, run } of chosen) {
      try {
        await run(card as TestedDevice, () => {});
      } catch (error) {
        if (error instanceof UnsupportedError) continue;
        if (/makes it need \d+ buffers/.test((error as Error).message)) refused++;
        else failures.push(`${title}: ${error instanceof Error ? error.message : error}`);
      }
    }
    assert.deepEqual(failures, []);
    assert.equal(refused, refusals[op] ?? 0);
  });
}
