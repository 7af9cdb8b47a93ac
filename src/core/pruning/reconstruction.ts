/**
 * Carries a pruned weight over into the model, rounded as its file stores it, and measures on what is then there: zeros, and how far the layer's outputs are
 * from the dense ones, ‖X(W − Ŵ)ᵀ‖ / ‖X·Wᵀ‖ = √(tr(D·H·Dᵀ) / tr(W·H·Wᵀ)) with D = W − Ŵ and H = XᵀX. Sums are float64.
 */
import type { Device, FileDType, Tensor } from "../devices/device.ts";
import { columnsOf, rowsOf } from "../devices/shapes.ts";
import { encodeFloats } from "../files/storedFloats.ts";

const pieceEntries = 1 << 20;

interface RowPiece {
  firstRow: number;
  rows: number;
}

function* rowPieces(w: Tensor): Generator<RowPiece> {
  const rows = rowsOf(w);
  const perPiece = Math.max(1, Math.floor(pieceEntries / columnsOf(w)));
  for (let firstRow = 0; firstRow < rows; firstRow += perPiece) yield { firstRow, rows: Math.min(perPiece, rows - firstRow) };
}

/** out = w as a file of `dtype` stores it; out may be w. */
export async function roundTo(device: Device, out: Tensor, w: Tensor, dtype: FileDType): Promise<void> {
  const columns = columnsOf(w);
  for (const { firstRow, rows } of rowPieces(w)) {
    const values = (await device.read(w, firstRow * columns, rows * columns)) as Float32Array;
    device.load(out, firstRow * columns, encodeFloats(values, dtype), dtype);
    await device.turn();
  }
}

export interface Measured {
  zeros: number;
  entries: number;
  error: number | null;
}

/**
 * Compares a pruned weight with the dense one; without a Hessian the error is null. `order`: column i of the pruned one stood at order[i] in the dense one,
 * whose inputs the Hessian is of.
 */
export async function measure(
  device: Device,
  dense: Tensor,
  pruned: Tensor,
  hessian: Tensor | null,
  order: Int32Array | null = null,
): Promise<Measured> {
  const columns = columnsOf(dense);
  let [zeros, lost, whole] = [0, 0, 0];
  for (const { firstRow, rows } of rowPieces(dense)) {
    const read = async (w: Tensor) => (await device.read(w, firstRow * columns, rows * columns)) as Float32Array;
    const [old, now] = [await read(dense), await read(pruned)];
    for (let i = 0; i < now.length; i++) if (now[i] === 0) zeros++;
    if (hessian) {
      whole += await quadraticForm(device, old, columns, hessian);
      const difference = old.slice();
      for (let i = 0; i < now.length; i++) difference[order ? i - (i % columns) + order[i % columns] : i] -= now[i];
      lost += await quadraticForm(device, difference, columns, hessian);
    }
    await device.turn();
  }
  const entries = rowsOf(dense) * columns;
  // Rounding can leave a sum that is 0 a little below.
  const error = hessian ? (whole > 0 ? Math.sqrt(Math.max(0, lost) / whole) : 0) : null;
  return { zeros, entries, error };
}

/** tr(V·H·Vᵀ) of rows V. */
async function quadraticForm(device: Device, values: Float32Array, columns: number, hessian: Tensor): Promise<number> {
  const rows = values.length / columns;
  const v = device.allocate([rows, columns], "f32", "workspace");
  const product = device.allocate([rows, columns], "f32", "workspace");
  device.write(v, values);
  device.matmul(product, v, hessian);
  const products = (await device.read(product)) as Float32Array;
  device.free(product);
  device.free(v);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] * products[i];
  return sum;
}
