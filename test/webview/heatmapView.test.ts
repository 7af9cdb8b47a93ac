/** Where the heatmap's blocks stand: layout, zoom, pan, looking up by point and by name, walking by keys, ordering for the table. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeatmapControl } from "../../webview/panel/heatmap/control.ts";
import { cellOf, type Grid, orderedGrids } from "../../webview/panel/heatmap/grids.ts";
import { layoutModel, type Rect } from "../../webview/panel/heatmap/layout.ts";
import { applyFrame, emptyHeatmap } from "../../webview/panel/heatmap/model.ts";
import { orderedCells } from "../../webview/panel/heatmap/ranking.ts";
import { surfaceOf } from "../../webview/panel/heatmap/surface.ts";
import { largestZoom, panned, viewOf, wholeModel, zoomedAt } from "../../webview/panel/heatmap/view.ts";
import { type WalkKey, walked } from "../../webview/panel/heatmap/walk.ts";
import { llamaGrids, magnitudesFrame, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

const area = { width: 820, height: 600 };
const inside = (rect: Rect, outer: Rect | { width: number; height: number }) =>
  rect.x >= -1e-6 && rect.y >= -1e-6 && rect.x + rect.width <= outer.width + 1e-6 && rect.y + rect.height <= outer.height + 1e-6;
const apart = (a: Rect, b: Rect) => a.x >= b.x + b.width || b.x >= a.x + a.width || a.y >= b.y + b.height || b.y >= a.y + a.height;

function controlOf(grids: readonly Grid[]): HeatmapControl {
  const control = new HeatmapControl();
  control.setArea(area, 1);
  control.setModel(applyFrame(emptyHeatmap, scoresFrame(grids, new Uint8Array(grids.reduce((sum, { rows, columns }) => sum + rows * columns, 0)))));
  return control;
}

test("the whole model fits into the area, no two matrices touch, and blocks of all have one size", () => {
  const models = fc.record({
    layers: fc.integer({ min: 1, max: 80 }),
    hidden: fc.integer({ min: 1, max: 40 }),
    mlp: fc.integer({ min: 1, max: 110 }),
    head: fc.boolean(),
    width: fc.integer({ min: 300, max: 2000 }),
    height: fc.integer({ min: 280, max: 1200 }),
  });
  fc.assert(
    fc.property(models, ({ layers, hidden, mlp, head, width, height }) => {
      const grids = orderedGrids([...llamaGrids(layers, hidden, mlp), ...(head ? [{ name: "lm_head", rows: 125, columns: hidden }] : [])]);
      const layout = layoutModel(grids, { width, height });
      assert.equal(layout.matrices.length, grids.length);
      for (const [index, rect] of layout.matrices.entries()) {
        const { rows, columns } = grids[index];
        assert.ok(
          Math.abs(rect.width - Math.max(1, columns * layout.cellPixels)) < 1e-6 &&
            Math.abs(rect.height - Math.max(1, rows * layout.cellPixels)) < 1e-6,
        );
        // A matrix is drawn at least one pixel large, also where there is no room for that.
        if (layout.cellPixels >= 1)
          assert.ok(inside(rect, { width, height }), `${JSON.stringify(rect)} in ${width} × ${height} at ${layout.cellPixels}`);
        for (const other of layout.matrices.slice(0, index)) assert.ok(apart(rect, other));
      }
    }),
    { numRuns: 60 },
  );
});

test("a layer's matrices stand in one row in the order of computation, and what is outside the layers in a row of its own", () => {
  const grids = orderedGrids([...llamaGrids(3, 4, 6), { name: "lm_head", rows: 30, columns: 4 }]);
  const { matrices, rows, heads } = layoutModel(grids, area);
  for (let layer = 0; layer < 3; layer++) {
    const own = matrices.slice(7 * layer, 7 * layer + 7);
    assert.equal(new Set(own.map(({ y }) => y)).size, 1);
    for (let i = 1; i < 7; i++) assert.ok(own[i].x > own[i - 1].x);
  }
  assert.deepEqual(
    rows.map(({ layer }) => layer),
    [0, 1, 2, -1],
  );
  assert.ok(heads.length >= 7 && heads[0].kind === "q" && heads[6].kind === "down");
  const last = rows[3];
  assert.ok(rows.slice(0, 3).every((row) => apart(row, last)));
});

test("a tall model flows into columns of layers: blocks of LLaMA-7B are wider than a pixel in a usual panel", () => {
  const { cellPixels } = layoutModel(orderedGrids(llamaGrids(32, 16, 43)), area);
  assert.ok(cellPixels > 1, `${cellPixels} px`);
});

test("what is under the pointer stays there while zooming, and zooming out ends at the whole model", () => {
  const layout = layoutModel(orderedGrids(llamaGrids(32, 16, 43)), area);
  const points = fc.record({ x: fc.integer({ min: 300, max: 500 }), y: fc.integer({ min: 200, max: 400 }) });
  fc.assert(
    fc.property(points, fc.double({ min: 1.01, max: 30, noNaN: true }), (point, factor) => {
      const view = zoomedAt(wholeModel, factor, point, layout, area);
      assert.ok(view.zoom <= largestZoom(layout, area));
      assert.ok(Math.abs((point.x - view.x) / view.zoom - point.x) < 1e-6 && Math.abs((point.y - view.y) / view.zoom - point.y) < 1e-6);
      assert.deepEqual(zoomedAt(view, 1e-9, point, layout, area), wholeModel);
    }),
  );
});

test("the model cannot be pushed off the screen", () => {
  const layout = layoutModel(orderedGrids(llamaGrids(4, 8, 20)), area);
  const view = zoomedAt(wholeModel, 3, { x: 400, y: 300 }, layout, area);
  for (const [dx, dy] of [
    [1e6, 1e6],
    [-1e6, -1e6],
    [1e6, -1e6],
  ]) {
    const { x, y, zoom } = panned(view, dx, dy, layout, area);
    assert.ok(
      x <= area.width / 2 && x + layout.width * zoom >= area.width / 2 && y <= area.height / 2 && y + layout.height * zoom >= area.height / 2,
    );
  }
});

test("a matrix that is zoomed to is inside the view and named as what is looked at; the way back leads over its layer to the model", () => {
  const control = controlOf(llamaGrids(32, 16, 43));
  assert.deepEqual(control.focus, { row: null, matrix: null });
  for (const matrix of [0, 6, 100, 223]) {
    control.showMatrix(matrix);
    assert.ok(inside(control.matrixRect(matrix), area), `matrix ${matrix}`);
    assert.equal(control.focus.matrix, matrix);
    assert.equal(control.layout.rows[Number(control.focus.row)].layer, control.model.matrices[matrix].layer);
  }
  control.showRow(5);
  assert.equal(control.focus.row, 5);
  control.showWhole();
  assert.deepEqual(control.focus, { row: null, matrix: null });
  const layout = layoutModel(orderedGrids([{ name: "lm_head", rows: 2, columns: 2 }]), area);
  assert.ok(viewOf(layout.matrices[0], layout, area).zoom >= 1, "a small model is not shrunk");
});

test("another size of the area keeps the matrix that is looked at", () => {
  const control = controlOf(llamaGrids(32, 16, 43));
  control.showMatrix(100);
  control.setArea({ width: 500, height: 400 }, 2);
  assert.equal(control.focus.matrix, 100);
});

test("a block is found where it is drawn, at any zoom and pixel ratio", () => {
  const grids = llamaGrids(4, 7, 19);
  const control = controlOf(grids);
  const cases = fc.record({
    matrix: fc.integer({ min: 0, max: 27 }),
    across: fc.double({ min: 0, max: 0.999, noNaN: true }),
    down: fc.double({ min: 0, max: 0.999, noNaN: true }),
    pixelRatio: fc.constantFrom(1, 1.25, 1.5, 2),
    zoomed: fc.boolean(),
  });
  fc.assert(
    fc.property(cases, ({ matrix, across, down, pixelRatio, zoomed }) => {
      control.setArea(area, pixelRatio);
      control.showWhole();
      if (zoomed) control.showMatrix(matrix);
      const { name, rows, columns } = control.model.matrices[matrix];
      const [row, column] = [Math.floor(down * rows), Math.floor(across * columns)];
      const rect = surfaceOf(control).cellRect(name, row, column);
      assert.ok(rect);
      const edges = Object.values(control.matrixRect(matrix)).map((value) => value * pixelRatio);
      for (const edge of edges) assert.ok(Math.abs(edge - Math.round(edge)) < 1e-6, "edges fall on whole device pixels");
      assert.equal(control.aggregated, false);
      const found = control.placeAt({ x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 });
      assert.deepEqual([found?.matrix, found?.row, found?.column], [matrix, row, column]);
    }),
  );
});

test("the surface knows no block that is not there or out of view", () => {
  const control = controlOf(llamaGrids(32, 16, 43));
  const surface = surfaceOf(control);
  const name = "model.layers.0.self_attn.q_proj";
  assert.ok(surface.cellRect(name, 0, 0));
  assert.equal(surface.cellRect(name, 16, 0), null);
  assert.equal(surface.cellRect(name, 0, -1), null);
  assert.equal(surface.cellRect("lm_head", 0, 0), null);
  surface.show("model.layers.31.mlp.down_proj");
  assert.equal(surface.cellRect(name, 0, 0), null);
  surface.show(null);
  assert.ok(surface.cellRect(name, 0, 0));
  assert.equal(surface.cells().length, 224);
});

test("keys walk over blocks, matrices and layers, and never out of the model", () => {
  const matrices = orderedGrids([...llamaGrids(2, 2, 3), { name: "lm_head", rows: 5, columns: 2 }]);
  const walk = (matrix: number, row: number, column: number, key: WalkKey, far = false) => {
    const to = walked(matrices, { matrix, row, column }, key, far);
    return [to.matrix, to.row, to.column];
  };
  assert.deepEqual(walk(0, 0, 0, "ArrowRight"), [0, 0, 1]);
  assert.deepEqual(walk(0, 1, 1, "ArrowRight"), [1, 1, 0], "into the next matrix");
  assert.deepEqual(walk(4, 2, 0, "ArrowLeft"), [3, 1, 1], "at about the same height");
  assert.deepEqual(walk(0, 1, 1, "ArrowDown"), [7, 0, 1], "to the same matrix of the next layer");
  assert.deepEqual(walk(7, 0, 1, "ArrowUp"), [0, 1, 1]);
  assert.deepEqual(walk(11, 2, 1, "ArrowDown"), [14, 0, 1], "below the layers stands the head");
  assert.deepEqual(walk(14, 0, 1, "ArrowUp"), [13, 1, 1]);
  assert.deepEqual(walk(6, 0, 2, "PageDown"), [13, 0, 2]);
  assert.deepEqual(walk(4, 1, 1, "Home"), [4, 1, 0]);
  assert.deepEqual(walk(6, 1, 0, "End"), [6, 1, 2]);
  assert.deepEqual(walk(6, 1, 0, "End", true), [14, 4, 1]);
  assert.deepEqual(walk(6, 1, 0, "Home", true), [0, 0, 0]);
  for (const [key, matrix, row, column] of [
    ["ArrowLeft", 0, 0, 0],
    ["ArrowUp", 0, 0, 0],
    ["ArrowRight", 14, 4, 1],
    ["ArrowDown", 14, 4, 1],
    ["PageUp", 0, 0, 0],
  ] as const)
    assert.deepEqual(walk(matrix, row, column, key), [matrix, row, column], key);
});

test("right arrows visit every column of a row of matrices once, and down arrows every row of a column of them", () => {
  const matrices = orderedGrids(llamaGrids(5, 3, 4));
  const visit = (key: WalkKey) => {
    const seen: string[] = [];
    let place = { matrix: 0, row: 0, column: 0 };
    for (;;) {
      seen.push(`${place.matrix} ${place.row} ${place.column}`);
      const next = walked(matrices, place, key, false);
      if (next.matrix === place.matrix && next.row === place.row && next.column === place.column) return seen;
      place = next;
    }
  };
  assert.equal(visit("ArrowDown").length, 5 * 3);
  assert.equal(visit("ArrowRight").length, 5 * (6 * 3 + 4));
});

test("the keyboard begins at the best chosen block, of the matrix that is looked at", () => {
  const grids = llamaGrids(2, 4, 5);
  const control = controlOf(grids);
  assert.deepEqual(control.firstPlace, { matrix: 0, row: 0, column: 0 });
  const chosen = [
    { matrix: 9, row: 2, column: 3, rank: 0, score: 1 },
    { matrix: 1, row: 1, column: 1, rank: 2, score: 0.5 },
    { matrix: 1, row: 3, column: 0, rank: 1, score: 0.7 },
  ];
  control.setModel(applyFrame(control.model, selectionFrame(grids, chosen)));
  assert.deepEqual(control.firstPlace, { matrix: 9, row: 2, column: 3 });
  control.showMatrix(1);
  assert.deepEqual(control.firstPlace, { matrix: 1, row: 3, column: 0 });
  control.showMatrix(4);
  assert.deepEqual(control.firstPlace, { matrix: 4, row: 0, column: 0 });
});

test("walking to a block out of view brings it into view", () => {
  const control = controlOf(llamaGrids(32, 16, 43));
  control.showMatrix(0);
  control.setActive({ matrix: 223, row: 15, column: 42 });
  const rect = control.rectOf({ matrix: 223, row: 15, column: 42 });
  assert.ok(rect && inside(rect, area), JSON.stringify(rect));
});

test("blocks are ordered by any column, stably, and those without a value come last", () => {
  const grids = llamaGrids(2, 3, 4);
  const cells = 2 * (4 * 9 + 3 * 12);
  const picked = fc.uniqueArray(fc.integer({ min: 0, max: cells - 1 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: cells, maxLength: cells, max: 20 }), picked, (bytes, list) => {
      const ordered = orderedGrids(grids);
      const chosen = list.map((cell, rank) => {
        const matrix = ordered.findLastIndex(({ offset }) => offset <= cell);
        const within = cell - ordered[matrix].offset;
        return { matrix, row: Math.floor(within / ordered[matrix].columns), column: within % ordered[matrix].columns, rank, score: 1 };
      });
      const range = (index: number) => ({ low: index % 3 === 0 ? -2 : 0, high: 1 });
      const model = [
        scoresFrame(ordered, bytes, { range }),
        selectionFrame(ordered, chosen),
        magnitudesFrame(chosen.map((_, i) => [i % 5 === 4 ? Number.NaN : ((i * 7) % 11) - 5, 1, 1])),
      ].reduce(applyFrame, emptyHeatmap);
      const numbers = (order: Uint32Array) => [...order];
      const all = numbers(orderedCells(model, "place", false));
      assert.deepEqual(
        all,
        Array.from({ length: cells }, (_, i) => i),
      );
      assert.deepEqual(numbers(orderedCells(model, "place", true)), [...all].reverse());

      const score = (cell: number) => {
        const matrix = ordered.findLastIndex(({ offset }) => offset <= cell);
        const { low, high } = range(matrix);
        return Math.fround(low + (bytes[cell] * (high - low)) / 255);
      };
      const close = (order: Uint32Array, expected: number[]) =>
        assert.deepEqual(
          numbers(order).map((cell) => score(cell).toFixed(5)),
          expected.map((cell) => score(cell).toFixed(5)),
        );
      close(
        orderedCells(model, "score", true),
        [...all].sort((a, b) => score(b) - score(a)),
      );
      close(
        orderedCells(model, "score", false),
        [...all].sort((a, b) => score(a) - score(b)),
      );

      const ranked = numbers(orderedCells(model, "rank", false));
      assert.deepEqual(
        ranked.slice(0, list.length),
        chosen.map((place) => cellOf(ordered, place)),
      );
      assert.deepEqual(
        [...ranked].sort((a, b) => a - b),
        all,
      );

      const gradients = new Map([...(model.chosen?.cells ?? [])].map((cell, block) => [cell, model.magnitudes?.gradient[block] ?? Number.NaN]));
      const known = [...gradients].filter(([, value]) => !Number.isNaN(value));
      for (const descending of [true, false]) {
        const order = numbers(orderedCells(model, "gradient", descending));
        const expected = known.sort(([a, x], [b, y]) => (descending ? y - x : x - y) || a - b).map(([cell]) => cell);
        assert.deepEqual(order.slice(0, expected.length), expected);
        const rest = order.slice(expected.length);
        assert.deepEqual(
          rest,
          [...rest].sort((a, b) => a - b),
        );
      }
    }),
    { numRuns: 40 },
  );
});
