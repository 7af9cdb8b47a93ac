/** embeddingForward and embeddingBackward. Tokens of one id are added by one workgroup in their order, so that no two write one row at a time. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

export function embeddingForward(programs: Programs, out: Tensor, table: Tensor, ids: Tensor, C: number): void {
  programs.map({
    name: "embeddingForward",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { table, ids },
    params: { C },
    wgsl: () => "fn value_out(i: u32) -> f32 { return table(u32(ids(i / p.C)) * p.C + i % p.C); }",
  });
}

/** The tokens of `ids` by id: `[id, start, end]` a distinct id, and the tokens those ranges are of. */
export function tokensById(ids: Int32Array): { ranges: Int32Array; tokens: Int32Array } {
  const tokens = Int32Array.from(ids, (_, i) => i).sort((a, b) => ids[a] - ids[b] || a - b);
  const ranges: number[] = [];
  for (let start = 0, end = 0; start < tokens.length; start = end) {
    while (end < tokens.length && ids[tokens[end]] === ids[tokens[start]]) end++;
    ranges.push(ids[tokens[start]], start, end);
  }
  return { ranges: Int32Array.from(ranges), tokens };
}

/** dTable (V, C) f32 adds dOut (N, C); ranges and tokens as {@link tokensById} has them. */
export function embeddingBackward(programs: Programs, dTable: Tensor, dOut: Tensor, ranges: Tensor, tokens: Tensor, C: number): void {
  const count = ranges.shape[0] / 3;
  programs.run({
    name: "embeddingBackward",
    tensors: { dTable, dOut, ranges, tokens },
    params: { C, count },
    wgsl: () => `@compute @workgroup_size(64) fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.z * groups.y + group.y;
  let column = group.x * 64u + lane;
  if (index >= p.count || column >= p.C) { return; }
  let to = u32(ranges(3u * index)) * p.C + column;
  var sum = dTable(to);
  for (var i = u32(ranges(3u * index + 1u)); i < u32(ranges(3u * index + 2u)); i++) { sum += dOut(u32(tokens(i)) * p.C + column); }
  set_dTable(to, sum);
}`,
    groups: [Math.ceil(C / 64), Math.min(count, 65535), Math.ceil(count / 65535)],
  });
}
