import assert from "node:assert/strict";
import { test } from "node:test";
import { blockMap, blockMapLegend, type MapMatrix, shareBars } from "../../../src/core/terminal/blockMap.ts";
import { memoryTable } from "../../../src/core/terminal/memoryTable.ts";
import type { TerminalStyle } from "../../../src/core/terminal/style.ts";
import { plainText } from "../../../src/core/terminal/style.ts";

const plain: TerminalStyle = { width: 80, interactive: false, color: false };
const colored: TerminalStyle = { width: 80, interactive: true, color: true };
const q = "model.layers.0.self_attn.q_proj";
const down = "model.layers.10.mlp.down_proj";
const matrices: MapMatrix[] = [
  { name: down, rows: 4, columns: 8 },
  { name: q, rows: 4, columns: 4 },
];
const blocks = [
  { name: q, row: 0, column: 0, rank: 0 },
  { name: q, row: 3, column: 3, rank: 1 },
  { name: down, row: 0, column: 2, rank: 2 },
  { name: down, row: 1, column: 2, rank: 3 },
];

test("layers go down in order, projections across, each block at its place", () => {
  assert.deepEqual(blockMap(matrices, blocks, plain), [
    "         Q        down",
    "layer 0  ▒···",
    "         ···▒",
    "",
    "layer 10          ··█·····",
    "                  ········",
  ]);
});

test("a grid larger than its picture is drawn coarser: every block counts, none is cut", () => {
  const wide: MapMatrix[] = [{ name: q, rows: 16, columns: 64 }];
  const all = Array.from({ length: 16 * 64 }, (_, i) => ({ name: q, row: Math.floor(i / 64), column: i % 64, rank: i }));
  const full = ["         Q", ...["layer 0  ", "         ", "         ", "         "].map((label) => label + "█".repeat(16))];
  assert.deepEqual(blockMap(wide, all, plain), full);
  assert.equal(blockMap(wide, [all[0]], plain)[1], `layer 0  ░${"·".repeat(15)}`);
  assert.equal(blockMap(wide, [all[1023]], plain)[4], `         ${"·".repeat(15)}░`);
});

test("in colour a pixel is half a character and carries the best rank in it", () => {
  const [, first] = blockMap([{ name: q, rows: 2, columns: 3 }], [{ name: q, row: 1, column: 1, rank: 0 }], colored);
  const cold = "\x1b[38;5;236;48;5;236m▀\x1b[0m";
  assert.equal(first, `layer 0  ${cold}\x1b[38;5;236;48;5;226m▀\x1b[0m${cold}`);
});

test("no line is wider than the terminal where a picture fits at all", () => {
  const names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
  const large = names.map((name) => ({ name: `model.layers.31.${name}`, rows: 256, columns: 256 }));
  for (const width of [40, 60, 80, 200])
    for (const line of blockMap(large, [], { ...plain, width })) assert.ok(line.length <= width, `${width}: ${line.length}`);
  assert.deepEqual(blockMap([], [], plain), []);
});

test("many layers take one line each", () => {
  const tall = Array.from({ length: 32 }, (_, layer) => ({ name: `model.layers.${layer}.self_attn.q_proj`, rows: 16, columns: 16 }));
  assert.equal(blockMap(tall, [], plain).length, 33);
});

test("shares of gate, up and down are the MLP's", () => {
  assert.deepEqual(shareBars({ q_proj: 0.1, v_proj: 0.5, gate_proj: 0.25, down_proj: 0.15 }, { ...plain, width: 34 }), [
    "Q   ██░░░░░░░░░░░░░░░░░░  10.0 %",
    "K   ░░░░░░░░░░░░░░░░░░░░     0 %",
    "V   ██████████░░░░░░░░░░  50.0 %",
    "O   ░░░░░░░░░░░░░░░░░░░░     0 %",
    "MLP ████████░░░░░░░░░░░░  40.0 %",
  ]);
});

test("the legend names what is drawn", () => {
  assert.equal(blockMapLegend(plain), "· frozen   ░▒▓█ from few to all blocks of a cell trained");
  assert.match(blockMapLegend(colored), /frozen .* trained, the brighter the higher its score$/);
});

test("memory stands beside the plan and full fine-tuning, class by class", () => {
  const bytesByClass = { weights: 3e6, trainable: 1e5, gradients: 1e5, optimizer: 2e5, activations: 1.6e6, workspace: 0 };
  const full = { ...bytesByClass, trainable: 6e6, gradients: 6e6, optimizer: 12e6 };
  const columns = [
    { origin: "measured", heading: "training", peakBytes: 5e6, bytesByClass },
    { origin: "planned", heading: "smt", peakBytes: 5e6, bytesByClass },
    { origin: "planned", heading: "full fine-tuning", peakBytes: 28.6e6, bytesByClass: full },
  ];
  assert.deepEqual(memoryTable(columns, plain), [
    "memory       measured  planned",
    "             training       smt  full fine-tuning",
    "weights      2.86 MiB  2.86 MiB          2.86 MiB",
    "trainable    97.7 KiB  97.7 KiB          5.72 MiB",
    "gradients    97.7 KiB  97.7 KiB          5.72 MiB",
    "optimizer     195 KiB   195 KiB          11.4 MiB",
    "activations  1.53 MiB  1.53 MiB          1.53 MiB",
    "peak         4.77 MiB  4.77 MiB          27.3 MiB",
  ]);
  assert.deepEqual(memoryTable(columns, colored).map(plainText), memoryTable(columns, plain));
});
