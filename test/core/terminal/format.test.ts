import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBytes, formatCount, formatDuration, formatLoss, formatPercent } from "../../../src/core/terminal/format.ts";

test("bytes have three digits and a unit of 1024", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.00 KiB"],
    [10_235, "10.0 KiB"],
    [1024 * 999.6, "0.98 MiB"],
    [1024 ** 2 - 1, "1.00 MiB"],
    [12.34 * 1024 ** 3, "12.3 GiB"],
    [3e15, "2728 TiB"],
    [-2048, "-2.00 KiB"],
    [Number.NaN, "?"],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text, String(bytes));
});

test("counts, durations, shares and losses read as people write them", () => {
  assert.deepEqual([0, 950, 1000, 656_128, 999_600, 1.1e9].map(formatCount), ["0", "950", "1.00 K", "656 K", "1.00 M", "1.10 B"]);
  assert.deepEqual([0, 840, 999.6, 9949, 9960, 59_499, 59_500, 185_000, 3_599_600, 7_620_000, -1, Number.POSITIVE_INFINITY].map(formatDuration), [
    "0 ms",
    "840 ms",
    "1.0 s",
    "9.9 s",
    "10 s",
    "59 s",
    "1 min 00 s",
    "3 min 05 s",
    "1 h 00 min",
    "2 h 07 min",
    "?",
    "?",
  ]);
  assert.deepEqual([0, 0.0084, 0.123, 0.9999, 1, Number.NaN].map(formatPercent), ["0 %", "0.84 %", "12.3 %", "100 %", "100 %", "?"]);
  assert.equal(formatLoss(2.10004), "2.1000");
});
