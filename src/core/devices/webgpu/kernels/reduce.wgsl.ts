/**
 * Sums over rows, over columns and over everything, each in an order that shapes alone decide: an invocation adds its share from first to last, and a tree adds
 * the invocations. Shared by the ops that reduce; no op of the interface by itself.
 */
import type { Tensor } from "../../device.ts";
import type { Param, Programs } from "../program.ts";

const width = 128;
const maxGroups = 65535;

interface Sums {
  name: string;
  out: Tensor;
  tensors: Record<string, Tensor>;
  params?: Record<string, Param>;
  /** `fn term(row: u32, column: u32) -> f32`, and `fn result(row: u32, sum: f32) -> f32` (column for column sums) where it is not the sum itself. */
  wgsl: () => string;
}

const tree = `var<workgroup> partial: array<f32, ${width}>;
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

/** Elements of one part of {@link partSums}. */
export const partElements = 4096;

/** out (⌈count / 4096⌉, from element `first`) = number of zeros of either sign in each part; the host adds the parts. */
export function zerosOfParts(programs: Programs, out: Tensor, x: Tensor, count: number, first: number): void {
  overParts(
    programs,
    "zeros",
    out,
    x,
    count,
    first,
    () => `${tree}
${partBounds(`
  var own = 0.0;
  for (var i = begin + lane; i < end; i += ${width}u) { if (is_zero(x(i))) { own += 1.0; } }
  let sum = total(own, lane);
  if (lane == 0u) { set_out(p.first + part, sum); }`)}`,
  );
}

/** Floats that {@link squaresOfParts} leaves of a part. */
export const squareWords = 3;

/**
 * out (⌈count / 4096⌉ · 3, from element `first`) = Σx² of each part as high, low and power: (high + low) · 4^power. Entries are first brought near 1 by a
 * power of two, so that no square overflows; the sum is kept in two floats, each product with its rounding error (Dekker 1971). NaN and infinity come out as
 * high.
 */
export function squaresOfParts(programs: Programs, out: Tensor, x: Tensor, count: number, first: number): void {
  overParts(
    programs,
    "squares",
    out,
    x,
    count,
    first,
    () => `var<workgroup> high: array<f32, ${width}>;
var<workgroup> low: array<f32, ${width}>;
var<workgroup> bits: array<u32, ${width}>;
fn add(lane: u32, h: f32, l: f32) {
  let sum = high[lane] + h;
  let back = sum - high[lane];
  low[lane] += ((high[lane] - (sum - back)) + (h - back)) + l;
  high[lane] = sum;
}
${partBounds(`
  var largest = 0u; // bits of non-negative floats are in the floats' order; NaN comes last
  for (var i = begin + lane; i < end; i += ${width}u) { largest = max(largest, bitcast<u32>(x(i)) & 0x7fffffffu); }
  bits[lane] = largest;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { bits[lane] = max(bits[lane], bits[lane + step]); } }
  workgroupBarrier();
  largest = bits[0];
  let power = i32(largest >> 23u) - 127;
  high[lane] = 0.0;
  low[lane] = 0.0;
  for (var i = begin + lane; i < end; i += ${width}u) {
    // A power of two beyond f32's own range is taken in two steps.
    let v = ldexp(ldexp(x(i), -(power / 2)), -(power - power / 2));
    let square = v * v;
    // Half of the digits at a time, because fma may be two roundings.
    let front = bitcast<f32>(bitcast<u32>(v) & 0xfffff000u);
    let rest = v - front;
    add(lane, square, ((front * front - square) + 2.0 * front * rest) + rest * rest);
  }
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { add(lane, high[lane + step], low[lane + step]); } }
  if (lane == 0u) {
    let at = p.first + ${squareWords}u * part;
    set_out(at, select(high[0], bitcast<f32>(largest), largest >= 0x7f800000u));
    set_out(at + 1u, low[0]);
    set_out(at + 2u, f32(power));
  }`)}`,
  );
}

function overParts(programs: Programs, name: string, out: Tensor, x: Tensor, count: number, first: number, wgsl: () => string): void {
  const parts = Math.ceil(count / partElements);
  const across = Math.min(parts, maxGroups);
  programs.run({
    name: `parts ${name}`,
    tensors: { out, x },
    params: { count, first, parts, across },
    wgsl,
    groups: [across, Math.ceil(parts / across), 1],
  });
}

const partBounds = (
  body: string,
) => `@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let part = group.y * p.across + group.x;
  if (part >= p.parts) { return; }
  let begin = part * ${partElements}u;
  let end = min(p.count, begin + ${partElements}u);${body}
}`;
