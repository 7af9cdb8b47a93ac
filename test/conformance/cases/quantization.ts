/** Levels of group-wise INT4: both signs, one sign, all zero, groups of one, and weights whose largest entry is a level itself. */
import type { DType } from "../../../src/core/devices/device.ts";
import { normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";
import { relative } from "./tolerances.ts";

const contents = {
  normals: (count: number) => normals(1, count),
  positive: (count: number) => normals(2, count).map((x) => 3 + Math.abs(x)),
  negative: (count: number) => normals(3, count).map((x) => -Math.abs(x)),
  zeros: (count: number) => new Float32Array(count).map((_, i) => (i % 2 ? 0 : -0)),
  integers: (count: number) => Float32Array.from({ length: count }, (_, i) => (i % 16) - 5),
};

export const fitQuantizationCases: ConformanceCase[] = (
  [
    [1, 1, 1],
    [3, 48, 16],
    [5, 7, 7],
    [33, 260, 130],
  ] as const
).flatMap(([rows, columns, groupSize]) =>
  Object.entries(contents).flatMap(([name, fill]) =>
    (["f32", "bf16"] as DType[]).map((dtype) =>
      opCase({
        title: `[${rows}, ${columns}] ${dtype} in groups of ${groupSize}, ${name}`,
        tensors: {
          scales: { shape: [rows, columns / groupSize], dtype: "f32", data: normals(4, (rows * columns) / groupSize) },
          zeros: { shape: [rows, columns / groupSize], dtype: "f32", data: normals(5, (rows * columns) / groupSize) },
          weight: { shape: [rows, columns], dtype, data: fill(rows * columns) },
        },
        call: (d, t) => d.fitQuantization({ scales: t.scales, zeros: t.zeros, groupSize }, t.weight),
        // A division, rounded once; zero points are integers.
        // The difference rounds once; graphics cards divide with up to 2.5 units of error.
        outputs: { scales: relative("scales", 4), zeros: "exact" },
      }),
    ),
  ),
);
