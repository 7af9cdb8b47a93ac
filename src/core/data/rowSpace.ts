/**
 * First-fit packing in O(log rows) a document: a tree over rows, each node holding the most room left below it.
 * It knows lengths only. Source: the usual segment-tree form of first fit (Johnson, "Near-optimal bin packing algorithms", 1973).
 */
export class RowSpace {
  readonly #leaves: number;
  /** Node i has children 2 i and 2 i + 1; leaves begin at #leaves. */
  readonly #room: Int32Array;

  /** Room for `rows` rows of `capacity` each. */
  constructor(rows: number, capacity: number) {
    this.#leaves = 2 ** Math.ceil(Math.log2(Math.max(1, rows)));
    this.#room = new Int32Array(2 * this.#leaves).fill(capacity);
  }

  /** Takes `length` from the first row with so much room left and returns its index; throws RangeError when no row has it. */
  take(length: number): number {
    if (this.#room[1] < length) throw new RangeError(`no row has room for ${length}`);
    let node = 1;
    while (node < this.#leaves) {
      node *= 2;
      if (this.#room[node] < length) node++;
    }
    this.#room[node] -= length;
    const row = node - this.#leaves;
    for (node >>= 1; node >= 1; node >>= 1) this.#room[node] = Math.max(this.#room[2 * node], this.#room[2 * node + 1]);
    return row;
  }
}
