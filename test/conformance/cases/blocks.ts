/** The ops on blocks of a weight: gather, scatter, block gradients, block scores and means. Edge blocks are ragged. */
import { type BlockMean, blockTableStride, type DType } from "../../../src/core/devices/device.ts";
import { normals, uniforms } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";
import { ofTerms } from "./tolerances.ts";

const floats: readonly DType[] = ["f32", "bf16"];
const pairs = floats.flatMap((a) => floats.map((b) => [a, b] as const));

interface BlockGrid {
  out: number;
  columns: number;
  blockSize: number;
  /** (row, column) of the chosen blocks, in storage order. */
  chosen: readonly (readonly [number, number])[];
}

const grids: BlockGrid[] = [
  { out: 1, columns: 1, blockSize: 1, chosen: [[0, 0]] },
  // 7 × 10 in blocks of 4: the last row has 3 rows, the last column 2 columns; the order is not the grid's.
  {
    out: 7,
    columns: 10,
    blockSize: 4,
    chosen: [
      [1, 2],
      [0, 0],
      [0, 2],
      [0, 1],
      [1, 0],
    ],
  },
  {
    out: 64,
    columns: 96,
    blockSize: 16,
    chosen: [
      [3, 5],
      [0, 5],
      [2, 1],
      [1, 1],
      [0, 1],
    ],
  },
  {
    out: 200,
    columns: 130,
    blockSize: 64,
    chosen: [
      [3, 2],
      [0, 0],
      [2, 0],
      [1, 2],
    ],
  },
  {
    out: 256,
    columns: 512,
    blockSize: 256,
    chosen: [[0, 1]],
  },
];
/** All blocks of a grid: what full fine-tuning of the matrix trains. */
const allOf = { out: 33, columns: 20, blockSize: 8, chosen: Array.from({ length: 15 }, (_, i) => [Math.floor(i / 3), i % 3] as const) };

/** The block table, the column table of the distinct stripes, and their sizes; `gap` leaves room between the flat blocks, which no op may touch. */
function tablesOf(
  { out, columns, blockSize, chosen }: BlockGrid,
  gap = 0,
): { blocks: Int32Array; stripes: Int32Array; size: number; gathered: number } {
  const stripes = new Map<number, { start: number; count: number }>();
  let [gathered, size] = [0, 0];
  for (const [, column] of chosen) {
    if (stripes.has(column)) continue;
    const count = Math.min(blockSize, columns - column * blockSize);
    stripes.set(column, { start: gathered, count });
    gathered += count;
  }
  const rows = chosen.flatMap(([row, column]) => {
    const stripe = stripes.get(column) as { start: number; count: number };
    const rowCount = Math.min(blockSize, out - row * blockSize);
    const entry = [row * blockSize, rowCount, column * blockSize, stripe.count, size, stripe.start];
    size += rowCount * stripe.count + gap;
    return entry;
  });
  const pairsOfColumns = [...stripes].flatMap(([column, { count }]) => [column * blockSize, count]);
  if (rows.length !== chosen.length * blockTableStride) throw new Error("the table's stride changed");
  return { blocks: Int32Array.from(rows), stripes: Int32Array.from(pairsOfColumns), size, gathered };
}

const titleOf = ({ out, columns, blockSize, chosen }: BlockGrid) => `(${out}, ${columns}) in blocks of ${blockSize}, ${chosen.length} chosen`;

export const gatherColumnsCases: ConformanceCase[] = [...grids, allOf].flatMap((grid) =>
  [1, 5, 70].flatMap((N) =>
    pairs.map(([out, x]) => {
      const { stripes, gathered } = tablesOf(grid);
      return opCase({
        title: `[${N}] ${titleOf(grid)}, ${out} ← ${x}`,
        tensors: {
          out: { shape: [N, gathered], dtype: out },
          x: { shape: [N, grid.columns], dtype: x, data: normals(N, N * grid.columns).fill(Number.NaN, 0, 1) },
        },
        call: (d, t) => d.gatherColumns(t.out, t.x, stripes),
        outputs: { out: "exact" },
      });
    }),
  ),
);

export const gatherBlocksCases: ConformanceCase[] = [...grids, allOf].flatMap((grid) =>
  floats.flatMap((dtype) =>
    [0, 5].map((gap) => {
      const { blocks, size } = tablesOf(grid, gap);
      return opCase({
        title: `${titleOf(grid)}, ${dtype}, ${gap} apart`,
        tensors: {
          out: { shape: [size], dtype: "f32", data: normals(9, size) },
          weight: { shape: [grid.out, grid.columns], dtype, data: normals(1, grid.out * grid.columns) },
        },
        call: (d, t) => d.gatherBlocks(t.out, t.weight, blocks),
        outputs: { out: "exact" },
      });
    }),
  ),
);

export const scatterBlocksCases: ConformanceCase[] = [...grids, allOf].flatMap((grid) =>
  floats.map((dtype) => {
    const { blocks, size } = tablesOf(grid);
    return opCase({
      title: `${titleOf(grid)}, ${dtype}`,
      tensors: {
        weight: { shape: [grid.out, grid.columns], dtype, data: normals(1, grid.out * grid.columns) },
        values: { shape: [size], dtype: "f32", data: normals(2, size).fill(Number.NEGATIVE_INFINITY, size - 1) },
      },
      call: (d, t) => d.scatterBlocks(t.weight, t.values, blocks),
      outputs: { weight: "exact" },
    });
  }),
);

