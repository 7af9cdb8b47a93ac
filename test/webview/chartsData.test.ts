/** The arithmetic behind the charts: smoothing, thinning, the shown range, ticks, and the CSV file. Nothing here draws. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { byteTicks, logTicks } from "../../webview/panel/axisTicks.ts";
import { exactCount, formatBytes, formatPercent, formatTick, formatValue } from "../../webview/panel/byteUnits.ts";
import { drawnIndices } from "../../webview/panel/downSample.ts";
import { exportName } from "../../webview/panel/exportName.ts";
import { plotData, valuesAt } from "../../webview/panel/plotData.ts";
import { scalarColumns, scalarCsv } from "../../webview/panel/scalarCsv.ts";
import { Series } from "../../webview/panel/series.ts";
import { MovingAverage } from "../../webview/panel/smoothing.ts";
import { panned, wholeRange, within, zoomed } from "../../webview/panel/stepRange.ts";

const counting = (length: number) => Float64Array.from({ length }, (_, i) => i + 1);
const values = fc.array(fc.oneof(fc.double({ noDefaultInfinity: true }), fc.double({ min: -5, max: 5 })), { minLength: 1, maxLength: 400 });

test("the smoothed line is the debiased average of its formula", () => {
  const follow = (weight: number, series: number[]) => [...new MovingAverage(weight).follow(counting(series.length), series, series.length)];
  assert.deepEqual(follow(0, [3, 1, 2]), [3, 1, 2]);
  assert.deepEqual(follow(0.5, [4, 4, 4]), [4, 4, 4]);
  // m1 = 1, m2 = 0.5 + 2 = 2.5; divided by 1 − 0.5 and 1 − 0.25.
  assert.deepEqual(follow(0.5, [2, 4]), [2, 2.5 / 0.75]);
  assert.deepEqual(follow(0.5, [2, Number.NaN, 4]), [2, Number.NaN, 2.5 / 0.75]);
});

test("smoothing value by value gives what smoothing at once gives, also after a resume took steps back", () => {
  fc.assert(
    fc.property(values, fc.nat(), fc.nat(), fc.double({ min: 0, max: 0.99, noNaN: true }), (series, cutAt, backTo, weight) => {
      const steps = counting(series.length);
      const cut = cutAt % series.length;
      const growing = new MovingAverage(weight);
      growing.follow(steps, series, cut);
      assert.deepEqual([...growing.follow(steps, series, series.length)], [...new MovingAverage(weight).follow(steps, series, series.length)]);
      // The run goes back and comes to other values, at least as many as there were.
      const back = backTo % series.length;
      const other = [...series.slice(0, back), ...series.slice(back).map((value) => value / 2 + 1), 7];
      const otherSteps = counting(other.length);
      const expected = new MovingAverage(weight).follow(otherSteps, other, other.length);
      const same = Object.is(other[series.length - 1], series[series.length - 1]);
      if (!same) assert.deepEqual([...growing.follow(otherSteps, other, other.length)], [...expected]);
    }),
  );
});

test("another weight begins anew", () => {
  const average = new MovingAverage(0.9);
  average.follow([1, 2], [1, 5], 2);
  average.setWeight(0);
  assert.deepEqual([...average.follow([1, 2], [1, 5], 2)], [1, 5]);
});

/** Long enough that there is something to thin out. */
const longValues = fc.array(fc.oneof({ weight: 9, arbitrary: fc.double({ min: -5, max: 5, noNaN: true }) }, fc.constant(Number.NaN)), {
  minLength: 150,
  maxLength: 400,
});

