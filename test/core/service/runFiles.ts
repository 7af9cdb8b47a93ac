/** Tensors out of safetensors files, read here without a line of the product, so that what the product reads can be compared with it. */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { SelectedBlock, Selection } from "../../../src/protocol/selection.ts";

export interface StoredTensor {
  dtype: string;
  shape: number[];
  values: Float32Array;
}

/** A tensor stored as F32, BF16 or I32. */
export function tensorOf(file: string, name: string): StoredTensor {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const entry = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes))[name];
  if (!entry) throw new Error(`${file} has no ${name}`);
  const { dtype, shape, data_offsets: offsets } = entry;
  const data = bytes.subarray(8 + headerBytes + offsets[0], 8 + headerBytes + offsets[1]);
  const values = new Float32Array(shape.reduce((a: number, b: number) => a * b, 1));
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  for (let i = 0; i < values.length; i++) {
    if (dtype === "I32") values[i] = data.readInt32LE(4 * i);
    else {
      bits[0] = dtype === "BF16" ? data.readUInt16LE(2 * i) << 16 : data.readUInt32LE(4 * i);
      values[i] = float[0];
    }
  }
  return { dtype, shape, values };
}

export function hasTensor(file: string, name: string): boolean {
  const bytes = readFileSync(file);
  return name in JSON.parse(bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0))));
}

export interface ExpectedBlock {
  rows: number;
  columns: number;
  weight: Float32Array;
  delta: Float32Array;
  gradient: Float32Array;
  firstMoment: Float32Array;
  secondMoment: Float32Array;
}

/** Everything a checkpoint holds of a chosen block; `base` is the model's weight file. */
export function blockOf(folder: string, selection: Selection, block: SelectedBlock, base: string): ExpectedBlock {
  const { blockSize } = selection;
  const weight = `${block.name}.weight`;
  const stored = tensorOf(base, weight);
  const extent = (at: number, side: number) => Math.min(blockSize, side - at * blockSize);
  const [rows, columns] = [extent(block.row, stored.shape[0]), extent(block.column, stored.shape[1])];
  const slice = (values: Float32Array, at: number) => new Float32Array(values.subarray(at, at + rows * columns));

  const delta = path.join(folder, "smt.safetensors");
  const index = tensorOf(delta, `${weight}.index`).values;
  let inDelta = 0;
  let i = 0;
  for (; index[i] !== block.row * blockSize || index[i + 2] !== block.column * blockSize; i += 4) inDelta += index[i + 1] * index[i + 3];

  // Moments stand by column, then row.
  const before = selection.blocks.filter(
    ({ name, row, column }) => name === block.name && (column < block.column || (column === block.column && row < block.row)),
  );
  const inMoments = before.reduce((sum, other) => sum + extent(other.row, stored.shape[0]) * extent(other.column, stored.shape[1]), 0);
  const optimizer = path.join(folder, "optimizer.safetensors");
  const master = slice(tensorOf(delta, `${weight}.blocks`).values, inDelta);
  const original = Float32Array.from(
    master,
    (_, at) => stored.values[(block.row * blockSize + Math.floor(at / columns)) * stored.shape[1] + block.column * blockSize + (at % columns)],
  );
  return {
    rows,
    columns,
    weight: master,
    delta: master.map((value, at) => value - original[at]),
    gradient: slice(tensorOf(optimizer, `${weight}.gradient`).values, inMoments),
    firstMoment: slice(tensorOf(optimizer, `${weight}.firstMoment`).values, inMoments),
    secondMoment: slice(tensorOf(optimizer, `${weight}.secondMoment`).values, inMoments),
  };
}

export function meanOfAbsolute(values: Float32Array): number {
  return values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
}