export const blockGradientsCases: ConformanceCase[] = [...grids, allOf].flatMap((grid) =>
  [1, 5, 130, 520].flatMap((N) =>
    pairs.map(([dOut, slices]) => {
      const { blocks, size, gathered } = tablesOf(grid, 3);
      return opCase({
        title: `[${N}] ${titleOf(grid)}, dOut ${dOut}, slices ${slices}, twice`,
        tensors: {
          dBlocks: { shape: [size], dtype: "f32", data: normals(3, size) },
          dOut: { shape: [N, grid.out], dtype: dOut, data: normals(N, N * grid.out) },
          slices: { shape: [N, gathered], dtype: slices, data: normals(N + 1, N * gathered) },
        },
        call: (d, t) => {
          d.blockGradients(t.dBlocks, t.dOut, t.slices, blocks);
          d.blockGradients(t.dBlocks, t.dOut, t.slices, blocks);
        },
        outputs: { dBlocks: ofTerms("dBlocks", 2 * N) },
      });
    }),
  ),
);

/** (out, in, block size), ragged in the first dimension, the second, both, none, and a block larger than the matrix. */
const scoreSizes = [
  [1, 1, 1],
  [7, 10, 4],
  [64, 96, 16],
  [130, 70, 64],
  [65, 300, 32],
  [20, 30, 256],
  [256, 300, 128],
] as const;
const gridOf = (out: number, columns: number, l: number) => [Math.ceil(out / l), Math.ceil(columns / l)];

function blockScoresCase(
  N: number,
  [out, columns, l]: readonly [number, number, number],
  dtypes: readonly [DType, DType],
  signed: boolean,
  poison = false,
): ConformanceCase {
  const shape = gridOf(out, columns, l);
  const x = normals(N + 1, N * columns);
  if (poison) x[columns - 1] = Number.NaN;
  return opCase({
    title: `[${N}] (${out}, ${columns}) in blocks of ${l}, dOut ${dtypes[0]}, x ${dtypes[1]}${signed ? ", signed" : ""}, twice${poison ? ", with NaN" : ""}`,
    tensors: {
      scores: { shape, dtype: "f32", data: normals(4, shape[0] * shape[1]) },
      dOut: { shape: [N, out], dtype: dtypes[0], data: normals(N, N * out) },
      x: { shape: [N, columns], dtype: dtypes[1], data: x },
    },
    call: (d, t) => {
      d.blockScores(t.scores, t.dOut, t.x, l, signed);
      d.blockScores(t.scores, t.dOut, t.x, l, signed);
    },
    // Σ|terms| over the tokens and then over the block: the mean of l² numbers of any sign.
    outputs: { scores: ofTerms("scores", 2 * N + l * l) },
  });
}

export const blockScoresCases: ConformanceCase[] = [
  ...scoreSizes.flatMap((size) =>
    [1, 33, 130].flatMap((N) => pairs.flatMap((dtypes) => [false, true].map((signed) => blockScoresCase(N, size, dtypes, signed)))),
  ),
  blockScoresCase(520, [64, 96, 32], ["f32", "f32"], false),
  blockScoresCase(520, [64, 96, 32], ["bf16", "bf16"], true),
  blockScoresCase(9, [33, 20, 8], ["f32", "f32"], false, true),
];

export const blockMeansCases: ConformanceCase[] = scoreSizes.flatMap(([rows, columns, l]) =>
  floats.flatMap((dtype) =>
    (["value", "absolute", "squareScaled"] as const).map((mean: BlockMean) => {
      const tensors = {
        scores: { shape: gridOf(rows, columns, l), dtype: "f32" as const },
        x: { shape: [rows, columns], dtype, data: normals(1, rows * columns) },
        columnScale: { shape: [columns], dtype: "f32" as const, data: uniforms(2, columns, 0, 3) },
      };
      return opCase({
        title: `(${rows}, ${columns}) in blocks of ${l}, ${dtype}, ${mean}`,
        tensors,
        call: (d, t) => d.blockMeans(t.scores, t.x, l, mean, mean === "squareScaled" ? t.columnScale : null),
        outputs: { scores: ofTerms("scores", l * l) },
      });
    }),
  ),
);

export const columnSumSquaresCases: ConformanceCase[] = (
  [
    [1, 1],
    [3, 7],
    [33, 65],
    [300, 33],
  ] as const
).flatMap(([N, C]) =>
  floats.map((dtype) =>
    opCase({
      title: `[${N}, ${C}] ${dtype}, twice`,
      tensors: { sums: { shape: [C], dtype: "f32", data: uniforms(1, C, 0, 1) }, x: { shape: [N, C], dtype, data: normals(N, N * C) } },
      call: (d, t) => {
        d.columnSumSquares(t.sums, t.x);
        d.columnSumSquares(t.sums, t.x);
      },
      outputs: { sums: ofTerms("sums", 2 * N) },
    }),
  ),
);
