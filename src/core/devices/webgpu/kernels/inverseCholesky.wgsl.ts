/**
 * inverseCholesky in f32, in the upper triangle of h alone: H = R·Rᵀ by blocks of 64 columns from the last to the first, then U = R⁻¹ from the first to the
 * last. Products of tiles carry nearly all of the work; the block on the diagonal is one workgroup's.
 * The rule to keep: what is below the diagonal is never written, and never used: mirrorLower brings h back from it.
 */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { tiledProduct, tileGroups } from "./tiledProduct.wgsl.ts";

/** Columns of a block; its triangle fills the 16 KiB of workgroup memory that every card has. */
export const blockColumns = 64;
/** A pivot that is this small a part of its diagonal entry holds nothing but rounding. */
const smallestPivot = 1e-4;

export interface Factoring {
  h: Tensor;
  diagonal: Tensor;
  /** (C) f32: the damped diagonal. */
  pivots: Tensor;
  /** (1) f32: 1 when H is not positive definite. */
  failed: Tensor;
  /** (C · 64) f32: sums over the columns that are done. */
  room: Tensor;
}

/** h above the diagonal becomes R, `diagonal` what h had on it. */
export function factor(programs: Programs, { h, diagonal, pivots, failed, room }: Factoring, damping: number, C: number): void {
  dampDiagonal(programs, { h, diagonal, pivots, failed }, damping, C);
  for (let start = Math.floor((C - 1) / blockColumns) * blockColumns; start >= 0; start -= blockColumns) {
    const end = Math.min(start + blockColumns, C);
    const place = { C, start, n: end - start };
    programs.run({
      name: "inverseCholesky sums",
      tensors: { out: room, h },
      params: { M: end, N: end - start, K: C - end, C, start, end },
      wgsl: () =>
        tiledProduct({
          a: "h(row * p.C + p.end + k)",
          b: "h((p.start + column) * p.C + p.end + k)",
          aAlongK: true,
          bAlongK: true,
          accumulate: false,
        }),
      groups: tileGroups(end, end - start),
    });
    programs.run({ name: "inverseCholesky block", tensors: { h, room, pivots, failed }, params: place, wgsl: factorBlock, groups: [1, 1, 1] });
    const groups = [Math.ceil(start / blockColumns), 1, 1] as const;
    programs.run({ name: "inverseCholesky rows", tensors: { h, room }, params: place, wgsl: solveRows, groups });
  }
}

/** h above the diagonal, R, becomes U = R⁻¹. */
export function invert(programs: Programs, { h, room }: Pick<Factoring, "h" | "room">, C: number): void {
  for (let start = 0; start < C; start += blockColumns) {
    const n = Math.min(blockColumns, C - start);
    programs.run({ name: "inverseCholesky invert", tensors: { h }, params: { C, start, n }, wgsl: invertBlock, groups: [1, 1, 1] });
    const groups = tileGroups(start, n);
    programs.run({
      name: "inverseCholesky times block",
      tensors: { out: room, h },
      params: { M: start, N: n, K: n, C, start },
      wgsl: () =>
        tiledProduct({
          a: "-h(row * p.C + p.start + k)",
          b: "select(0.0, h((p.start + k) * p.C + p.start + column), k <= column)",
          aAlongK: true,
          bAlongK: false,
          accumulate: false,
        }),
      groups,
    });
    programs.run({
      name: "inverseCholesky times inverse",
      tensors: { out: h, room },
      params: { M: start, N: n, K: start, C, start },
      wgsl: () =>
        tiledProduct({
          a: "select(0.0, out(row * p.C + k), k >= row)",
          b: "room(k * p.N + column)",
          aAlongK: true,
          bAlongK: false,
          accumulate: false,
          place: "row * p.C + p.start + column",
        }),
      groups,
    });
  }
}

