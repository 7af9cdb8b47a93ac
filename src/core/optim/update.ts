/** One optimizer step over a method's parameters: the gradient's norm, clipping, AdamW. Decoupled weight decay hits every trained tensor. */
import type { Device } from "../devices/device.ts";
import type { Parameter } from "../methods/method.ts";

export interface UpdateOptions {
  betas: readonly [number, number];
  epsilon: number;
  weightDecay: number;
  /** Gradients longer than this are scaled down to it; null leaves them alone. */
  clipGradNorm: number | null;
}

/** L2 norm over all gradients, in f64; NaN or infinite when any entry is. */
export async function gradientNorm(device: Device, parameters: readonly Parameter[]): Promise<number> {
  const sums = await device.sumSquares(parameters.map(({ gradient }) => gradient));
  return Math.sqrt(sums.reduce((total, sum) => total + sum, 0));
}

/** AdamW update number `step` (from 1) with gradients clipped to the norm; touches nothing but values and moments. */
export function updateParameters(
  device: Device,
  parameters: readonly Parameter[],
  gradNorm: number,
  learningRate: number,
  step: number,
  options: UpdateOptions,
): void {
  const { betas, epsilon, weightDecay, clipGradNorm } = options;
  const gradientScale = clipGradNorm !== null && gradNorm > clipGradNorm ? clipGradNorm / gradNorm : 1;
  for (const { value, gradient, firstMoment, secondMoment } of parameters)
    device.adamwStep(value, gradient, firstMoment, secondMoment, {
      learningRate,
      beta1: betas[0],
      beta2: betas[1],
      epsilon,
      weightDecay,
      step,
      gradientScale,
    });
}

/** Gradients to zero, before the micro-batches of an update add to them. */
export function zeroGradients(device: Device, parameters: readonly Parameter[]): void {
  for (const { gradient } of parameters) device.fill(gradient, 0);
}
