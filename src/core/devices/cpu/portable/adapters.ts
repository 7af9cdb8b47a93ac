/**
 * Adapted weights of the portable device, on raw data; formulas and letters as in device.ts. W̃ exists as strips of one row: packed into a product's
 * panel, or stored when it is asked for.
 * The rule to keep: a mask selects. What a zero weight hides, infinite or NaN, becomes 0; it is not multiplied by 0.
 */
import { columnFactor, rowFactor, toDitheredBfloat16 } from "../../dither.ts";
import { roundToEven, toBfloat16 } from "../../floatFormats.ts";
import { bfloat16Values, type FloatData, forEachPiece, type Scratch, store } from "./formats.ts";
import { type GemmWorkspace, multiplyPanels, type Operand, type PanelSource, panelDepth, panelsOf, type TileSink, tileColumns } from "./gemm.ts";

/** strip[c] = W̃ at (i, j + c), c < count. */
export type StripSource = (strip: Float64Array, i: number, j: number, count: number) => void;

export interface LowRankData {
  weight: FloatData;
  left: Float32Array;
  right: Float32Array;
  /** Columns of left that there are, and that count. */
  r: number;
  rank: number;
  scale: number;
  base: boolean;
  quantization: { scales: Float32Array; zeros: Float32Array; groupSize: number } | null;
  /** Columns of the weight. */
  columns: number;
}

export interface GroupScaledData {
  weight: FloatData;
  alpha: Float32Array;
  beta: Float32Array;
  scale: number;
  base: boolean;
  /** Rows of the weight that share a row of alpha. */
  groupRows: number;
  columns: number;
}

const elementOf = (data: FloatData, at: number) => (data instanceof Float32Array ? data[at] : bfloat16Values[data[at]]);

export function lowRankStrips(adapted: LowRankData): StripSource {
  const { weight, scale, base, quantization, columns } = adapted;
  return (strip, i, j, count) => {
    lowRankProduct(strip, adapted, i, j, count);
    const at = i * columns + j;
    for (let c = 0; c < count; c++) {
      const w = elementOf(weight, at + c);
      if (w === 0) strip[c] = 0;
      else strip[c] = base ? w + scale * strip[c] : scale * strip[c];
    }
    if (quantization) quantize(strip, quantization, columns, i, j, count);
  };
}

/** strip[c] = Σ over k < rank of left[i, k] · right[k, j + c], four k a pass. */
function lowRankProduct(strip: Float64Array, { left, right, r, rank, columns }: LowRankData, i: number, j: number, count: number): void {
  strip.fill(0, 0, count);
  let k = 0;
  for (; k + 4 <= rank; k += 4) {
    const from = i * r + k;
    const l0 = left[from];
    const l1 = left[from + 1];
    const l2 = left[from + 2];
    const l3 = left[from + 3];
    const r0 = k * columns + j;
    const r1 = r0 + columns;
    const r2 = r1 + columns;
    const r3 = r2 + columns;
    for (let c = 0; c < count; c++) strip[c] += l0 * right[r0 + c] + l1 * right[r1 + c] + l2 * right[r2 + c] + l3 * right[r3 + c];
  }
  for (; k < rank; k++) {
    const l0 = left[i * r + k];
    const r0 = k * columns + j;
    for (let c = 0; c < count; c++) strip[c] += l0 * right[r0 + c];
  }
}

/** Entries become the nearest of their group's levels; a masked entry is 0, and the zero point, being an integer, leaves it there. */
function quantize(
  strip: Float64Array,
  { scales, zeros, groupSize }: NonNullable<LowRankData["quantization"]>,
  columns: number,
  i: number,
  j: number,
  count: number,
): void {
  const row = (i * columns) / groupSize;
  for (let c = 0; c < count; c++) {
    const group = row + Math.floor((j + c) / groupSize);
    const [a, z] = [scales[group], zeros[group]];
    strip[c] = Math.fround(a * (Math.max(0, Math.min(15, roundToEven(strip[c] / a + z))) - z)); // as a stored weight would hold it
  }
}

export function groupScaledStrips({ weight, alpha, beta, scale, base, groupRows, columns }: GroupScaledData): StripSource {
  return (strip, i, j, count) => {
    const [at, alphaAt, factor] = [i * columns + j, Math.floor(i / groupRows) * columns + j, scale * beta[i]];
    for (let c = 0; c < count; c++) {
      const w = elementOf(weight, at + c);
      strip[c] = w * factor * alpha[alphaAt + c] + (base ? w : 0);
    }
  };
}

/** The same strips as bf16: levels to nearest, all else dithered by its place. */
export function narrowStrips(strips: StripSource, levels: boolean): StripSource {
  return (strip, i, j, count) => {
    strips(strip, i, j, count);
    if (levels) {
      for (let c = 0; c < count; c++) strip[c] = bfloat16Values[toBfloat16(strip[c])];
      return;
    }
    const row = rowFactor(i);
    for (let c = 0; c < count; c++) strip[c] = bfloat16Values[toDitheredBfloat16(strip[c], Math.imul(row, columnFactor(j + c)) >>> 16)];
  };
}

