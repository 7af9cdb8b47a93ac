/**
 * What a fine-tuning method is to the model: it owns the trainable parameters and says how each linear map runs forward and backward.
 * The model calls it layer by layer; it never sees the layer's inside. Every method has the same layout, so who knows one knows all.
 *
 * A decoder layer has four stages, each with one input shared by its linear maps: qkv, o, gate/up, down. Stages are numbered through the
 * model, 4·layer + {0, 1, 2, 3}; backward visits them from the top and stops below the lowest one that trains something.
 */
import type { Device, Tensor } from "../devices/device.ts";
import type { Projection } from "../model/config.ts";

/** Where a stage stands within its layer. */
export const stageOf: Record<Projection, 0 | 1 | 2 | 3> = { q_proj: 0, k_proj: 0, v_proj: 0, o_proj: 1, gate_proj: 2, up_proj: 2, down_proj: 3 };

/** One linear map: weight (out, in), y = x·Wᵀ + bias. */
export interface Linear {
  /** Hugging Face name without `.weight`. */
  name: string;
  layer: number;
  projection: Projection;
  /** 4·layer + stageOf[projection]. */
  stage: number;
  weight: Tensor;
  bias: Tensor | null;
}

/** One trained tensor with its gradient and AdamW moments, all f32 and of one size. */
export interface Parameter {
  name: string;
  value: Tensor;
  gradient: Tensor;
  firstMoment: Tensor;
  secondMoment: Tensor;
}

/** Which micro-batch is coming: dropout and rank draws depend on it and on the seed alone. `batch` is its global index. */
export interface BatchPlace {
  step: number;
  batch: number;
}

export interface TuningMethod {
  /** The lowest stage that trains something; −1 when the embedding does, above every stage when nothing below the head does. */
  readonly lowestStage: number;
  /** Trained tensors, in an order that depends on the model and the configuration only. */
  readonly parameters: readonly Parameter[];
  /** f32 accumulator of a parameter that is trained as a whole outside the linear maps (norms, embedding, head), or null. */
  gradientOf(name: string): Tensor | null;
  /** Told before every micro-batch of training, and null before evaluation and generation: what is random then rests. */
  beginBatch?(place: BatchPlace | null): void;
  /**
   * y = x·Wᵀ (+ bias) into out (N, out), added to it with `accumulate`; x (N, in). What backward needs of this map beside its stage's input is
   * handed to `keep`, which is null when no backward follows; the model frees it.
   */
  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: ((tensor: Tensor) => void) | null): void;
  /** What backward needs of a stage's input x (N, in): a new tensor, x itself (the model then keeps it), or null. */
  saveInput(stage: number, x: Tensor): Tensor | null;
  /**
   * Adds to the method's own gradients; unless dX is null, dX (N, in) = dOut·W, added with `accumulate`. `saved` is what saveInput returned, `kept` what
   * linearForward handed to `keep`, or null.
   */
  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean, kept: Tensor | null): void;
  /** Carries the updated values into the weights that forward reads. Called after every optimizer step. */
  afterUpdate(): void;
}

/** A method whose parameters stand beside frozen weights: LoRS, LoRA, DoRA, SPP, SQFT. */
export interface AdapterMethod extends TuningMethod {
  /** The maps it adapts, in (layer, projection) order. */
  readonly linears: readonly Linear[];
  /** Whether W̃ is zero wherever W is. */
  readonly keepsZeros: boolean;
  /** out (out, in), f32 or the weight's dtype = the adapted weight, summed in f32 and brought to out's dtype once. Throws when `linear` is none of `linears`. */
  mergedWeight(out: Tensor, linear: Linear): void;
  /** Gives parameters, gradients and moments back; the weights are as they were. */
  release(): void;
}

/** Allocates the gradient and the moments of a trained tensor, the moments zero. */
export function parameterFor(device: Device, name: string, value: Tensor): Parameter {
  const gradient = device.allocate(value.shape, "f32", "gradients");
  const firstMoment = device.allocate(value.shape, "f32", "optimizer");
  const secondMoment = device.allocate(value.shape, "f32", "optimizer");
  for (const tensor of [gradient, firstMoment, secondMoment]) device.fill(tensor, 0);
  return { name, value, gradient, firstMoment, secondMoment };
}

/** y = x·Wᵀ (+ bias): what a linear map computes when nothing about it is being tuned. */
export function frozenForward(device: Device, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
  device.matmul(out, x, linear.weight, { transposeB: true, accumulate });
  if (linear.bias) device.addBias(out, linear.bias);
}

/** dX = dOut·W. */
export function frozenBackward(device: Device, dX: Tensor | null, linear: Linear, dOut: Tensor, accumulate: boolean): void {
  if (dX) device.matmul(dX, dOut, linear.weight, { accumulate });
}
