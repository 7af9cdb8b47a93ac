/** Cross-entropy: one pass over a row for its maximum and sum, kept per row, then every logit by itself. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

const width = 128;

/** losses (n); with a scale, logits (n, V) f32 become scale·(softmax − onehot). `sums` (2n) f32 is room for each row's maximum and Σ exp(logit − maximum). */
export function crossEntropy(
  programs: Programs,
  losses: Tensor,
  logits: Tensor,
  targets: Tensor,
  sums: Tensor,
  scale: number | null,
  n: number,
  V: number,
): void {
  programs.run({
    name: "crossEntropy losses",
    tensors: { losses, logits, targets, sums },
    params: { V, n },
    wgsl: () => `var<workgroup> partial: array<f32, ${width}>;
@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= p.n) { return; }
  var largest = -3.4e38;
  var spoilt = 0.0; // a maximum passes over NaN, and a driver may drop it anywhere: NaN and +infinity are told by their bits
  for (var i = lane; i < p.V; i += ${width}u) {
    let logit = logits(row * p.V + i);
    let bits = bitcast<u32>(logit);
    if ((bits & 0x7f800000u) == 0x7f800000u && bits != 0xff800000u) { spoilt = 1.0; }
    largest = max(largest, logit);
  }
  partial[lane] = largest;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] = max(partial[lane], partial[lane + step]); } }
  workgroupBarrier();
  largest = partial[0];
  workgroupBarrier();
  partial[lane] = spoilt;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  workgroupBarrier();
  let nan = bitcast<f32>(0x7fc00000u | (p.V >> 31u));
  let broken = partial[0] > 0.0;
  workgroupBarrier();
  var own = 0.0;
  for (var i = lane; i < p.V; i += ${width}u) { own += exp(logits(row * p.V + i) - largest); }
  partial[lane] = own;
  for (var step = ${width / 2}u; step > 0u; step >>= 1u) { workgroupBarrier(); if (lane < step) { partial[lane] += partial[lane + step]; } }
  workgroupBarrier();
  if (lane == 0u) {
    // The logarithm is added to the maximum once, so that a loss near zero keeps its digits.
    let spread = log(partial[0]);
    set_sums(2u * row, largest);
    set_sums(2u * row + 1u, select(partial[0], nan, broken));
    let aim = targets(row);
    if (aim >= 0 && broken) { set_losses(row, nan); } else if (aim < 0) { set_losses(row, 0.0); } else { set_losses(row, (largest - logits(row * p.V + u32(aim))) + spread); }
  }
}`,
    groups: [Math.min(n, 65535), Math.ceil(n / 65535), 1],
  });
  if (scale === null) return;
  programs.map({
    name: "crossEntropy gradient",
    outs: { logits },
    count: n * V,
    tensors: { targets, sums },
    params: { V, scale: { f32: scale } },
    wgsl: () => `fn value_logits(i: u32) -> f32 {
  let row = i / p.V;
  let aim = targets(row);
  if (aim < 0) { return 0.0; }
  let total = sums(2u * row + 1u);
  if ((bitcast<u32>(total) & 0x7fffffffu) > 0x7f800000u) { return total; }
  let probability = exp(logits(i) - sums(2u * row)) / total; // not through a logarithm, which cards take to few digits
  return p.scale * select(probability, probability - 1.0, i % p.V == u32(aim));
}`,
  });
}
