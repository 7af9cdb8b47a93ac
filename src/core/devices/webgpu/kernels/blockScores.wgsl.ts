/** blockScores: dOutᵀ·x reduced to a number a block. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** scores adds the mean of |g| or g over each l × l block, g = dOutᵀ·x formed a tile at a time; a workgroup a block. */
export function blockScores(
  programs: Programs,
  scores: Tensor,
  dOut: Tensor,
  x: Tensor,
  l: number,
  signed: boolean,
  N: number,
  out: number,
  C: number,
): void {
  const bf16 = dOut.dtype === "bf16" || x.dtype === "bf16";
  const value = (tensor: Tensor, read: string) => (bf16 && tensor.dtype === "f32" ? `rounded(${read})` : read);
  programs.run({
    name: `blockScores ${signed ? "signed" : "absolute"}`,
    tensors: { scores, dOut, x },
    params: { N, outs: out, C, l, across: Math.ceil(C / l) },
    wgsl: () => `var<workgroup> tile_d: array<f32, 256>;
var<workgroup> tile_x: array<f32, 256>;
var<workgroup> partial: array<f32, 256>;
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * p.l;
  let column0 = group.x * p.l;
  let rows = min(p.l, p.outs - row0);
  let columns = min(p.l, p.C - column0);
  var sum = 0.0;
  for (var r = 0u; r < rows; r += 16u) { for (var c = 0u; c < columns; c += 16u) {
    var g = 0.0;
    for (var n0 = 0u; n0 < p.N; n0 += 16u) {
      workgroupBarrier();
      let n = n0 + local.y;
      tile_d[lane] = 0.0;
      tile_x[lane] = 0.0;
      if (n < p.N && r + local.x < rows) { tile_d[lane] = ${value(dOut, "dOut(n * p.outs + row0 + r + local.x)")}; }
      if (n < p.N && c + local.x < columns) { tile_x[lane] = ${value(x, "x(n * p.C + column0 + c + local.x)")}; }
      workgroupBarrier();
      let depth = min(16u, p.N - n0);
      for (var k = 0u; k < depth; k++) { g += tile_d[k * 16u + local.y] * tile_x[k * 16u + local.x]; }
    }
    if (r + local.y < rows && c + local.x < columns) { sum += ${signed ? "g" : "abs(g)"}; }
  } }
  partial[lane] = sum;
  for (var step = 128u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  if (lane == 0u) { let at = group.y * p.across + group.x; set_scores(at, scores(at) + partial[0] / f32(rows * columns)); }
}`,
    groups: [Math.ceil(C / l), Math.ceil(out / l), 1],
  });
}
