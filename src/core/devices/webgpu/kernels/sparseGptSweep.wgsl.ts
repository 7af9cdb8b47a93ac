/**
 * sparseGptSweep block by block: which entries go, an invocation a row that zeroes them from left to right within the block, and products that bring the
 * errors to the columns after it. A row's part of the block stays with its invocation.
 */
import type { SparsityPattern, SweepOptions, Tensor } from "../../device.ts";
import { zerosOfShare } from "../../pruningShapes.ts";
import { UnsupportedError } from "../../unsupported.ts";
import type { Programs } from "../program.ts";
import { fill } from "./fill.wgsl.ts";
import { type Marking, markLowest } from "./markLowest.wgsl.ts";
import { tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

const width = 64;
const widestBlock = 1024;

interface Swept {
  w: Tensor;
  losses: Tensor;
  errors: Tensor;
  upper: Tensor;
  diagonal: Tensor;
}

/** Columns [start, start + columns) of w (R, C) in a sweep whose errors begin at column `first` and are `count` wide. */
interface Block {
  R: number;
  C: number;
  start: number;
  columns: number;
  first: number;
  count: number;
}

/** As in device.ts. `markingFor(n)` gives room for marking n entries of a block. */
export function sparseGptSweep(
  programs: Programs,
  swept: Swept,
  { pattern, blockSize, first, count }: SweepOptions,
  [R, C]: [number, number],
  markingFor: (entries: number) => Marking,
): void {
  if (blockSize > widestBlock) throw new UnsupportedError("sparseGptSweep", `blocks of ${blockSize} columns`);
  const end = first + count;
  for (let start = first; start < end; start += blockSize) {
    const block: Block = { R, C, start, columns: Math.min(blockSize, end - start), first, count };
    const marks = pattern.kind === "share" ? markBlock(programs, swept, block, pattern.share, markingFor(R * block.columns)) : null;
    sweepBlock(programs, swept, block, pattern, marks);
    addErrors(programs, swept, block, start + block.columns, end);
  }
  addErrors(programs, swept, { R, C, start: first, columns: count, first, count }, end, C);
}

/** 1 for each entry of a block that goes, row by row: the lowest |w_ij|/U_jj of all. */
function markBlock(programs: Programs, { w, upper, diagonal }: Swept, { R, C, start, columns }: Block, share: number, marking: Marking): Tensor {
  const { marks } = marking;
  const wanted = zerosOfShare(share, R, columns);
  if (wanted === 0) {
    fill(programs, marks, 0);
    return marks;
  }
  programs.map({
    name: "sparseGptSweep scores",
    outs: { marks },
    count: R * columns,
    tensors: { w, upper, diagonal },
    params: { C, start, columns },
    wgsl: () => `fn value_marks(i: u32) -> f32 {
  let j = p.start + i % p.columns;
  if (is_zero(diagonal(j))) { return 0.0; }
  return abs(w(i / p.columns * p.C + j)) / upper(j * p.C + j);
}`,
  });
  markLowest(programs, marking, R * columns, wanted);
  return marks;
}

/** At the start of a group the entries with its lowest scores are chosen, the first of equal ones. */
const chooseInGroup = (zeros: number, of: number) => `if (j % ${of}u == 0u) {
      var scores: array<f32, ${of}>;
      for (var k = 0u; k < ${of}u; k++) { goes[k] = false; scores[k] = abs(row[j + k]) / upper((p.start + j + k) * (p.C + 1u)); }
      for (var n = 0u; n < ${zeros}u; n++) {
        var lowest = ${of}u;
        for (var k = 0u; k < ${of}u; k++) { if (!goes[k] && (lowest == ${of}u || scores[k] < scores[lowest])) { lowest = k; } }
        goes[lowest] = true;
      }
    }`;

function sweepBlock(programs: Programs, swept: Swept, { R, C, start, columns, first, count }: Block, pattern: SparsityPattern, marks: Tensor | null) {
  const groups = pattern.kind === "groups" ? pattern : null;
  programs.run({
    name: `sparseGptSweep ${columns} ${groups ? `${groups.zeros}:${groups.of}` : "marked"}`,
    tensors: { ...swept, ...(marks ? { marks } : {}) },
    params: { R, C, start, shift: start - first, count },
    wgsl: () => `@compute @workgroup_size(${width}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= p.R) { return; }
  var row: array<f32, ${columns}>;
  for (var j = 0u; j < ${columns}u; j++) { row[j] = select(w(i * p.C + p.start + j), 0.0, is_zero(diagonal(p.start + j))); }
  var loss = 0.0;
  ${groups ? `var goes: array<bool, ${groups.of}>;` : ""}
  for (var j = 0u; j < ${columns}u; j++) {
    ${groups ? chooseInGroup(groups.zeros, groups.of) : ""}
    var err = 0.0;
    if (${groups ? `goes[j % ${groups.of}u]` : `marks(i * ${columns}u + j) > 0.5`}) {
      let u = (p.start + j) * p.C + p.start;
      err = row[j] / upper(u + j);
      for (var k = j + 1u; k < ${columns}u; k++) { row[k] -= err * upper(u + k); }
      row[j] = 0.0;
      loss += err * err;
    }
    set_errors(i * p.count + p.shift + j, -err);
  }
  for (var j = 0u; j < ${columns}u; j++) { set_w(i * p.C + p.start + j, row[j]); }
  set_losses(i, losses(i) + loss);
}`,
    groups: [Math.ceil(R / width), 1, 1],
  });
}

/** Columns [from, to) of w += errors of a block's columns · U. */
function addErrors(programs: Programs, { w, errors, upper }: Swept, { R, C, start, columns, first, count }: Block, from: number, to: number): void {
  if (from >= to) return;
  programs.run({
    name: "sparseGptSweep errors",
    tensors: { out: w, errors, upper },
    params: { M: R, N: to - from, K: columns, C, start, begin: from, shift: start - first, count },
    wgsl: () =>
      tiledProduct({
        a: "errors(row * p.count + p.shift + k)",
        b: "upper((p.start + k) * p.C + p.begin + column)",
        aAlongK: true,
        bAlongK: false,
        accumulate: true,
        place: "row * p.C + p.begin + column",
      }),
    groups: tileGroups(R, to - from),
  });
}
