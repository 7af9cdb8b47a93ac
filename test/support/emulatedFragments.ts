/**
 * Fragments of a product in plain WGSL, for cards without matrix units: an operand is a place in workgroup memory, and each lane of a make-believe subgroup holds
 * its share of the sums. What surrounds the fragments in the kernel is the product's own.
 */
import type { Fragments, MatrixUnit } from "../../src/core/devices/webgpu/kernels/matrixProduct.wgsl.ts";

export function emulatedFragments({ M, N, K, lanes }: MatrixUnit, stored: "f16" | "f32"): Fragments {
  const share = (M * N) / lanes;
  const entry = (operand: string, row: string, column: string) =>
    `${operand}.at + select(${column} * ${operand}.stride + ${row}, ${row} * ${operand}.stride + ${column}, ${operand}.rows)`;
  return {
    enables: stored === "f16" ? ["f16"] : [],
    declarations: `struct Operand { at: u32, stride: u32, rows: bool }
struct Sums { values: array<f32, ${share}> }
var<private> lane: u32;
fn multiply_add(left: Operand, right: Operand, sums: Sums) -> Sums {
  var next = sums;
  for (var n = 0u; n < ${share}u; n++) {
    let i = (lane + n * ${lanes}u) / ${N}u;
    let j = (lane + n * ${lanes}u) % ${N}u;
    for (var k = 0u; k < ${K}u; k++) { next.values[n] += f32(tile_a[${entry("left", "i", "k")}]) * f32(tile_b[${entry("right", "k", "j")}]); }
  }
  return next;
}
fn store_sums(at: u32, sums: Sums) {
  var own = sums;
  for (var n = 0u; n < ${share}u; n++) { results[at + lane + n * ${lanes}u] = own.values[n]; }
}`,
    parameter: "@builtin(local_invocation_id) local: vec3u",
    begin: `let subgroup = local.x / ${lanes}u;
  lane = local.x % ${lanes}u;`,
    stored,
    zero: "Sums()",
    load: (_use, at, stride, line) => `Operand(${at}, ${stride}u, ${line === "row"})`,
    multiplyAdd: (left, right, sum) => `multiply_add(${left}, ${right}, ${sum})`,
    store: (at, sum) => `store_sums(${at}, ${sum});`,
  };
}
