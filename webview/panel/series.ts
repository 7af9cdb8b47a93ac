/**
 * A table of numbers that grows at its end: one Float64Array a column, shared by all versions of the table. What a run measures goes here, whole.
 * Appending returns a new table and leaves the old one as it was, and yet costs only the new rows.
 * The rule to keep: no row is ever dropped or thinned out here; charts thin out what they draw.
 */

interface Buffers {
  columns: Float64Array[];
  /** Rows written; a version that ends earlier may not write into these columns. */
  used: number;
}

const smallestCapacity = 256;

export class Series<Name extends string> {
  readonly names: readonly Name[];
  readonly length: number;
  readonly #buffers: Buffers;
  readonly #views = new Map<Name, Float64Array>();

  private constructor(names: readonly Name[], length: number, buffers: Buffers) {
    this.names = names;
    this.length = length;
    this.#buffers = buffers;
  }

  static empty<Name extends string>(...names: Name[]): Series<Name> {
    return new Series(names, 0, { columns: names.map(() => new Float64Array(0)), used: 0 });
  }

  /** A column's values. A view: not to be written to. */
  column(name: Name): Float64Array {
    let view = this.#views.get(name);
    if (!view) {
      view = this.#buffers.columns[this.names.indexOf(name)].subarray(0, this.length);
      this.#views.set(name, view);
    }
    return view;
  }

  /** The value of a row; negative rows count from the end. Undefined outside the table. */
  at(name: Name, row: number): number | undefined {
    return this.column(name).at(row);
  }

  append(rows: readonly Record<Name, number>[]): Series<Name> {
    if (rows.length === 0) return this;
    const length = this.length + rows.length;
    const buffers = this.#room(length);
    for (const [index, name] of this.names.entries()) {
      const column = buffers.columns[index];
      for (let row = 0; row < rows.length; row++) column[this.length + row] = rows[row][name];
    }
    buffers.used = length;
    return new Series(this.names, length, buffers);
  }

  /** The rows that pass, told by their index. */
  filter(passes: (row: number) => boolean): Series<Name> {
    const kept: number[] = [];
    for (let row = 0; row < this.length; row++) if (passes(row)) kept.push(row);
    if (kept.length === this.length) return this;
    // Usually a beginning stays, which can be shared.
    if (kept.every((row, index) => row === index)) return new Series(this.names, kept.length, this.#buffers);
    return new Series(this.names, kept.length, {
      columns: this.#buffers.columns.map((column) => Float64Array.from(kept, (row) => column[row])),
      used: kept.length,
    });
  }

  /** Buffers with room for so many rows that this version may write behind its last row. */
  #room(length: number): Buffers {
    const { columns, used } = this.#buffers;
    if (used === this.length && columns[0].length >= length) return this.#buffers;
    const capacity = Math.max(smallestCapacity, length, 2 * this.length);
    return {
      columns: columns.map((column) => {
        const larger = new Float64Array(capacity);
        larger.set(column.subarray(0, this.length));
        return larger;
      }),
      used: this.length,
    };
  }
}
