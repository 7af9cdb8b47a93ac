/**
 * Sums over rows, over columns and over everything, each in an order that shapes alone decide: an invocation adds its share from first to last, and a tree adds
 * the invocations. Shared by the ops that reduce; no op of the interface by itself.
 */
import type { Tensor } from "../../device.ts";
import type { Param, Programs } from "../program.ts";

/** Invocations of a workgroup. */
export const width = 128;
const maxGroups = 65535;

interface Sums {
  name: string;
  out: Tensor;
  tensors: Record<string, Tensor>;
  params?: Record<string, Param>;
  /** `fn term(row: u32, column: u32) -> f32`, and `fn result(row: u32, sum: f32) -> f32` (column for column sums) where it is not the sum itself. */
  wgsl: () => string;
}

/** `total(own, lane)`: the sum of all invocations, by a tree. */
export const tree = `var<workgroup> partial: array<f32, ${width}>;
fn total(own: f32, lane: u32) -> f32 {
  partial[lane] = own;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();
  return partial[0];
}`;

/** out (rows) = result(Σ_column term), one workgroup a row. */
export function rowSums(programs: Programs, { name, out, tensors, params = {}, wgsl }: Sums, rows: number, columns: number): void {
  const across = Math.min(rows, maxGroups);
  programs.run({
    name: `rows ${name}`,
    tensors: { out, ...tensors },
    params: { rows, columns, across, ...params },
    wgsl: () => `${wgsl()}\n${tree}
@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * p.across + group.x;
  if (row >= p.rows) { return; }
  var own = 0.0;
  for (var column = lane; column < p.columns; column += ${width}u) { own += term(row, column); }
  let sum = total(own, lane);
  if (lane == 0u) { set_out(row, result(row, sum)); }
}`,
    groups: [across, Math.ceil(rows / across), 1],
  });
}

const stripe = 32;
const lanes = 8;

/** out (columns) adds Σ_row term, a stripe of 32 columns a workgroup. */
export function addColumnSums(programs: Programs, { name, out, tensors, params = {}, wgsl }: Sums, rows: number, columns: number): void {
  programs.run({
    name: `columns ${name}`,
    tensors: { out, ...tensors },
    params: { rows, columns, ...params },
    wgsl: () => `${wgsl()}
var<workgroup> partial: array<f32, ${stripe * lanes}>;
@compute @workgroup_size(${stripe}, ${lanes}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let column = group.x * ${stripe}u + local.x;
  var own = 0.0;
  if (column < p.columns) { for (var row = local.y; row < p.rows; row += ${lanes}u) { own += term(row, column); } }
  partial[local.y * ${stripe}u + local.x] = own;
  workgroupBarrier();
  if (local.y == 0u && column < p.columns) {
    var sum = 0.0;
    for (var lane = 0u; lane < ${lanes}u; lane++) { sum += partial[lane * ${stripe}u + local.x]; }
    set_out(column, out(column) + sum);
  }
}`,
    groups: [Math.ceil(columns / stripe), 1, 1],
  });
}

/** Elements of one part of {@link overParts}. */
export const partElements = 4096;

/** Runs a kernel, made with {@link partBounds}, with a workgroup for each part of x. `p.zero` is 0, which a driver's compiler cannot know. */
export function overParts(programs: Programs, name: string, out: Tensor, x: Tensor, count: number, first: number, wgsl: () => string): void {
  const parts = Math.ceil(count / partElements);
  const across = Math.min(parts, maxGroups);
  programs.run({
    name: `parts ${name}`,
    tensors: { out, x },
    params: { count, first, parts, across, zero: 0 },
    wgsl,
    groups: [across, Math.ceil(parts / across), 1],
  });
}

/** The main function of such a kernel: `body` has its part, and the elements [begin, end) of it. */
export const partBounds = (
  body: string,
) => `@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let part = group.y * p.across + group.x;
  if (part >= p.parts) { return; }
  let begin = part * ${partElements}u;
  let end = min(p.count, begin + ${partElements}u);${body}
}`;
