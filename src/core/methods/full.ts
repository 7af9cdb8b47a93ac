/**
 * Full fine-tuning: every weight of the model is trained, dW (out, in) for each linear map, norms, embedding, head and biases included.
 * In f32 the weight is its own master; in bf16 matrices have an f32 master that is rounded into the weight after each update:
 * 2 (weight) + 4 (master) + 4 (gradient) + 8 (moments) = 18 bytes a parameter.
 * With `keepZeros` the linear maps' zeros stay: their gradient is masked as it is added, so the norm does not count it either, and a weight whose value,
 * gradient and moments are all zero is not moved by AdamW, nor by its decay. That keeps the mask in the weight itself.
 */
import type { Device, Tensor } from "../devices/device.ts";
import type { LlamaTensors } from "../model/tensors.ts";
import { frozenBackward, frozenForward, type Linear, type Parameter, parameterFor, type TuningMethod } from "./method.ts";

export class FullFineTuning implements TuningMethod {
  readonly lowestStage = -1;
  readonly parameters: Parameter[] = [];
  readonly #device: Device;
  readonly #weights: LlamaTensors["byName"];
  readonly #byName = new Map<string, Parameter>();
  readonly #keepZeros: boolean;

  constructor(device: Device, tensors: LlamaTensors, { keepZeros }: { keepZeros: boolean } = { keepZeros: false }) {
    this.#device = device;
    this.#keepZeros = keepZeros;
    this.#weights = tensors.byName;
    for (const [name, weight] of tensors.byName) {
      const parameter = parameterFor(device, name, masterOf(device, weight));
      this.parameters.push(parameter);
      this.#byName.set(name, parameter);
    }
  }

  gradientOf(name: string): Tensor | null {
    return this.#byName.get(name)?.gradient ?? null;
  }

  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    frozenForward(this.#device, out, linear, x, accumulate);
  }

  saveInput(_stage: number, x: Tensor): Tensor {
    return x;
  }

  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean): void {
    if (!saved) throw new Error(`${linear.name}: backward without its input`);
    const gradient = this.#gradient(`${linear.name}.weight`);
    this.#device.matmul(gradient, dOut, saved, { transposeA: true, accumulate: true });
    if (this.#keepZeros) this.#device.maskBy(gradient, linear.weight);
    if (linear.bias) this.#device.biasBackward(this.#gradient(`${linear.name}.bias`), dOut);
    frozenBackward(this.#device, dX, linear, dOut, accumulate);
  }

  afterUpdate(): void {
    for (const { name, value } of this.parameters) {
      const weight = this.#weights.get(name) as Tensor;
      if (weight !== value) this.#device.copy(weight, value);
    }
  }

  /** Gives back everything but the weights themselves; used when a warm-up by full fine-tuning ends. */
  release(): void {
    for (const { name, value, gradient, firstMoment, secondMoment } of this.parameters) {
      if (value !== this.#weights.get(name)) this.#device.free(value);
      for (const tensor of [gradient, firstMoment, secondMoment]) this.#device.free(tensor);
    }
    this.parameters.length = 0;
  }

  #gradient(name: string): Tensor {
    return (this.#byName.get(name) as Parameter).gradient;
  }
}

function masterOf(device: Device, weight: Tensor): Tensor {
  if (weight.dtype === "f32") return weight;
  const master = device.allocate(weight.shape, "f32", "trainable");
  device.copy(master, weight);
  return master;
}
