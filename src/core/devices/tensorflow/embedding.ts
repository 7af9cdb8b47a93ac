/** Rows of an embedding table, and the sum of gradients into them. It reads and makes engine tensors; ids were checked by who calls. */
import type { Tensor, Tensor2D } from "@tensorflow/tfjs-core";
import type { Tf } from "./engine.ts";
import { indices } from "./products.ts";

/** The rows of `table` that ids name. */
export function rowsById(tf: Tf, table: Tensor2D, ids: Int32Array): Tensor {
  return tf.gather(table, indices(tf, ids));
}

/** `table` with dOut's rows added by id: summed by id first, so that only the rows in question are touched. */
export function withRowsAdded(tf: Tf, table: Tensor2D, dOut: Tensor2D, ids: Int32Array): Tensor {
  const places = new Map<number, number>();
  const place = ids.map((id) => {
    const known = places.get(id) ?? places.size;
    places.set(id, known);
    return known;
  });
  const unique = Int32Array.from(places.keys());
  const column = (values: Int32Array) => tf.reshape(indices(tf, values), [values.length, 1]);
  const sums = tf.scatterND(column(place), dOut, [unique.length, table.shape[1]]);
  return tf.tensorScatterUpdate(table, column(unique), tf.add(tf.gather(table, indices(tf, unique)), sums));
}
