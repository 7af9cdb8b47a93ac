/** What the heatmap paints: every block in exactly one square, one chosen block among 400,000 visible at every zoom, colours that read back to the values. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HeatmapControl } from "../../webview/panel/heatmap/control.ts";
import { cellOf, type Grid, orderedGrids } from "../../webview/panel/heatmap/grids.ts";
import { applyFrame, emptyHeatmap, type HeatmapModel } from "../../webview/panel/heatmap/model.ts";
import { paintMatrix } from "../../webview/panel/heatmap/paint.ts";
import { flatColors, pixelOf, type Rgb } from "../../webview/panel/heatmap/ramp.ts";
import { firstBlock, type Squares, spokesman, squareOf, squaresOf } from "../../webview/panel/heatmap/squares.ts";
import { surfaceOf } from "../../webview/panel/heatmap/surface.ts";
import { type HeatmapMode, heatmapModes, valueAt } from "../../webview/panel/heatmap/values.ts";
import { largestZoom, zoomedAt } from "../../webview/panel/heatmap/view.ts";
import { llamaGrids, magnitudesFrame, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

const colorOf = (pixel: number): Rgb => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];

/** A control that shows a model in an area, as the panel does. */
function controlOf(model: HeatmapModel, mode: HeatmapMode, area = { width: 820, height: 600 }): HeatmapControl {
  const control = new HeatmapControl();
  control.setArea(area, 1);
  control.setModel(model);
  control.setMode(mode);
  return control;
}

/** The pixels of one matrix as the control would paint them. */
function pixelsOf(control: HeatmapControl, matrix: number): { pixels: Uint32Array; squares: Squares } {
  const squares = squaresOf(control.model.matrices[matrix], control.cellPixels);
  const pixels = new Uint32Array(squares.rows * squares.columns);
  paintMatrix(control.model, matrix, control.paint, squares, pixels);
  return { pixels, squares };
}

test("every block lies in exactly one square and every square holds a block", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 400 }), fc.double({ min: 0.001, max: 2.999, noNaN: true }), (blocks, cellPixels) => {
      const { rows: squares } = squaresOf({ rows: blocks, columns: 1 }, cellPixels);
      assert.ok(squares >= 1 && squares <= blocks);
      assert.deepEqual([firstBlock(0, squares, blocks), firstBlock(squares, squares, blocks)], [0, blocks]);
      for (let square = 0; square < squares; square++) {
        const [from, to] = [firstBlock(square, squares, blocks), firstBlock(square + 1, squares, blocks)];
        assert.ok(to > from);
        for (let block = from; block < to; block++) assert.equal(squareOf(block, squares, blocks), square);
      }
      if (squares > 1) assert.ok((blocks * cellPixels) / squares >= 3 - 1e-9, "a square is at least 3 px");
    }),
  );
});

test("from 3 px a block on, nothing is put together", () => {
  assert.deepEqual(squaresOf({ rows: 43, columns: 16 }, 3), { rows: 43, columns: 16 });
  assert.ok(squaresOf({ rows: 43, columns: 16 }, 2.99).rows < 43);
});

test("one chosen block among 400,000 is visible at every zoom, in every mode that knows it", () => {
  // LLaMA-7B cut into blocks of 128 × 128.
  const grids = llamaGrids(32, 32, 86);
  const cellCount = grids.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  assert.ok(cellCount > 390_000);
  const places = fc.integer({ min: 0, max: grids.length - 1 }).chain((matrix) =>
    fc.record({
      matrix: fc.constant(matrix),
      row: fc.integer({ min: 0, max: grids[matrix].rows - 1 }),
      column: fc.integer({ min: 0, max: grids[matrix].columns - 1 }),
    }),
  );
  const areas = fc.record({ width: fc.integer({ min: 260, max: 1600 }), height: fc.integer({ min: 200, max: 1000 }) });
  fc.assert(
    fc.property(places, areas, fc.double({ min: 0, max: 1, noNaN: true }), (place, area, depth) => {
      const model = [selectionFrame(grids, [{ ...place, rank: 0, score: 0.5 }]), magnitudesFrame([[0.25, 0.5, 0.75]])].reduce(
        applyFrame,
        emptyHeatmap,
      );
      for (const mode of heatmapModes) {
        const control = controlOf(model, mode, area);
        const matrix = model.matrices.findIndex(({ name }) => name === grids[place.matrix].name);
        const here = { matrix, row: place.row, column: place.column };
        const start = control.rectOf(here);
        assert.ok(start);
        const factor = largestZoom(control.layout, area) ** depth;
        control.setView(zoomedAt(control.view, factor, { x: start.x + start.width / 2, y: start.y + start.height / 2 }, control.layout, area));
        const { pixels, squares } = pixelsOf(control, matrix);
        const square =
          squareOf(place.row, squares.rows, grids[place.matrix].rows) * squares.columns +
          squareOf(place.column, squares.columns, grids[place.matrix].columns);
        const quiet = mode === "selected" ? pixelOf(flatColors.dark.notChosen) : 0;
        const different = [...pixels].flatMap((pixel, index) => (pixel === quiet ? [] : [index]));
        assert.deepEqual(different, [square], `${mode} at ${control.cellPixels} px`);
        const rect = control.rectOf(here);
        assert.ok(rect && rect.width >= 1 && rect.height >= 1, `${mode}: drawn ${rect?.width} × ${rect?.height} px large`);
        if (squares.columns > 1) assert.ok(rect.width >= 2.5, `${rect.width} px wide`);
        // And who points at it is told of it.
        const told = control.placeAt({ x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 });
        assert.deepEqual(told && { matrix: told.matrix, row: told.row, column: told.column }, here);
      }
    }),
    { numRuns: 25 },
  );
});

