/** adamwStep: value and both moments of an element by one invocation. */
import { type AdamWOptions, sizeOf, type Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

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