/** W̃'s rows as rows of a panel (the product sums over its columns), or W̃'s columns as rows of a panel. */
function stripPanels(strips: StripSource, rowsOfWeight: boolean, strip: Float64Array): PanelSource {
  return (panel, row, rows, k, depth) => {
    if (rows % 4 !== 0) panel.fill(0, (rows - (rows % 4)) * depth, (rows - (rows % 4) + 4) * depth);
    if (rowsOfWeight) {
      for (let i = 0; i < rows; i++) {
        strips(strip, row + i, k, depth);
        const to = (i - (i % 4)) * depth + (i % 4);
        for (let j = 0; j < depth; j++) panel[to + 4 * j] = strip[j];
      }
    } else {
      for (let j = 0; j < depth; j++) {
        strips(strip, k + j, row, rows);
        for (let i = 0; i < rows; i++) panel[(i - (i % 4)) * depth + 4 * j + (i % 4)] = strip[i];
      }
    }
  };
}

/** a (M, K) · W̃ᵀ, W̃ (N, K), with `transposeB`, else a · W̃, W̃ (K, N). `narrow`: a becomes bf16, as the strips are already. */
export function adaptedMatmul(
  [M, N, K]: readonly [number, number, number],
  a: FloatData,
  strips: StripSource,
  transposeB: boolean,
  narrow: boolean,
  workspace: GemmWorkspace,
  { sums: [strip] }: Scratch,
  sink: TileSink,
): void {
  if (strip.length < panelDepth) throw new Error(`a strip of ${panelDepth} does not fit into scratch`);
  const left: Operand = { data: a, offset: 0, rowStride: K, columnStride: 1 };
  multiplyPanels(M, N, K, panelsOf(left, narrow), stripPanels(strips, transposeB, strip), workspace, sink);
}

/** out (rows, columns) = W̃; out may be the weight. */
export function formAdapted(out: FloatData, rows: number, columns: number, strips: StripSource, { sums: [strip] }: Scratch): void {
  for (let i = 0; i < rows; i++) {
    forEachPiece(columns, (start, count) => {
      strips(strip, i, start, count);
      store(out, i * columns + start, strip, count);
    });
  }
}

/** Adds what a tile of G contributes to both factors; the tile is masked in place. */
export function lowRankGradientSink(first: Float32Array, second: Float32Array, adapted: LowRankData, { sums: [sums] }: Scratch): TileSink {
  const { weight, left, right, r, rank, scale, columns: C } = adapted;
  return (row, rows, column, columns, tile) => {
    for (let i = 0; i < rows; i++) {
      const [at, from] = [i * tileColumns, (row + i) * C + column];
      for (let j = 0; j < columns; j++) if (elementOf(weight, from + j) === 0) tile[at + j] = 0;
      for (let k = 0; k < rank; k++) first[(row + i) * r + k] += scale * dot(tile, at, right, k * C + column, columns);
    }
    for (let k = 0; k < rank; k++) {
      sums.fill(0, 0, columns);
      for (let i = 0; i < rows; i++) {
        const [factor, at] = [left[(row + i) * r + k], i * tileColumns];
        for (let j = 0; j < columns; j++) sums[j] += factor * tile[at + j];
      }
      for (let j = 0; j < columns; j++) second[k * C + column + j] += scale * sums[j];
    }
  };
}

/** Adds what a tile of G contributes to alpha and beta; the tile becomes W∘G. */
export function groupGradientSink(dAlpha: Float32Array, dBeta: Float32Array, adapted: GroupScaledData): TileSink {
  const { weight, alpha, beta, scale, groupRows, columns: C } = adapted;
  return (row, rows, column, columns, tile) => {
    for (let i = 0; i < rows; i++) {
      const [at, from] = [i * tileColumns, (row + i) * C + column];
      const group = Math.floor((row + i) / groupRows) * C + column;
      const factor = scale * beta[row + i];
      for (let j = 0; j < columns; j++) {
        tile[at + j] *= elementOf(weight, from + j);
        dAlpha[group + j] += factor * tile[at + j];
      }
      dBeta[row + i] += scale * dot(tile, at, alpha, group, columns);
    }
  };
}

function dot(a: Float64Array, aAt: number, b: Float32Array, bAt: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aAt + i] * b[bAt + i];
  return sum;
}

/** Levels of each group of entries; groups do not straddle rows. */
export function fitQuantization(scales: Float32Array, zeros: Float32Array, weight: FloatData, groupSize: number): void {
  for (let group = 0; group < scales.length; group++) {
    let [low, high] = [0, 0];
    for (let i = group * groupSize; i < (group + 1) * groupSize; i++) {
      const x = elementOf(weight, i);
      if (x < low) low = x;
      else if (x > high) high = x;
    }
    scales[group] = high > low ? (high - low) / 15 : 1;
    zeros[group] = high > low ? roundToEven((-15 * low) / (high - low)) + 0 : 0; // + 0: never −0
  }
}
