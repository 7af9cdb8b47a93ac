/** blockMeans: a number for each block of a matrix. */
import type { BlockMean, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

const meanOf: Record<BlockMean, string> = { value: "v", absolute: "abs(v)", squareScaled: "v * v * columnScale(column)" };

/** scores (from `first` on, `across` a row) = the mean of each block, or add it; a workgroup a block. */
export function blockMeans(
  programs: Programs,
  scores: Tensor,
  x: Tensor,
  l: number,
  mean: BlockMean,
  columnScale: Tensor | null,
  rows: number,
  columns: number,
  { first = 0, across = Math.ceil(columns / l), accumulate = false } = {},
): void {
  programs.run({
    name: `blockMeans ${mean}${accumulate ? " +=" : ""}`,
    tensors: columnScale ? { scores, x, columnScale } : { scores, x },
    params: { rows, columns, l, first, across },
    wgsl: () => `var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = group.y * p.l;
  let column0 = group.x * p.l;
  let height = min(p.l, p.rows - row0);
  let width = min(p.l, p.columns - column0);
  var sum = 0.0;
  for (var i = lane; i < height * width; i += 64u) {
    let column = column0 + i % width;
    let v = x((row0 + i / width) * p.columns + column);
    sum += ${meanOf[mean]};
  }
  partial[lane] = sum;
  for (var step = 32u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  if (lane == 0u) {
    let at = p.first + group.y * p.across + group.x;
    set_scores(at, partial[0] / f32(height * width)${accumulate ? " + scores(at)" : ""});
  }
}`,
    groups: [Math.ceil(columns / l), Math.ceil(rows / l), 1],
  });
}
