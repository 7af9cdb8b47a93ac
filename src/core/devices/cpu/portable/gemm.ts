/**
 * Matrix products in plain TypeScript: operands are packed into float64 panels, products summed in 4 × 4 register tiles, K in one fixed order.
 * What happens with a finished tile (store, add, reduce) is the caller's. About 5 GFLOP/s on one core of 2024.
 * Source of the scheme: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34, 2008).
 */
import { toBfloat16 } from "../../floatFormats.ts";
import { bfloat16Values, type FloatData } from "./formats.ts";

/** A matrix within a tensor's data: element (i, j) is data[offset + i·rowStride + j·columnStride]. One of the strides is 1. */
export interface Operand {
  data: FloatData;
  offset: number;
  rowStride: number;
  columnStride: number;
}

/** Called once for every tile of the product, when it is complete: element (row + i, column + j) is tile[i·tileColumns + j]. The tile may be changed. */
export type TileSink = (row: number, rows: number, column: number, columns: number, tile: Float64Array) => void;

/**
 * Fills a panel with rows [row, row + rows) × columns [k, k + depth) of a matrix whose columns are summed over. Rows stand in groups of four, each
 * group column by column: element (row + i, k + j) at (i − i mod 4)·depth + 4j + i mod 4; rows that the last group lacks are 0.
 */
export type PanelSource = (panel: Float64Array, row: number, rows: number, k: number, depth: number) => void;

/** High enough that an adapted weight, which is formed anew for each row of tiles, costs little beside its product. */
const tileRows = 256;
export const tileColumns = 128;
export const panelDepth = 256;

/** The panels and the tile of a device. */
export class GemmWorkspace {
  readonly left = new Float64Array(tileRows * panelDepth);
  readonly right = new Float64Array(tileColumns * panelDepth);
  readonly tile = new Float64Array(tileRows * tileColumns);
}

/** Bytes of a {@link GemmWorkspace}. */
export const gemmWorkspaceBytes = 8 * (tileRows * panelDepth + tileColumns * panelDepth + tileRows * tileColumns);

/** Forms a (M, K) · b (K, N), tile by tile. If one operand is bf16, the other is rounded to bf16 while it is packed. */
export function multiply(M: number, N: number, K: number, a: Operand, b: Operand, workspace: GemmWorkspace, sink: TileSink): void {
  const narrow = a.data instanceof Uint16Array || b.data instanceof Uint16Array;
  const transposed: Operand = { data: b.data, offset: b.offset, rowStride: b.columnStride, columnStride: b.rowStride };
  multiplyPanels(M, N, K, panelsOf(a, narrow), panelsOf(transposed, narrow), workspace, sink);
}

/** The panels of a matrix within a tensor. */
export function panelsOf(operand: Operand, narrow: boolean): PanelSource {
  return (panel, row, rows, k, depth) => pack(panel, operand, row, rows, k, depth, narrow);
}

/** Like {@link multiply}, of a (M, K) and the transpose of b, (N, K). */
export function multiplyPanels(
  M: number,
  N: number,
  K: number,
  a: PanelSource,
  bTransposed: PanelSource,
  workspace: GemmWorkspace,
  sink: TileSink,
): void {
  const { left, right, tile } = workspace;
  for (let column = 0; column < N; column += tileColumns) {
    const columns = Math.min(tileColumns, N - column);
    for (let row = 0; row < M; row += tileRows) {
      const rows = Math.min(tileRows, M - row);
      tile.fill(0, 0, Math.ceil(rows / 4) * 4 * tileColumns);
      for (let k = 0; k < K; k += panelDepth) {
        const depth = Math.min(panelDepth, K - k);
        a(left, row, rows, k, depth);
        bTransposed(right, column, columns, k, depth);
        for (let j = 0; j < columns; j += 4) {
          for (let i = 0; i < rows; i += 4) addProduct(depth, left, i * depth, right, j * depth, tile, i * tileColumns + j);
        }
      }
      sink(row, rows, column, columns, tile);
    }
  }
}

/** A {@link PanelSource} of a matrix within a tensor. */
function pack(
  panel: Float64Array,
  { data, offset, rowStride, columnStride }: Operand,
  row: number,
  rows: number,
  k: number,
  depth: number,
  narrow: boolean,
): void {
  const start = offset + row * rowStride + k * columnStride;
  for (let i = 0; i < rows; i += 4) {
    const to = i * depth;
    for (let r = 0; r < 4; r++) {
      const from = start + (i + r) * rowStride;
      if (i + r >= rows) for (let j = 0; j < depth; j++) panel[to + 4 * j + r] = 0;
      else if (data instanceof Uint16Array) packBfloat16(panel, to + r, data, from, columnStride, depth);
      else if (narrow) packRounded(panel, to + r, data, from, columnStride, depth);
      else packFloat32(panel, to + r, data, from, columnStride, depth);
    }
  }
}

function packFloat32(panel: Float64Array, to: number, data: Float32Array, from: number, stride: number, depth: number): void {
  for (let j = 0; j < depth; j++) panel[to + 4 * j] = data[from + j * stride];
}

function packBfloat16(panel: Float64Array, to: number, data: Uint16Array, from: number, stride: number, depth: number): void {
  for (let j = 0; j < depth; j++) panel[to + 4 * j] = bfloat16Values[data[from + j * stride]];
}

function packRounded(panel: Float64Array, to: number, data: Float32Array, from: number, stride: number, depth: number): void {
  for (let j = 0; j < depth; j++) panel[to + 4 * j] = bfloat16Values[toBfloat16(data[from + j * stride])];
}

/** tile (4 × 4 at c) += four rows of a · four columns of b. Sixteen sums in local variables: that is what the engine keeps in registers. */
function addProduct(depth: number, a: Float64Array, i: number, b: Float64Array, j: number, tile: Float64Array, c: number): void {
  let [c00, c01, c02, c03] = [0, 0, 0, 0];
  let [c10, c11, c12, c13] = [0, 0, 0, 0];
  let [c20, c21, c22, c23] = [0, 0, 0, 0];
  let [c30, c31, c32, c33] = [0, 0, 0, 0];
  for (let k = 0; k < depth; k++) {
    const b0 = b[j];
    const b1 = b[j + 1];
    const b2 = b[j + 2];
    const b3 = b[j + 3];
    let x = a[i];
    c00 += x * b0;
    c01 += x * b1;
    c02 += x * b2;
    c03 += x * b3;
    x = a[i + 1];
    c10 += x * b0;
    c11 += x * b1;
    c12 += x * b2;
    c13 += x * b3;
    x = a[i + 2];
    c20 += x * b0;
    c21 += x * b1;
    c22 += x * b2;
    c23 += x * b3;
    x = a[i + 3];
    c30 += x * b0;
    c31 += x * b1;
    c32 += x * b2;
    c33 += x * b3;
    i += 4;
    j += 4;
  }
  addRow(tile, c, c00, c01, c02, c03);
  addRow(tile, c + tileColumns, c10, c11, c12, c13);
  addRow(tile, c + 2 * tileColumns, c20, c21, c22, c23);
  addRow(tile, c + 3 * tileColumns, c30, c31, c32, c33);
}

function addRow(tile: Float64Array, at: number, x0: number, x1: number, x2: number, x3: number): void {
  tile[at] += x0;
  tile[at + 1] += x1;
  tile[at + 2] += x2;
  tile[at + 3] += x3;
}
