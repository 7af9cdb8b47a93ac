/** The inspector's viewport: what is asked for covers what is seen, and a zoom keeps the value under the pointer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { covers, fitted, panned, type Viewport, windowOf, zoomed } from "../../webview/inspector/viewport.ts";

const [width, height] = [360, 360];
const block = fc.record({ rows: fc.integer({ min: 1, max: 512 }), columns: fc.integer({ min: 1, max: 512 }) });
const moves = fc.array(
  fc.oneof(
    fc.record({
      factor: fc.double({ min: 0.2, max: 5, noNaN: true }),
      x: fc.double({ min: 0, max: width, noNaN: true }),
      y: fc.double({ min: 0, max: height, noNaN: true }),
    }),
    fc.record({ rows: fc.double({ min: -600, max: 600, noNaN: true }), columns: fc.double({ min: -600, max: 600, noNaN: true }) }),
  ),
  { maxLength: 12 },
);

test("after any walk the window lies in the block and covers every pixel that shows a value", () => {
  fc.assert(
    fc.property(block, moves, (size, walk) => {
      let view: Viewport = fitted(size, width, height);
      for (const move of walk)
        view =
          "factor" in move
            ? zoomed(view, move.factor, move.x, move.y, size, width, height)
            : panned(view, move.rows, move.columns, size, width, height);
      const window = windowOf(view, size, width, height);
      assert.ok(window.row >= 0 && window.column >= 0 && window.rows >= 1 && window.columns >= 1);
      assert.ok(window.row + window.rows <= size.rows && window.column + window.columns <= size.columns);
      for (const [x, y] of [
        [0, 0],
        [width - 0.01, 0],
        [0, height - 0.01],
        [width - 0.01, height - 0.01],
      ]) {
        const at = { row: Math.floor(view.row + y / view.cell), column: Math.floor(view.column + x / view.cell), rows: 1, columns: 1 };
        if (at.row < size.rows && at.column < size.columns) assert.ok(covers(window, at), `${JSON.stringify(view)} leaves out ${JSON.stringify(at)}`);
      }
    }),
  );
});

test("the whole block is seen at first, or as much as there are pixels for", () => {
  fc.assert(
    fc.property(block, (size) => {
      const window = windowOf(fitted(size, width, height), size, width, height);
      assert.deepEqual(window, { row: 0, column: 0, rows: Math.min(size.rows, height), columns: Math.min(size.columns, width) });
    }),
  );
});

test("zooming in keeps the value under the pointer", () => {
  const size = { rows: 256, columns: 256 };
  const before = fitted(size, width, height);
  const [x, y] = [200, 120];
  const after = zoomed(before, 3, x, y, size, width, height);
  assert.ok(after.cell > before.cell);
  assert.equal((after.column + x / after.cell).toFixed(6), (before.column + x / before.cell).toFixed(6));
  assert.equal((after.row + y / after.cell).toFixed(6), (before.row + y / before.cell).toFixed(6));
});
