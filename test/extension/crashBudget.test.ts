/** When a crashed core is started again: every sequence of crashes up to a length, and the rule said in plain words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CrashBudget, type CrashVerdict } from "../../src/extension/runs/crashBudget.ts";

const minute = 60_000;

test("three restarts after 1, 4 and 16 s, the fourth crash within five minutes is the last", () => {
  const budget = new CrashBudget();
  const verdicts = [1, 2, 3, 4].map((step) => budget.crashed(step * minute, `step ${step}`));
  assert.deepEqual(verdicts, [
    { restart: true, delayMs: 1000 },
    { restart: true, delayMs: 4000 },
    { restart: true, delayMs: 16_000 },
    { restart: false, because: "too-many" },
  ]);
});

test("crashes are forgotten after five minutes, to the millisecond; the delay counts those that are not", () => {
  const early = new CrashBudget();
  early.crashed(0, "step 1");
  assert.deepEqual(early.crashed(5 * minute - 1, "step 2"), { restart: true, delayMs: 4000 });
  const late = new CrashBudget();
  late.crashed(0, "step 1");
  assert.deepEqual(late.crashed(5 * minute, "step 2"), { restart: true, delayMs: 1000 });
});

test("the same step twice is not tried again, however long ago and whatever lay between", () => {
  const budget = new CrashBudget();
  budget.crashed(0, "step 7");
  assert.deepEqual(budget.crashed(60 * minute, "step 8"), { restart: true, delayMs: 1000 });
  assert.deepEqual(budget.crashed(120 * minute, "step 7"), { restart: false, because: "same-step" });
});

test("who asks to go on has the whole budget again", () => {
  const budget = new CrashBudget();
  for (let i = 0; i < 4; i++) budget.crashed(i, "step 1");
  budget.renew();
  assert.deepEqual(budget.crashed(5, "step 1"), { restart: true, delayMs: 1000 });
});

/** The rule once more, by looking back over all crashes. */
function expected(crashes: { atMs: number; position: string }[]): CrashVerdict {
  const now = crashes.at(-1)!;
  if (crashes.slice(0, -1).some(({ position }) => position === now.position)) return { restart: false, because: "same-step" };
  const recent = crashes.filter(({ atMs }) => now.atMs - atMs < 10).length;
  return recent > 2 ? { restart: false, because: "too-many" } : { restart: true, delayMs: [3, 5][recent - 1] };
}

test("all sequences of up to five crashes, at four distances and four positions, follow the rule", () => {
  let checked = 0;
  const visit = (crashes: { atMs: number; position: string }[]) => {
    if (crashes.length > 0) {
      const budget = new CrashBudget({ delaysMs: [3, 5], windowMs: 10 });
      const verdicts = crashes.map(({ atMs, position }) => budget.crashed(atMs, position));
      assert.deepEqual(verdicts.at(-1), expected(crashes), JSON.stringify(crashes));
      checked++;
    }
    if (crashes.length === 5) return;
    for (const distance of [0, 4, 9, 10])
      for (const position of ["a", "b", "c", "d"]) visit([...crashes, { atMs: (crashes.at(-1)?.atMs ?? 0) + distance, position }]);
  };
  visit([]);
  assert.equal(checked, 16 + 16 ** 2 + 16 ** 3 + 16 ** 4 + 16 ** 5);
});