test("thinning loses no extreme: within a pixel of every value something as high and something as low is drawn, and few are drawn", () => {
  fc.assert(
    fc.property(longValues, longValues, fc.integer({ min: 1, max: 12 }), fc.nat(), fc.nat(), (one, other, pixels, a, b) => {
      const length = Math.min(one.length, other.length);
      const steps = counting(length);
      const range = { from: 1 + Math.min(a % length, b % length), to: 2 + Math.max(a % length, b % length) };
      const drawn = drawnIndices(steps, length, [one, other], range, pixels);
      for (let i = 1; i < drawn.length; i++) assert.ok(drawn[i] > drawn[i - 1], "ascending");
      assert.ok(drawn.length <= (pixels + 3) * 6, `${drawn.length} indices for ${pixels} pixels`);
      const pixel = ((range.to - range.from) / pixels) * (1 + 1e-9);
      for (let i = range.from - 1; i < Math.min(length, range.to - 1); i++) {
        const near = drawn.filter((index) => Math.abs(steps[index] - steps[i]) <= pixel);
        assert.ok(near.some((index) => index <= i) && near.some((index) => index >= i), "a line passes over it");
        for (const line of [one, other]) {
          if (Number.isNaN(line[i])) continue;
          assert.ok(near.some((index) => line[index] >= line[i]) && near.some((index) => line[index] <= line[i]), "extremes");
        }
      }
    }),
  );
});

test("what is drawn has a neighbour beyond each edge, so that lines leave the picture", () => {
  const steps = counting(100);
  const [first, ...others] = drawnIndices(steps, 100, [steps], { from: 20.5, to: 30.5 }, 500);
  assert.equal(steps[first], 20);
  assert.equal(steps[others[others.length - 1]], 31);
});

test("a plot's columns hold values of the series only, with gaps for what cannot be drawn", () => {
  const source = {
    steps: [1, 2, 3, 4],
    length: 4,
    lines: [[1, Number.NaN, -1, 2]],
    points: { steps: [0, 2, 2, 9], values: [5, 6, 7, 8], length: 4 },
  };
  assert.deepEqual(plotData(source, { from: 0, to: 10 }, 100, false), [
    [0, 1, 2, 3, 4, 9],
    [undefined, 1, null, -1, 2, undefined],
    [5, undefined, 7, undefined, undefined, 8],
  ]);
  assert.deepEqual(plotData(source, { from: 0, to: 10 }, 100, true)[1], [undefined, 1, null, null, 2, undefined]);
  assert.deepEqual(plotData({ steps: [], length: 0, lines: [[]] }, { from: 0, to: 2 }, 100, false), [[], []]);
});

test("the reading at the cursor is of all values, not of the drawn ones", () => {
  const steps = counting(100_000);
  const source = { steps, length: 100_000, lines: [steps], points: { steps: [500], values: [0.5], length: 1 } };
  assert.deepEqual(valuesAt(source, 54_321.4, false, 6), { step: 54_321, values: [54_321, null] });
  assert.deepEqual(valuesAt(source, 54_321.9, true, 6), { step: 54_321, values: [54_321, null] });
  assert.deepEqual(valuesAt(source, 54_321.9, false, 6), { step: 54_322, values: [54_322, null] });
  assert.deepEqual(valuesAt(source, 504, false, 6)?.values, [504, 0.5]);
  assert.deepEqual(valuesAt(source, 1e9, false, 6)?.step, 100_000);
  assert.equal(valuesAt({ steps: [], length: 0, lines: [] }, 1, false, 1), null);
});

test("the range follows the live end until it is zoomed, and never leaves the steps", () => {
  assert.deepEqual(wholeRange(0, 0), { from: 0, to: 2 });
  const whole = wholeRange(0, 1000);
  assert.deepEqual(zoomed(whole, whole, 0.5, 0), { from: 0, to: 500 });
  assert.equal(zoomed({ from: 0, to: 500 }, whole, 2, 100), null, "everything is no zoom");
  assert.deepEqual(panned({ from: 0, to: 100 }, whole, -1), { from: 0, to: 100 });
  assert.deepEqual(panned({ from: 850, to: 950 }, whole, 1), { from: 900, to: 1000 });
  fc.assert(
    fc.property(fc.double({ min: -1e4, max: 1e4, noNaN: true }), fc.double({ min: 0, max: 5000, noNaN: true }), (from, width) => {
      const shown = within({ from, to: from + width }, whole);
      if (shown) assert.ok(shown.from >= 0 && shown.to <= 1000 + 1e-9 && shown.to - shown.from >= 2 - 1e-9);
      else assert.ok(width >= 1000 - 1e-9);
    }),
  );
});

