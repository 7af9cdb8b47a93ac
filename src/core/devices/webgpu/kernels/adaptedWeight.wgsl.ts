/** Adapted weights: W̃ is an expression of its place, taken where an op brings its operand into workgroup memory. Shared by ops; none by itself. */
import type { AdaptedWeight, Tensor } from "../../device.ts";
import type { Param } from "../program.ts";
import { hashSource } from "./dropout.wgsl.ts";

/** dither.ts's dither, integer for integer. */
const ditherSource = `${hashSource}
fn adapted_bf16(i: u32, j: u32) -> f32 {
  let bits = bitcast<u32>(adapted(i, j));
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return bitcast<f32>(bits | 0x00400000u); }
  let threshold = ((mixed(0x9e3779b9u, i) | 1u) * (mixed(0x7f4a7c15u, j) | 1u)) >> 16u;
  return bitcast<f32>((bits + threshold) & 0xffff0000u);
}`;
/** Levels are rounded to nearest. */
const levelSource = "fn adapted_bf16(i: u32, j: u32) -> f32 { return rounded(adapted(i, j)); }";

/** What a kernel needs to say `adapted(i, j)`: entry (i, j) of W̃ in f32, or `adapted_bf16(i, j)`: the same as bf16. */
export interface AdaptedSource {
  /** The form, part of the kernel's name. */
  form: string;
  tensors: Record<string, Tensor>;
  params: Record<string, Param>;
  wgsl: string;
}

export function adaptedSource(adapted: AdaptedWeight): AdaptedSource {
  const { weight, scale, base } = adapted;
  const wide = weight.shape[1];
  const sum = (added: string) => (base ? `w + ${added}` : added);
  if (adapted.kind === "groupScaled") {
    const { alpha, beta } = adapted;
    return {
      form: `groupScaled${base ? "" : " added"}`,
      tensors: { weight, alpha, beta },
      params: { wide, groupRows: weight.shape[0] / alpha.shape[0], s: { f32: scale } },
      wgsl: `fn adapted(i: u32, j: u32) -> f32 {
  let w = weight(i * p.wide + j);
  return ${sum("w * p.s * beta(i) * alpha(i / p.groupRows * p.wide + j)")};
}
${ditherSource}`,
    };
  }
  const { left, right, rank, quantization } = adapted;
  const level = quantization
    ? `let group = i * (p.wide / p.groupSize) + j / p.groupSize;
  return steps(group) * (clamp(round(value / steps(group) + zeros(group)), 0.0, 15.0) - zeros(group));`
    : "return value;";
  return {
    form: `maskedLowRank${base ? "" : " added"}${quantization ? " quantized" : ""}`,
    tensors: { weight, left, right, ...(quantization ? { steps: quantization.scales, zeros: quantization.zeros } : {}) },
    params: { wide, r: right.shape[0], rank, s: { f32: scale }, ...(quantization ? { groupSize: quantization.groupSize } : {}) },
    wgsl: `fn adapted(i: u32, j: u32) -> f32 {
  let w = weight(i * p.wide + j);
  if (is_zero(w)) { return 0.0; }
  var product = 0.0;
  for (var k = 0u; k < p.rank; k++) { product += left(i * p.r + k) * right(k * p.wide + j); }
  let value = ${sum("p.s * product")};
  ${level}
}
${quantization ? levelSource : ditherSource}`,
  };
}
