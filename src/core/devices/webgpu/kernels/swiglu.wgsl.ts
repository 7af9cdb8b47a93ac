/** swigluForward and swigluBackward. */
import { sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

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