test("ticks stand within their axis and are few", () => {
  assert.deepEqual(byteTicks(4 * 2 ** 30, 4), [0, 2 ** 30, 2 * 2 ** 30, 3 * 2 ** 30, 4 * 2 ** 30]);
  assert.deepEqual(logTicks(0.5, 200), [0.5, 1, 2, 5, 10, 20, 50, 100, 200]);
  assert.deepEqual(logTicks(1.2, 2), [1.2, 1.4, 1.6, 1.8, 2]);
  fc.assert(
    fc.property(fc.double({ min: 1e-12, max: 1e12, noNaN: true }), fc.double({ min: 1.001, max: 1e9, noNaN: true }), (low, factor) => {
      const ticks = logTicks(low, low * factor);
      assert.ok(ticks.every((tick) => tick >= low && tick <= low * factor));
      assert.ok(ticks.length <= 14, String(ticks));
      assert.ok(byteTicks(low, 6).length <= 7);
    }),
  );
});

test("the CSV file holds every number of the series as it was measured", () => {
  const step = fc.record({ loss: fc.double(), learningRate: fc.double(), gradNorm: fc.double(), tokensPerSecond: fc.double() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.uniqueArray(fc.nat({ max: 80 }), { maxLength: 10 }), (rows, evaluated) => {
      const steps = Series.empty("step", "loss", "learningRate", "gradNorm", "tokensPerSecond").append(
        rows.map((row, i) => ({ step: i + 1, ...row })),
      );
      const evaluations = { steps: evaluated.sort((a, b) => a - b), values: evaluated.map((at) => at / 7), length: evaluated.length };
      const [head, ...lines] = scalarCsv(steps, evaluations).trimEnd().split("\n");
      assert.equal(head, scalarColumns.join(","));
      const read = new Map(lines.map((line) => [Number(line.split(",")[0]), line.split(",")]));
      assert.equal(read.size, lines.length, "one row a step");
      assert.deepEqual(
        [...read.keys()],
        [...new Set([...steps.column("step"), ...evaluated])].sort((a, b) => a - b),
      );
      for (const [i, row] of rows.entries())
        assert.deepEqual(
          read
            .get(i + 1)
            ?.slice(1, 5)
            .map(Number),
          [row.loss, row.learningRate, row.gradNorm, row.tokensPerSecond].map((value) => value + 0),
        );
      for (const at of evaluated) assert.equal(Number(read.get(at)?.[5]), at / 7);
      for (const [at, fields] of read) assert.equal(fields[5] === "", !evaluated.includes(at));
    }),
  );
});

test("files are named by the run, in letters the protocol takes", () => {
  assert.equal(exportName("demo run #1", "scalars", "csv"), "demo-run-1-scalars.csv");
  assert.equal(exportName("../../etc", "charts", "png"), "etc-charts.png");
  fc.assert(
    fc.property(fc.string({ unit: "binary-ascii" }), (name) => assert.match(exportName(name, "scalars", "csv"), /^[A-Za-z0-9._-]{1,80}\.(csv|png)$/)),
  );
  assert.match(exportName("x".repeat(300), "scalars", "csv"), /^x+-scalars\.csv$/);
  assert.ok(exportName("x".repeat(300), "scalars", "csv").length <= 84);
  assert.equal(exportName("训练", "scalars", "csv"), "run-scalars.csv");
});

test("figures are rounded to be read and exact to be told", () => {
  assert.deepEqual([0, 1023, 1024, 1.5 * 2 ** 20, 2 ** 30 - 1, 12.34 * 2 ** 30].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.00 KiB",
    "1.50 MiB",
    "1.00 GiB",
    "12.3 GiB",
  ]);
  assert.equal(exactCount(1_610_612_736), "1,610,612,736");
  assert.equal(exactCount(12), "12");
  assert.deepEqual([0, 0.0084, 0.00001, 0.123, 1].map(formatPercent), ["0 %", "0.84 %", "< 0.01 %", "12.3 %", "100 %"]);
  assert.deepEqual([0, 2.34567, 1e-4, 123.456, 54321.9].map(formatValue), ["0", "2.3457", "1.00e-4", "123.46", "54322"]);
  assert.deepEqual([0.1 + 0.2, 1e-4, 2.5, 0].map(formatTick), ["0.3", "1e-4", "2.5", "0"]);
});
