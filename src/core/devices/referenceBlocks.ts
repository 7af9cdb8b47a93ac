/** The ops on blocks of a weight (SMT) of the reference device; reference.ts has the other ops and the rules. */
import * as blockShapes from "./blockShapes.ts";
import type { BlockMean, BlockTable, ColumnTable, Tensor } from "./device.ts";
import { roundToBfloat16 } from "./floatFormats.ts";
import { ReferenceMemory } from "./referenceMemory.ts";
import { columnsOf } from "./shapes.ts";

export abstract class ReferenceBlocks extends ReferenceMemory {
  /** A factor of a product: rounded to bf16 when it stands beside a bf16 one. */
  protected operand(x: Tensor, narrow: boolean): Float64Array {
    return narrow && x.dtype === "f32" ? this.floats(x).map(roundToBfloat16) : this.floats(x);
  }

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    const { N, C, gathered } = blockShapes.checkGatherColumns(out, x, columns);
    const data = this.floats(x);
    for (let n = 0; n < N; n++) {
      let at = n * gathered;
      for (let i = 0; i < columns.length; i += 2) {
        const first = n * C + columns[i];
        this.move(out, at, data.subarray(first, first + columns[i + 1]));
        at += columns[i + 1];
      }
    }
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    const [flat, w, C] = [this.floats(out), this.floats(weight), columnsOf(weight)];
    for (const { rowStart, rowCount, columnStart, columnCount, offset } of blockShapes.checkGatherBlocks(out, weight, blocks)) {
      for (let r = 0; r < rowCount; r++) {
        for (let c = 0; c < columnCount; c++) flat[offset + r * columnCount + c] = w[(rowStart + r) * C + columnStart + c];
      }
    }
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    const [flat, C] = [this.floats(values), columnsOf(weight)];
    for (const { rowStart, rowCount, columnStart, columnCount, offset } of blockShapes.checkScatterBlocks(weight, values, blocks)) {
      for (let r = 0; r < rowCount; r++) {
        const row = flat.subarray(offset + r * columnCount, offset + (r + 1) * columnCount);
        this.move(weight, (rowStart + r) * C + columnStart, row);
      }
    }
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    const narrow = dOut.dtype === "bf16" || slices.dtype === "bf16";
    const [dy, x] = [dOut, slices].map((tensor) => this.operand(tensor, narrow));
    const [flat, O, S] = [this.floats(dBlocks), columnsOf(dOut), columnsOf(slices)];
    for (const { rowStart, rowCount, columnCount, offset, sliceStart } of checked.blocks) {
      for (let r = 0; r < rowCount; r++) {
        for (let c = 0; c < columnCount; c++) {
          for (let n = 0; n < checked.N; n++) flat[offset + r * columnCount + c] += dy[n * O + rowStart + r] * x[n * S + sliceStart + c];
        }
      }
    }
  }

  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    const { N, out, in: columns } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    const narrow = dOut.dtype === "bf16" || x.dtype === "bf16";
    const [dy, input] = [dOut, x].map((tensor) => this.operand(tensor, narrow));
    const means = blockMeans(out, columns, blockSize, (r, c) => {
      let g = 0;
      for (let n = 0; n < N; n++) g += dy[n * out + r] * input[n * columns + c];
      return signed ? g : Math.abs(g);
    });
    const total = this.floats(scores);
    means.forEach((value, i) => {
      total[i] += value;
    });
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { rows, columns } = blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    const [data, scale] = [this.floats(x), columnScale && this.floats(columnScale)];
    const entry = (r: number, c: number) => {
      const value = data[r * columns + c];
      if (mean === "value") return value;
      return scale ? value * value * scale[c] : Math.abs(value);
    };
    this.floats(scores).set(blockMeans(rows, columns, blockSize, entry));
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    const { N, C } = blockShapes.checkColumnSumSquares(sums, x);
    const [total, data] = [this.floats(sums), this.floats(x)];
    for (let i = 0; i < N * C; i++) total[i % C] += data[i] ** 2;
  }
}

/** The mean of `entry(row, column)` over each l × l block of a (rows, columns) matrix, edge blocks over their own entries. */
function blockMeans(rows: number, columns: number, l: number, entry: (row: number, column: number) => number): Float64Array {
  const across = Math.ceil(columns / l);
  const [sums, counts] = [new Float64Array(Math.ceil(rows / l) * across), new Float64Array(Math.ceil(rows / l) * across)];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const block = Math.floor(r / l) * across + Math.floor(c / l);
      sums[block] += entry(r, c);
      counts[block]++;
    }
  }
  return sums.map((sum, i) => sum / counts[i]);
}