const smallGrids: Grid[] = [...llamaGrids(2, 9, 13), { name: "lm_head", rows: 21, columns: 9 }];
const smallCells = smallGrids.reduce((sum, { rows, columns }) => sum + rows * columns, 0);

test("a square of many blocks has the highest of their values, and any chosen one makes it chosen", () => {
  const bytes = fc.uint8Array({ minLength: smallCells, maxLength: smallCells });
  const picked = fc.uniqueArray(fc.integer({ min: 0, max: smallCells - 1 }), { maxLength: 30 });
  fc.assert(
    fc.property(bytes, picked, fc.double({ min: 0.05, max: 4, noNaN: true }), (values, cells, cellPixels) => {
      const grids = orderedGrids(smallGrids);
      const chosen = cells.map((cell, rank) => {
        const matrix = grids.findLastIndex(({ offset }) => offset <= cell);
        const inside = cell - grids[matrix].offset;
        return { matrix, row: Math.floor(inside / grids[matrix].columns), column: inside % grids[matrix].columns, rank, score: 1 };
      });
      const model = [scoresFrame(grids, values), selectionFrame(grids, chosen)].reduce(applyFrame, emptyHeatmap);
      const scored = controlOf(model, "score");
      const selected = controlOf(model, "selected");
      for (const [matrix, grid] of model.matrices.entries()) {
        const squares = squaresOf(grid, cellPixels);
        const [byScore, byChoice] = [scored, selected].map(({ paint }) => {
          const out = new Uint32Array(squares.rows * squares.columns);
          assert.equal(paintMatrix(model, matrix, paint, squares, out), false);
          return out;
        });
        const highest = new Map<number, number>();
        const marked = new Set<number>();
        for (let row = 0; row < grid.rows; row++)
          for (let column = 0; column < grid.columns; column++) {
            const square = squareOf(row, squares.rows, grid.rows) * squares.columns + squareOf(column, squares.columns, grid.columns);
            const cell = cellOf(model.matrices, { matrix, row, column });
            highest.set(square, Math.max(highest.get(square) ?? 0, valueAt(model, "score", matrix, cell)?.value ?? -1));
            if (model.chosen && model.chosen.ofCell[cell] >= 0) marked.add(square);
          }
        for (let square = 0; square < byScore.length; square++) {
          const range = surfaceOf(scored).valueOfColor(...colorOf(byScore[square]));
          const value = highest.get(square) as number;
          assert.ok(range && range.low <= value && value <= range.high, `${value} in ${range?.low} … ${range?.high}`);
          assert.deepEqual(
            surfaceOf(selected).valueOfColor(...colorOf(byChoice[square])),
            marked.has(square) ? { low: 1, high: 1 } : { low: 0, high: 0 },
          );
        }
      }
    }),
    { numRuns: 40 },
  );
});

