/** mirrorLower: an invocation an entry; those below the diagonal are read and stay. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

/** h (C, C): above the diagonal what is below it, on it `diagonal` (C). */
export function mirrorLower(programs: Programs, h: Tensor, diagonal: Tensor, C: number): void {
  const groups = Math.ceil(C / 16);
  programs.run({
    name: "mirrorLower",
    tensors: { h, diagonal },
    params: { C },
    wgsl: () => `@compute @workgroup_size(16, 16) fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.y;
  let column = id.x;
  if (column >= p.C || row > column) { return; }
  if (row == column) { set_h(row * p.C + row, diagonal(row)); } else { set_h(row * p.C + column, h(column * p.C + row)); }
}`,
    groups: [groups, groups, 1],
  });
}
