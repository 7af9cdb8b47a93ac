/** Ops in which every element of the result stands alone: copies, biases, embeddings, SwiGLU, scales, masks, dropout, AdamW, DoRA's gains. */
import type { AdamWOptions, Tensor } from "../../device.ts";
import { sizeOf } from "../../device.ts";
import type { Programs } from "../program.ts";

export function copy(programs: Programs, out: Tensor, x: Tensor, accumulate = false): void {
  const wgsl = () => "fn value_out(i: u32) -> f32 { return x(i); }";
  programs.map({ name: "copy", outs: { out }, count: sizeOf(out.shape), tensors: { x }, params: {}, accumulate, wgsl });
}

export function fill(programs: Programs, out: Tensor, value: number): void {
  programs.map({
    name: "fill",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: {},
    params: { constant: { f32: value } },
    wgsl: () => "fn value_out(i: u32) -> f32 { return p.constant; }",
  });
}

export function addBias(programs: Programs, out: Tensor, bias: Tensor, C: number): void {
  programs.map({
    name: "addBias",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { bias },
    params: { C },
    accumulate: true,
    wgsl: () => "fn value_out(i: u32) -> f32 { return bias(i % p.C); }",
  });
}

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

/**
 * 1 / (1 + e⁻ˣ) without an overflow that a driver could make NaN of. Drivers' own exponentials lose digits as |x| grows (3 + 2|x| units are allowed), so
 * this one takes whole powers of two off first, ln 2 in two parts.
 */
const sigmoid = `fn exponential(x: f32) -> f32 {
  let n = round(max(x, -104.0) * 1.44269504);
  let r = (max(x, -104.0) - n * 0.693359375) + n * 2.12194440e-4;
  let tail = 0.16666667 + r * (0.041666667 + r * (0.0083333333 + r * (0.0013888889 + r * 0.00019841270)));
  let scaled = 1.0 + r + r * r * (0.5 + r * tail);
  let half = i32(n) / 2;
  return ldexp(ldexp(scaled, half), i32(n) - half);
}
fn sigmoid(x: f32) -> f32 { let e = exponential(-abs(x)); return select(e, 1.0, x >= 0.0) / (1.0 + e); }`;

export function swigluForward(programs: Programs, out: Tensor, gate: Tensor, up: Tensor): void {
  programs.map({
    name: "swigluForward",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { gate, up },
    params: {},
    wgsl: () => `${sigmoid}\nfn value_out(i: u32) -> f32 { let g = gate(i); return g * sigmoid(g) * up(i); }`,
  });
}

export function swigluBackward(programs: Programs, dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
  programs.map({
    name: "swigluBackward",
    outs: { dGate, dUp },
    count: sizeOf(dOut.shape),
    tensors: { dOut, gate, up },
    params: {},
    wgsl: () => `${sigmoid}
fn value_dGate(i: u32) -> f32 { let g = gate(i); let s = sigmoid(g); return dOut(i) * up(i) * s * (1.0 + g * (1.0 - s)); }
fn value_dUp(i: u32) -> f32 { let g = gate(i); return dOut(i) * g * sigmoid(g); }`,
  });
}

/** The bias corrections are the host's, in f64. */
export function adamwStep(programs: Programs, value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, o: AdamWOptions): void {
  programs.map({
    name: "adamwStep",
    outs: { value, firstMoment, secondMoment },
    count: sizeOf(value.shape),
    tensors: { gradient },
    params: {
      rate: { f32: o.learningRate },
      beta1: { f32: o.beta1 },
      rest1: { f32: 1 - o.beta1 },
      beta2: { f32: o.beta2 },
      rest2: { f32: 1 - o.beta2 },
      epsilon: { f32: o.epsilon },
      decay: { f32: o.weightDecay },
      gradientScale: { f32: o.gradientScale },
      correction1: { f32: 1 / (1 - o.beta1 ** o.step) },
      correction2: { f32: 1 / (1 - o.beta2 ** o.step) },
    },
    wgsl: () => `fn value_firstMoment(i: u32) -> f32 { return p.beta1 * firstMoment(i) + p.rest1 * (gradient(i) * p.gradientScale); }
fn value_secondMoment(i: u32) -> f32 { let g = gradient(i) * p.gradientScale; return p.beta2 * secondMoment(i) + p.rest2 * g * g; }
fn value_value(i: u32) -> f32 {
  let old = value(i);
  let step = value_firstMoment(i) * p.correction1 / (sqrt(value_secondMoment(i) * p.correction2) + p.epsilon);
  return old - p.rate * (step + p.decay * old);
}`,
  });
}

export function scaleColumns(programs: Programs, out: Tensor, x: Tensor, scale: Tensor, C: number, accumulate: boolean): void {
  programs.map({
    name: "scaleColumns",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x, scale },
    params: { C },
    accumulate,
    wgsl: () => "fn value_out(i: u32) -> f32 { return x(i) * scale(i % p.C); }",
  });
}

export function scaleRows(programs: Programs, out: Tensor, x: Tensor, scale: Tensor, C: number): void {
  programs.map({
    name: "scaleRows",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x, scale },
    params: { C },
    wgsl: () => "fn value_out(i: u32) -> f32 { return x(i) * scale(i / p.C); }",
  });
}

export function maskBy(programs: Programs, out: Tensor, weight: Tensor): void {
  programs.map({
    name: "maskBy",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { weight },
    params: {},
    wgsl: () => "fn value_out(i: u32) -> f32 { if (is_zero(weight(i))) { return 0.0; } return out(i); }",
  });
}

/** The hash is dropoutHash.ts's, integer for integer. */
export function dropout(programs: Programs, out: Tensor, x: Tensor, seed: number, threshold: number, scale: number, accumulate: boolean): void {
  programs.map({
    name: "dropout",
    outs: { out },
    count: sizeOf(out.shape),
    tensors: { x },
    params: { seed, threshold, scale: { f32: scale } },
    accumulate,
    wgsl: () => `fn mixed(index: u32) -> u32 {
  var h = p.seed ^ index;
  h ^= h >> 16u; h *= 0x21f0aaadu; h ^= h >> 15u; h *= 0x735a2d97u;
  return h ^ (h >> 15u);
}
fn value_out(i: u32) -> f32 { if (mixed(i) < p.threshold) { return 0.0; } return x(i) * p.scale; }`,
  });
}

export function doraGains(
  programs: Programs,
  norm: Tensor,
  gain: Tensor,
  magnitude: Tensor,
  squares: Tensor,
  cross: Tensor,
  gram: Tensor,
  scale: number,
): void {
  programs.map({
    name: "doraGains",
    outs: { norm, gain },
    count: sizeOf(norm.shape),
    tensors: { magnitude, squares, cross, gram },
    params: { twice: { f32: 2 * scale }, square: { f32: scale * scale } },
    wgsl: () => `fn value_norm(i: u32) -> f32 {
  let square = squares(i) + p.twice * cross(i) + p.square * gram(i);
  if (square < 0.0) { return 0.0; }
  return sqrt(square);
}
fn value_gain(i: u32) -> f32 { let n = value_norm(i); if (n == 0.0) { return 0.0; } return magnitude(i) / n; }`,
  });
}