test("a colour's range holds the exact score that was quantised", () => {
  const exact = fc.array(fc.float({ min: 0, max: 1e6, noNaN: true }), { minLength: smallCells, maxLength: smallCells });
  fc.assert(
    fc.property(exact, fc.constantFrom("linear" as const, "logarithmic" as const), (scores, kind) => {
      const grids = orderedGrids(smallGrids);
      const values = Float32Array.from(scores);
      const bytes = new Uint8Array(smallCells);
      // As the core does it.
      const ranges = grids.map(({ offset, rows, columns }) => {
        const own = values.subarray(offset, offset + rows * columns);
        const [low, high] = [Math.min(...own), Math.max(...own)];
        const perUnit = high > low ? 255 / (high - low) : 0;
        for (const [i, score] of own.entries()) bytes[offset + i] = Math.round((score - low) * perUnit);
        return { low, high };
      });
      const control = controlOf(applyFrame(emptyHeatmap, scoresFrame(grids, bytes, { range: (i) => ranges[i] })), "score");
      control.setScaleKind(kind);
      control.showMatrix(0);
      const surface = surfaceOf(control);
      for (const [matrix, { offset }] of grids.entries()) {
        const { pixels, squares } = pixelsOf(control, matrix);
        assert.equal(pixels.length, squares.rows * squares.columns);
        for (const [i, pixel] of pixels.entries()) {
          const range = surface.valueOfColor(...colorOf(pixel));
          assert.ok(
            range && range.low <= values[offset + i] && values[offset + i] <= range.high,
            `${values[offset + i]} in ${range?.low} … ${range?.high}`,
          );
        }
      }
    }),
    { numRuns: 30 },
  );
});

test("of chosen blocks in one square, the highest value is shown whatever their order", () => {
  const grids = [{ name: "model.layers.0.self_attn.q_proj", rows: 2, columns: 2 }];
  const chosen = [0, 1, 2, 3].map((cell) => ({ matrix: 0, row: cell >> 1, column: cell & 1, rank: cell, score: 1 }));
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constant(Number.NaN)), { minLength: 4, maxLength: 4 }), (values) => {
      const magnitudes = magnitudesFrame(values.map((value) => [value, 1, 1]));
      const control = controlOf([selectionFrame(grids, chosen), magnitudes].reduce(applyFrame, emptyHeatmap), "gradient");
      const out = new Uint32Array(1);
      paintMatrix(control.model, 0, control.paint, { rows: 1, columns: 1 }, out);
      const known = values.filter((value) => !Number.isNaN(value));
      const range = surfaceOf(control).valueOfColor(...colorOf(out[0]));
      if (known.length === 0) assert.equal(out[0], 0);
      else assert.ok(range && range.low <= Math.max(...known) && Math.max(...known) <= range.high);
    }),
  );
});

test("what is unknown or was not kept stays transparent and has no value", () => {
  const grids = llamaGrids(1, 2, 3);
  const chosen = [
    { matrix: 0, row: 0, column: 1, rank: 0, score: 1 },
    { matrix: 0, row: 1, column: 1, rank: 1, score: 1 },
  ];
  const model = [
    selectionFrame(grids, chosen),
    magnitudesFrame([
      [1, 1, 1],
      [Number.NaN, 2, 0],
    ]),
  ].reduce(applyFrame, emptyHeatmap);
  const pixels = (mode: HeatmapMode) => [...pixelsOf(controlOf(model, mode), 0).pixels].map((pixel) => pixel !== 0);
  assert.deepEqual(pixels("gradient"), [false, true, false, false], "NaN is not kept");
  assert.deepEqual(pixels("delta"), [false, true, false, true]);
  assert.deepEqual(pixels("secondMoment"), [false, true, false, true], "a kept zero is a value");
  assert.deepEqual(pixels("selected"), [true, true, true, true]);
  const scored = applyFrame(emptyHeatmap, scoresFrame(grids, new Uint8Array(34)));
  for (const mode of heatmapModes)
    assert.deepEqual(new Set([...pixelsOf(controlOf(scored, mode), 0).pixels].map((pixel) => pixel !== 0)), new Set([mode === "score"]), mode);
  assert.equal(surfaceOf(controlOf(model, "gradient")).valueOfColor(...flatColors.dark.ground), null);
});

test("of a square, the best ranked of the chosen blocks speaks, or the one with the highest value", () => {
  const grids = [{ name: "model.layers.0.self_attn.q_proj", rows: 4, columns: 4 }];
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => (i === 6 ? 200 : i));
  const chosen = [
    { matrix: 0, row: 3, column: 3, rank: 1, score: 1 },
    { matrix: 0, row: 2, column: 1, rank: 0, score: 1 },
  ];
  const model = [scoresFrame(grids, bytes), selectionFrame(grids, chosen)].reduce(applyFrame, emptyHeatmap);
  const whole = { rows: 1, columns: 1 };
  assert.deepEqual(spokesman(model, "score", 0, whole, 0, 0), { matrix: 0, row: 1, column: 2 });
  assert.deepEqual(spokesman(model, "selected", 0, whole, 0, 0), { matrix: 0, row: 2, column: 1 });
  assert.deepEqual(spokesman(model, "gradient", 0, { rows: 2, columns: 2 }, 1, 1), { matrix: 0, row: 2, column: 2 }, "nothing known: the first");
});
