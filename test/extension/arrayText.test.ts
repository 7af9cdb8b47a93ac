/** Values that leave the inspector: CSV and .npy bring the same f32 back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { csvOf, npyOf } from "../../src/extension/inspector/arrayText.ts";

const matrix = fc
  .record({ rows: fc.integer({ min: 1, max: 9 }), columns: fc.integer({ min: 1, max: 9 }) })
  .chain(({ rows, columns }) =>
    fc.float32Array({ minLength: rows * columns, maxLength: rows * columns, noNaN: true }).map((values) => ({ rows, columns, values })),
  );

test("CSV has every value, and each reads back as the same f32", () => {
  fc.assert(
    fc.property(matrix, ({ rows, columns, values }) => {
      const lines = csvOf(values, rows, columns).trimEnd().split("\n");
      assert.equal(lines.length, rows);
      const read = lines.flatMap((line) => line.split(",").map((text) => Math.fround(Number(text))));
      // Told apart here: 0 and -0.
      assert.deepEqual(read, [...values]);
    }),
  );
});

test("a .npy file has NumPy's header, aligned to 64 bytes, and the values in order", () => {
  fc.assert(
    fc.property(matrix, ({ rows, columns, values }) => {
      const file = npyOf(values, rows, columns);
      assert.deepEqual([...file.subarray(0, 8)], [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]);
      const headerBytes = 10 + file[8] + 256 * file[9];
      assert.equal(headerBytes % 64, 0);
      const header = Buffer.from(file.subarray(10, headerBytes)).toString("latin1");
      assert.match(header, /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(\d+, \d+\), \} *\n$/);
      assert.ok(header.includes(`(${rows}, ${columns})`));
      assert.deepEqual(new Float32Array(file.slice(headerBytes).buffer), values);
    }),
  );
});

test("a block that is part of a larger array is written alone", () => {
  const all = Float32Array.from({ length: 20 }, (_, i) => i);
  assert.equal(csvOf(all.subarray(4, 8), 2, 2), "4,5\n6,7\n");
});
