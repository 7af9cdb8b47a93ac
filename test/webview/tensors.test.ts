/** The viewer of tensor files without its drawing: the list, the scroll arithmetic, the windows asked for, and values as text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { maxWindowValues } from "../../src/protocol/coreProtocol.ts";
import { Axis, moved } from "../../webview/tensors/axis.ts";
import { arranged, bytesText, nextOrder, shapeText, type TensorEntry } from "../../webview/tensors/tensorTable.ts";
import { exactValue, parsePlace, shortValue, TensorView } from "../../webview/tensors/tensorView.ts";

const entry = (name: string, dtype: string, shape: number[], bytes: number): TensorEntry => ({ name, dtype, shape, bytes });
const tensors = [
  entry("model.layers.10.q_proj.weight", "BF16", [64, 64], 8192),
  entry("model.layers.9.q_proj.weight", "BF16", [64, 64], 8192),
  entry("model.norm.weight", "F32", [64], 256),
  entry("<script>alert(1)</script>", "I64", [], 8),
];
const names = (found: TensorEntry[]) => found.map(({ name }) => name.replace(/^model\.(layers\.)?/, ""));

test("tensors are found by words and dtype, and sorted with numbers as numbers", () => {
  assert.deepEqual(names(arranged(tensors, "", { key: null, descending: false })), names(tensors));
  assert.deepEqual(names(arranged(tensors, "Q_PROJ layers", { key: "name", descending: false })), ["9.q_proj.weight", "10.q_proj.weight"]);
  assert.deepEqual(names(arranged(tensors, "f32", { key: null, descending: false })), ["norm.weight"]);
  assert.deepEqual(names(arranged(tensors, "", { key: "bytes", descending: true })).slice(0, 3), [
    "10.q_proj.weight",
    "9.q_proj.weight",
    "norm.weight",
  ]);
  assert.deepEqual(names(arranged(tensors, "nothing", { key: "shape", descending: false })), []);
  const orders = [nextOrder({ key: null, descending: false }, "name")];
  while (orders.length < 3) orders.push(nextOrder(orders.at(-1)!, "name"));
  assert.deepEqual(orders, [
    { key: "name", descending: false },
    { key: "name", descending: true },
    { key: null, descending: false },
  ]);
});

test("sizes and shapes as text", () => {
  assert.deepEqual([0, 8, 1023, 1024, 1536, 10_240, 5_000_000, 3 * 2 ** 30, 2 ** 50].map(bytesText), [
    "0 B",
    "8 B",
    "1023 B",
    "1.00 KiB",
    "1.50 KiB",
    "10.0 KiB",
    "4.77 MiB",
    "3.00 GiB",
    "1024 TiB",
  ]);
  assert.deepEqual([[], [3], [2, 3]].map(shapeText), ["[]", "3", "2 × 3"]);
});

test("every item of a list can be scrolled to, and what a key reveals is in view", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 40 }),
      fc.integer({ min: 30, max: 2000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (count, view, part) => {
        const axis = new Axis(count, 22);
        const range = Math.max(0, axis.pixels(view) - view);
        assert.equal(axis.firstAt(0, view), 0);
        const last = axis.firstAt(range, view);
        assert.ok(last + Math.floor(view / 22) >= count, "the last item is seen whole at the end");
        const first = axis.firstAt(part * range, view);
        assert.ok(first >= 0 && first <= last);
        const item = Math.floor(part * (count - 1));
        const revealed = axis.revealing(item, first, view);
        assert.ok(item >= revealed && item < revealed + Math.max(1, Math.floor(view / 22)));
        if (!axis.scaled) assert.equal(axis.firstAt(axis.scrollOf(revealed, view), view), revealed);
        assert.ok(axis.scrollOf(revealed, view) >= 0 && axis.scrollOf(revealed, view) <= range);
      },
    ),
    { numRuns: 2000, examples: [[28, 615, 0]] },
  );
});

test("keys stay inside the grid", () => {
  const size = { rows: 10, columns: 3, page: 4 };
  const from = { row: 5, column: 1 };
  assert.deepEqual(moved(from, "PageDown", false, size), { row: 9, column: 1 });
  assert.deepEqual(moved(from, "Home", false, size), { row: 5, column: 0 });
  assert.deepEqual(moved(from, "End", true, size), { row: 9, column: 2 });
  assert.deepEqual(moved({ row: 0, column: 0 }, "ArrowUp", false, size), { row: 0, column: 0 });
  assert.equal(moved(from, "a", false, size), null);
});

/** A tensor whose entry i has the value i (below 2^24, where f32 counts exactly), read as the service does: all but the last dimension are rows. */
function readFrom(shape: number[], { row, column, rows, columns }: { row: number; column: number; rows: number; columns: number }): Float32Array {
  const width = shape.at(-1) ?? 1;
  const values = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) values[r * columns + c] = (row + r) * width + column + c;
  return values;
}

