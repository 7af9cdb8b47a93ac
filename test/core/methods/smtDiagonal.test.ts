/** The diagonals that `score: diagonal` trains: where they lie, which block size meets a budget, and that no matrix is preferred where the budget is another. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseModelConfig } from "../../../src/core/files/modelConfig.ts";
import { diagonalBlockSize, diagonalScores, diagonalSize, onDiagonal } from "../../../src/core/methods/smt/diagonal.ts";
import { blockEntries, blocksWhere, gridShape, type ScoreGrid, selectBlocks } from "../../../src/core/methods/smt/selection.ts";
import { projectionName, projectionShape, projections } from "../../../src/core/model/config.ts";

const model = parseModelConfig(
  {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 128,
    intermediate_size: 384,
    num_hidden_layers: 3,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    vocab_size: 512,
    max_position_embeddings: 64,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
  },
  "config.json",
);

function gridsAt(blockSize: number): ScoreGrid[] {
  return Array.from({ length: model.numLayers }, (_, layer) =>
    projections.map((projection) => {
      const shape = projectionShape(model, projection);
      const [rows, columns] = gridShape(shape, blockSize);
      return { name: projectionName(layer, projection), layer, projection, shape, scores: diagonalScores(rows, columns) };
    }),
  ).flat();
}

describe("whole diagonals", () => {
  for (const blockSize of [1, 2, 7, 16, 32, 48, 64])
    test(`at block size ${blockSize}: every layer's every matrix, each block where the diagonal runs, none of its rows and columns left out`, () => {
      const grids = gridsAt(blockSize);
      const chosen = blocksWhere(grids, blockSize, onDiagonal);
      let entries = 0;
      for (const { name, shape } of grids) {
        const [rows, columns] = gridShape(shape, blockSize);
        const own = chosen.filter((block) => block.name === name);
        assert.equal(own.length, Math.max(rows, columns), name);
        assert.equal(new Set(own.map(({ row }) => row)).size, rows, `${name}: rows`);
        assert.equal(new Set(own.map(({ column }) => column)).size, columns, `${name}: columns`);
        for (const { row, column } of own)
          assert.ok(Math.max(row / rows, column / columns) < Math.min((row + 1) / rows, (column + 1) / columns), `${name}:${row},${column}`);
        entries += own.reduce((sum, block) => sum + blockEntries(shape, block, blockSize), 0);
      }
      assert.deepEqual(
        chosen.map(({ rank }) => rank),
        chosen.map((_, i) => i),
      );
      assert.deepEqual(diagonalSize(model, projections, blockSize), { blocks: chosen.length, entries });
    });

  test("a square matrix's is the main diagonal", () => {
    assert.deepEqual(
      [...diagonalScores(4, 4).entries()].filter(([, score]) => onDiagonal(score)).map(([i]) => i),
      [0, 5, 10, 15],
    );
  });

  test("the block size is the one that comes nearest, by entries or by blocks", () => {
    for (const budget of [100, 3000, 6000, 10_000, 55_000, 123_456, 1e9]) {
      const size = diagonalBlockSize(model, projections, { trainableParameters: budget });
      const distance = (l: number) => Math.abs(diagonalSize(model, projections, l).entries - budget);
      for (let l = 1; l <= 64; l++) assert.ok(distance(l) >= distance(size), `${budget}: ${l} is nearer than ${size}`);
    }
    for (const blocks of [1, 100, 160, 5000]) {
      const size = diagonalBlockSize(model, projections, { blocks });
      const distance = (l: number) => Math.abs(diagonalSize(model, projections, l).blocks - blocks);
      for (let l = 1; l <= 64; l++) assert.ok(distance(l) >= distance(size), `${blocks} blocks: ${l} is nearer than ${size}`);
    }
  });
});

test("another budget takes the same share of every matrix, below the diagonals and above them", () => {
  const grids = gridsAt(16);
  const { blocks } = diagonalSize(model, projections, 16);
  for (const share of [0.25, 0.5, 1.25]) {
    const chosen = selectBlocks(grids, 16, Math.round(share * blocks), "global");
    for (const { name, shape } of grids) {
      const own = chosen.filter((block) => block.name === name);
      const [rows, columns] = gridShape(shape, 16);
      const length = Math.max(rows, columns);
      // Above the diagonals the nearest blocks beside them count, of which a long matrix has relatively fewer.
      const least = share < 1 ? Math.floor(share * length) : length + 1;
      const most = share < 1 ? Math.ceil(share * length) + 1 : 1.6 * length;
      assert.ok(own.length >= least && own.length <= most, `${share} of ${name}: ${own.length} of ${length}`);
    }
  }
});