/** 1 in place of a 0, and damping·mean(diagonal) on top. */
function dampDiagonal(programs: Programs, tensors: Pick<Factoring, "h" | "diagonal" | "pivots" | "failed">, damping: number, C: number): void {
  programs.run({
    name: "inverseCholesky damping",
    tensors,
    params: { C, damping: { f32: damping } },
    wgsl: () => `var<workgroup> partial: array<f32, 256>;
fn living(j: u32) -> f32 { let value = h(j * p.C + j); return select(value, 1.0, is_zero(value)); }
@compute @workgroup_size(256) fn main(@builtin(local_invocation_index) lane: u32) {
  var own = 0.0;
  for (var j = lane; j < p.C; j += 256u) { own += living(j) / f32(p.C); }
  partial[lane] = own;
  for (var step = 128u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  workgroupBarrier();
  let added = p.damping * partial[0];
  for (var j = lane; j < p.C; j += 256u) {
    let damped = living(j) + added;
    set_diagonal(j, h(j * p.C + j));
    set_pivots(j, damped);
    set_h(j * p.C + j, damped);
  }
  if (lane == 0u) { set_failed(0u, 0.0); }
}`,
    groups: [1, 1, 1],
  });
}

/** NaN and infinity are told by their bits: a driver may take any comparison with them for true. */
const factorBlock = () => `var<workgroup> t: array<f32, ${blockColumns * blockColumns}>;
fn sound(pivot: f32, whole: f32) -> bool { return pivot > ${smallestPivot} * whole && (bitcast<u32>(pivot) & 0x7f800000u) != 0x7f800000u; }
@compute @workgroup_size(${blockColumns}) fn main(@builtin(local_invocation_index) lane: u32) {
  for (var i = 0u; i < p.n; i++) {
    if (lane >= i && lane < p.n) { t[i * ${blockColumns}u + lane] = h((p.start + i) * p.C + p.start + lane) - room((p.start + i) * p.n + lane); }
  }
  workgroupBarrier();
  for (var step = 0u; step < p.n; step++) {
    let j = p.n - 1u - step;
    let pivot = t[j * ${blockColumns}u + j];
    if (lane == 0u && !sound(pivot, pivots(p.start + j))) { set_failed(0u, 1.0); }
    let root = sqrt(pivot);
    workgroupBarrier();
    if (lane < j) { t[lane * ${blockColumns}u + j] /= root; }
    if (lane == j) { t[j * ${blockColumns}u + j] = root; }
    workgroupBarrier();
    if (lane < j) { for (var k = lane; k < j; k++) { t[lane * ${blockColumns}u + k] -= t[lane * ${blockColumns}u + j] * t[k * ${blockColumns}u + j]; } }
    workgroupBarrier();
  }
  for (var i = 0u; i < p.n; i++) {
    if (lane >= i && lane < p.n) { set_h((p.start + i) * p.C + p.start + lane, t[i * ${blockColumns}u + lane]); }
  }
}`;

/** A row above the block: x with x·Rᵀ = what is left of it, R the block's triangle. */
const solveRows = () => `@compute @workgroup_size(${blockColumns}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= p.start) { return; }
  var x: array<f32, ${blockColumns}>;
  for (var step = 0u; step < p.n; step++) {
    let j = p.n - 1u - step;
    let r = (p.start + j) * p.C + p.start;
    var sum = h(i * p.C + p.start + j) - room(i * p.n + j);
    for (var k = j + 1u; k < p.n; k++) { sum -= x[k] * h(r + k); }
    x[j] = sum / h(r + j);
    set_h(i * p.C + p.start + j, x[j]);
  }
}`;

/** An invocation a column of the block's inverse, from its diagonal upwards; written when all have read. */
const invertBlock = () => `@compute @workgroup_size(${blockColumns}) fn main(@builtin(local_invocation_index) lane: u32) {
  var x: array<f32, ${blockColumns}>;
  if (lane < p.n) {
    for (var step = 0u; step <= lane; step++) {
      let i = lane - step;
      let r = (p.start + i) * p.C + p.start;
      var sum = select(0.0, 1.0, step == 0u);
      for (var k = i + 1u; k <= lane; k++) { sum -= h(r + k) * x[k]; }
      x[i] = sum / h(r + i);
    }
  }
  storageBarrier();
  workgroupBarrier();
  if (lane < p.n) { for (var i = 0u; i <= lane; i++) { set_h((p.start + i) * p.C + p.start + lane, x[i]); } }
}`;
