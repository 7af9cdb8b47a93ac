import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSelection, type Selection, stringifySelection } from "../../src/protocol/selection.ts";
import { UserError } from "../../src/protocol/userError.ts";

const q = "model.layers.0.self_attn.q_proj";
const down = "model.layers.1.mlp.down_proj";
const selection: Selection = {
  version: 1,
  blockSize: 16,
  score: "meanOfAbs",
  selection: "global",
  seed: 7,
  dataHash: "ab",
  steps: 10,
  totalParameters: 1000,
  blocks: [
    { name: q, row: 0, column: 3, score: 0.5, rank: 0 },
    { name: down, row: 1, column: 0, score: 0.25, rank: 1 },
  ],
  shares: { q_proj: 0.5, down_proj: 0.5 },
  matrices: [
    { name: q, rows: 2, columns: 4 },
    { name: down, rows: 2, columns: 1, ragged: true },
  ],
};

function refusal(value: unknown): string {
  try {
    parseSelection(typeof value === "string" ? value : JSON.stringify(value), "s.json");
  } catch (error) {
    assert.ok(error instanceof UserError && error.code === "selection/invalid" && error.badInput);
    return error.message;
  }
  return "accepted";
}

test("a selection reads back unchanged, one block a line", () => {
  const text = stringifySelection(selection);
  assert.deepEqual(parseSelection(text, "s.json"), selection);
  assert.match(text, /\n {4}\{"name":"model.layers.1.mlp.down_proj","row":1,"column":0,"score":0.25,"rank":1\}\n/);
});

test("a list written by hand needs no more than names and places, with or without .weight", () => {
  const parsed = parseSelection(
    JSON.stringify({
      version: 1,
      blockSize: 16,
      blocks: [
        { name: `${q}.weight`, row: 1, column: 2 },
        { name: down, row: 0, column: 0 },
      ],
    }),
    "s.json",
  );
  assert.deepEqual(
    parsed.blocks.map(({ name, rank }) => [name, rank]),
    [
      [q, 0],
      [down, 1],
    ],
  );
  assert.deepEqual([parsed.score, parsed.matrices], ["given", []]);
});

test("blocks come in rank order, whatever order they are written in", () => {
  const shuffled = { ...selection, blocks: [...selection.blocks].reverse() };
  assert.deepEqual(parseSelection(JSON.stringify(shuffled), "s.json"), selection);
});

test("what contradicts itself is refused by name", () => {
  const [first, second] = selection.blocks;
  assert.match(refusal("{"), /^s\.json is not valid JSON/);
  assert.equal(refusal([]), "s.json must be a mapping of keys, not a list.");
  assert.equal(refusal({ ...selection, version: 2 }), "s.json version must be 1, not 2.");
  assert.equal(refusal({ ...selection, blocks: [] }), "s.json blocks must not be an empty list.");
  assert.equal(refusal({ ...selection, blocksize: 16 }), "s.json blocksize is not a known key; did you mean blockSize?");
  assert.equal(
    refusal({ ...selection, blocks: [{ ...first, row: -1 }] }),
    "s.json blocks.0.row must be a whole number from 0 to 1000000000, not -1.",
  );
  assert.equal(refusal({ ...selection, blocks: [first, { ...first, rank: 1 }] }), `s.json names block ${q}:0,3 twice.`);
  assert.equal(refusal({ ...selection, blocks: [first, { ...second, rank: 0 }] }), "s.json gives rank 0 twice.");
  assert.equal(refusal({ ...selection, blocks: [{ ...first, column: 4 }] }), `s.json places block ${q}:0,4 outside a grid of 2 × 4 blocks.`);
  assert.equal(refusal({ ...selection, blocks: [{ ...first, row: 2 }] }), `s.json places block ${q}:2,3 outside a grid of 2 × 4 blocks.`);
  assert.equal(refusal(JSON.stringify(selection).replace("0.25", "1e999")), "s.json blocks.1.score must be a number, not Infinity.");
  assert.equal(refusal({ ...selection, blocks: [{ ...first, name: "x" }] }), "s.json has no grid for x, which block x:0,3 lies in.");
  assert.equal(refusal({ ...selection, shares: { q_proj: 2 } }), "s.json shares.q_proj must be a number from 0 to 1, not 2.");
  const many = refusal({ ...selection, blocks: Array.from({ length: 50 }, () => ({ name: 3 })) });
  assert.match(many, /… and \d+ more$/);
});