test("what was asked for shows every value that is seen at its place, within the tensor and the bound", () => {
  const shape = fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 3 });
  fc.assert(
    fc.property(shape, fc.nat(), fc.nat(), (dimensions, a, b) => {
      const view = new TensorView("w", dimensions);
      const row = a % view.rows;
      const column = b % view.columns;
      const seen = { row, column, rows: Math.min(40, view.rows - row), columns: Math.min(12, view.columns - column) };
      assert.equal(view.value(row, column), undefined, "unknown before it is loaded");
      const window = view.missing(seen);
      assert.ok(window);
      const width = dimensions.at(-1) ?? 1;
      const height = dimensions.reduce((x, y) => x * y, 1) / width;
      assert.ok(window.row + window.rows <= height && window.column + window.columns <= width && window.rows * window.columns <= maxWindowValues);
      view.load(window, window.rows, window.columns, readFrom(dimensions, window));
      assert.equal(view.missing(seen), null);
      for (let r = row; r < row + seen.rows; r++) {
        for (let c = column; c < column + seen.columns; c++)
          assert.equal(view.value(r, c), view.has(r, c) ? view.rowName(r) * (view.wrapped ? 1 : width) + c : undefined);
      }
    }),
    { numRuns: 200 },
  );
});

test("one row is wrapped, nothing is empty, a scalar is one value", () => {
  const bias = new TensorView("bias", [20]);
  assert.deepEqual([bias.rows, bias.columns, bias.wrapped, bias.has(2, 3), bias.has(2, 4), bias.rowName(2)], [3, 8, true, true, false, 16]);
  assert.deepEqual([new TensorView("s", []).rows, new TensorView("s", []).columns], [1, 1]);
  for (const shape of [[0], [3, 0], [0, 3]]) assert.ok(new TensorView("e", shape).empty);
  assert.deepEqual([parsePlace("19", bias), parsePlace("20", bias), parsePlace("x", bias)], [{ row: 2, column: 3 }, null, null]);
  const matrix = new TensorView("m", [5, 6]);
  assert.deepEqual(
    [parsePlace("4, 5", matrix), parsePlace(" 4 ", matrix), parsePlace("4,6", matrix)],
    [{ row: 4, column: 5 }, { row: 4, column: 0 }, null],
  );
});

test("values are short in a cell and exact beside it", () => {
  assert.deepEqual(
    [0, -0, 1, 0.1, 1e-9, 123456.789, 1e30, Number.NaN, Infinity, -Infinity].map((value) => shortValue(Math.fround(value))),
    ["0", "-0", "1", "0.1", "1.0000e-9", "123457", "1.0000e+30", "NaN", "∞", "−∞"],
  );
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      const text = exactValue(value);
      assert.ok(Object.is(Math.fround(Number(text)), value), text);
      assert.ok(text.length <= 24);
    }),
  );
  assert.equal(exactValue(Math.fround(0.1)), "0.1");
});
