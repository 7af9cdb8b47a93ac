/** Frames become the heatmap's model: decoded at their offset, put into drawing order, kept or dropped together with what they belong to. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { cellOf, orderedGrids, placeOfCell } from "../../webview/panel/heatmap/grids.ts";
import { applyFrame, emptyHeatmap, type HeatmapModel, withoutFramesAfter } from "../../webview/panel/heatmap/model.ts";
import { chosenAt, rangeOf, valueAt } from "../../webview/panel/heatmap/values.ts";
import { llamaGrids, magnitudesFrame, scoresFrame, selectionFrame } from "./heatmapFrames.ts";

const grids = llamaGrids(2, 3, 5);
const cells = grids.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
const bytes = Uint8Array.from({ length: cells }, (_, i) => (i * 37) % 256);
const chosen = [
  { matrix: 2, row: 1, column: 2, rank: 1, score: 0.75 },
  { matrix: 2, row: 0, column: 0, rank: 3, score: 0.25 },
  { matrix: 6, row: 2, column: 4, rank: 0, score: 1 },
  { matrix: 11, row: 4, column: 0, rank: 2, score: 0.5 },
];
const indexOf = (model: HeatmapModel, name: string) => model.matrices.findIndex((grid) => grid.name === name);
const cellAt = (model: HeatmapModel, name: string, row: number, column: number) =>
  cellOf(model.matrices, { matrix: indexOf(model, name), row, column });

test("matrices are ordered by layer and kind, those outside the layers last, whatever the order they come in", () => {
  const names = [
    "lm_head",
    "model.layers.10.mlp.down_proj",
    "model.layers.2.mlp.up_proj",
    "model.layers.2.self_attn.q_proj",
    "model.layers.2.extra.thing",
    "model.layers.10.self_attn.v_proj",
  ];
  const ordered = orderedGrids(names.map((name) => ({ name, rows: 2, columns: 3 })));
  assert.deepEqual(
    ordered.map(({ name, layer, kind, offset }) => [name, layer, kind, offset]),
    [
      ["model.layers.2.self_attn.q_proj", 2, "q", 0],
      ["model.layers.2.mlp.up_proj", 2, "up", 6],
      ["model.layers.2.extra.thing", 2, "thing", 12],
      ["model.layers.10.self_attn.v_proj", 10, "v", 18],
      ["model.layers.10.mlp.down_proj", 10, "down", 24],
      ["lm_head", -1, "lm_head", 30],
    ],
  );
});

test("matrices that would stand in one place, as those of experts, are told apart", () => {
  const ordered = orderedGrids([0, 1].map((expert) => ({ name: `model.layers.0.mlp.experts.${expert}.up_proj`, rows: 1, columns: 1 })));
  assert.deepEqual(
    ordered.map(({ kind }) => kind),
    ["mlp.experts.0.up_proj", "mlp.experts.1.up_proj"],
  );
});

test("scores are read at the payload's offset, with each matrix's own scale", () => {
  const range = (index: number) => ({ low: index, high: index + 2 });
  const model = applyFrame(emptyHeatmap, scoresFrame(grids, bytes, { range }));
  let at = 0;
  for (const [index, { name, rows, columns }] of grids.entries())
    for (let cell = 0; cell < rows * columns; cell++, at++) {
      const matrix = indexOf(model, name);
      const shown = valueAt(model, "score", matrix, model.matrices[matrix].offset + cell);
      assert.ok(shown && Math.abs(shown.value - (index + (bytes[at] * 2) / 255)) < 1e-12, `${name} cell ${cell}`);
      assert.equal(shown?.error, 2 / 255 / 2);
    }
});

test("a frame in another order of matrices shows the same", () => {
  const reversed = [...grids].reverse();
  const places = new Map<string, number>();
  let at = 0;
  for (const { name, rows, columns } of grids) {
    places.set(name, at);
    at += rows * columns;
  }
  const shuffled = Uint8Array.from(
    reversed.flatMap(({ name, rows, columns }) => [...bytes.subarray(places.get(name), (places.get(name) ?? 0) + rows * columns)]),
  );
  const [a, b] = [applyFrame(emptyHeatmap, scoresFrame(grids, bytes)), applyFrame(emptyHeatmap, scoresFrame(reversed, shuffled))];
  assert.deepEqual(a.matrices, b.matrices);
  for (let cell = 0; cell < cells; cell++) {
    const { matrix } = placeOfCell(a.matrices, cell);
    assert.deepEqual(valueAt(a, "score", matrix, cell), valueAt(b, "score", matrix, cell));
  }
});

test("a later frame of the same matrices replaces the values and keeps the grid", () => {
  const first = applyFrame(emptyHeatmap, scoresFrame(grids, bytes));
  const second = applyFrame(
    first,
    scoresFrame(
      grids,
      bytes.map((byte) => 255 - byte),
      { step: 2, final: true },
    ),
  );
  assert.equal(second.matrices, first.matrices);
  assert.equal(second.scores?.step, 2);
  assert.equal(second.scores?.final, true);
  const byteOf = (model: HeatmapModel) => Math.round(255 * (valueAt(model, "score", 0, 1)?.value ?? -1));
  assert.equal(byteOf(first), bytes[1], "the model before is unchanged");
  assert.equal(byteOf(second), 255 - bytes[1]);
});

test("the selection says which blocks are chosen, with rank and score; before it, nothing is known", () => {
  const before = applyFrame(emptyHeatmap, scoresFrame(grids, bytes));
  assert.equal(chosenAt(before, 0), null);
  const model = applyFrame(before, selectionFrame(grids, chosen));
  const expected = new Set(chosen.map(({ matrix, row, column }) => cellAt(model, grids[matrix].name, row, column)));
  for (let cell = 0; cell < cells; cell++) assert.equal(chosenAt(model, cell), expected.has(cell), `cell ${cell}`);
  for (const { matrix, row, column, rank, score } of chosen) {
    const block = model.chosen?.ofCell[cellAt(model, grids[matrix].name, row, column)] as number;
    assert.equal(model.chosen?.ranks[block], rank);
    assert.equal(model.chosen?.scores[block], score);
  }
});

test("without scores of all blocks the chosen ones' are shown, the others unknown and not zero", () => {
  const model = applyFrame(emptyHeatmap, selectionFrame(grids, chosen));
  const known = cellAt(model, grids[6].name, 2, 4);
  assert.deepEqual(valueAt(model, "score", indexOf(model, grids[6].name), known), { value: 1, error: 0 });
  assert.equal(valueAt(model, "score", indexOf(model, grids[6].name), known - 1), null);
  assert.equal(rangeOf(model, "score")?.low, 0.25);
});

test("magnitudes belong to the chosen blocks in the frame's order; NaN is not kept", () => {
  const selected = applyFrame(emptyHeatmap, selectionFrame(grids, chosen));
  const model = applyFrame(
    selected,
    magnitudesFrame(
      [
        [1, 10, 100],
        [2, Number.NaN, 200],
        [3, 30, 300],
        [4, 40, 400],
      ],
      7,
    ),
  );
  // Frame order: matrix by matrix, in rank order.
  const order = [chosen[0], chosen[1], chosen[2], chosen[3]];
  for (const [block, { matrix, row, column }] of order.entries()) {
    const [index, cell] = [indexOf(model, grids[matrix].name), cellAt(model, grids[matrix].name, row, column)];
    assert.equal(valueAt(model, "gradient", index, cell)?.value, block + 1);
    assert.equal(valueAt(model, "delta", index, cell)?.value, block === 1 ? undefined : 10 * (block + 1));
    assert.equal(valueAt(model, "secondMoment", index, cell)?.value, 100 * (block + 1));
  }
  assert.deepEqual([rangeOf(model, "delta")?.low, rangeOf(model, "delta")?.high], [10, 40]);
});

test("magnitudes that come before their selection count when it is there; those of another selection do not", () => {
  const magnitudes = magnitudesFrame(
    [
      [1, 1, 1],
      [2, 2, 2],
      [3, 3, 3],
      [4, 4, 4],
    ],
    5,
  );
  const early = applyFrame(emptyHeatmap, magnitudes);
  assert.equal(early.magnitudes, null);
  const complete = applyFrame(early, selectionFrame(grids, chosen));
  assert.equal(complete.magnitudes?.gradient[0], 1);
  assert.equal(applyFrame(complete, selectionFrame(grids, chosen)).magnitudes?.step, 5, "the same selection again keeps them");
  const moved = chosen.map((cell) => (cell.rank === 0 ? { ...cell, row: 1 } : cell));
  assert.equal(applyFrame(complete, selectionFrame(grids, moved)).magnitudes, null);
  assert.equal(applyFrame(complete, magnitudesFrame([[1, 1, 1]])).magnitudes, null, "of another number of blocks");
});

test("a frame with other grids replaces what contradicts it and keeps what does not", () => {
  const model = applyFrame(applyFrame(emptyHeatmap, scoresFrame(grids, bytes)), selectionFrame(grids, chosen));
  const larger = llamaGrids(2, 6, 10);
  const next = applyFrame(model, scoresFrame(larger, new Uint8Array(4 * cells)));
  assert.equal(next.chosen, null);
  assert.equal(next.cellCount, 4 * cells);
  const more = [...grids, { name: "lm_head", rows: 4, columns: 3 }];
  const extended = applyFrame(model, scoresFrame(more, new Uint8Array(cells + 12)));
  assert.equal(extended.chosen?.count, chosen.length);
  assert.equal(chosenAt(extended, cellAt(extended, grids[6].name, 2, 4)), true);
});

test("a frame that contradicts itself is refused whole", () => {
  const model = applyFrame(emptyHeatmap, scoresFrame(grids, bytes));
  const refused = [
    scoresFrame(grids, bytes.subarray(1)),
    scoresFrame([...grids, grids[0]], new Uint8Array(cells + 9)),
    scoresFrame([{ name: "a", rows: 0, columns: 3 }], new Uint8Array(0)),
    selectionFrame(grids, [{ matrix: 0, row: 3, column: 0, rank: 0, score: 1 }]),
    selectionFrame([{ name: "a", rows: 1e9, columns: 1e9 }], []),
    { ...selectionFrame(grids, chosen), payload: new Uint8Array(5) },
    { header: { kind: "magnitudes", step: 1, blocks: 2 } as const, payload: new Uint8Array(12) },
  ];
  for (const frame of refused) assert.throws(() => applyFrame(model, frame), Error);
});

test("a resume takes back what will be done again", () => {
  const model = [
    scoresFrame(grids, bytes, { step: 9, afterStep: 4 }),
    selectionFrame(grids, chosen, { step: 4 }),
    magnitudesFrame(
      [
        [1, 1, 1],
        [2, 2, 2],
        [3, 3, 3],
        [4, 4, 4],
      ],
      6,
    ),
  ].reduce(applyFrame, emptyHeatmap);
  assert.equal(withoutFramesAfter(model, 10), model);
  const updates = withoutFramesAfter(model, 5);
  assert.deepEqual([updates.scores?.step, updates.chosen?.step, updates.magnitudes], [9, 4, null]);
  const everything = withoutFramesAfter(model, 4);
  assert.deepEqual([everything.scores, everything.chosen, everything.magnitudes, everything.cellCount], [null, null, null, 0]);
});

test("cells are numbered through: places and numbers are each other's inverse", () => {
  const matrices = orderedGrids(llamaGrids(3, 4, 7));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 * (4 * 16 + 3 * 28) - 1 }), (cell) => {
      assert.equal(cellOf(matrices, placeOfCell(matrices, cell)), cell);
    }),
  );
});
