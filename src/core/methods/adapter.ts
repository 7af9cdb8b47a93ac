/**
 * What LoRS, LoRA, DoRA, SPP and SQFT have in common: trained tensors beside each target's frozen weight, their random start, dropout, and what is
 * drawn anew for each batch. A method's own file says what its linear maps compute, forward, backward and merged.
 * The rule to keep: what is random depends on the run's seed, the tensor's or map's name and the batch alone, so that backward, recomputed layers and
 * resumed runs see what forward saw.
 */
import type { AdaptedWeight, Device, DropoutOptions, DType, Tensor } from "../devices/device.ts";
import { Random, threefry } from "../random.ts";
import { type AdapterMethod, type BatchPlace, frozenBackward, frozenForward, type Linear, type Parameter, parameterFor } from "./method.ts";

/** 32 bits of a name (FNV-1a), to tell the random streams of tensors apart. */
export function nameHash(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Takes what backward needs of a map beside its stage's input; null when no backward follows. */
export type Keep = ((tensor: Tensor) => void) | null;

/** `A` is what a method keeps for one adapted map. */
export abstract class LinearAdapters<A> implements AdapterMethod {
  abstract readonly keepsZeros: boolean;
  readonly linears: readonly Linear[];
  readonly lowestStage: number;
  readonly parameters: Parameter[] = [];
  protected readonly device: Device;
  protected readonly adapters = new Map<string, A>();
  /** Null while planning: then nothing is drawn. */
  protected readonly seed: number | null;
  /** The training batch being run; null in evaluation and generation. */
  protected place: BatchPlace | null = null;
  readonly #stages: ReadonlySet<number>;
  readonly #dropout: number;
  readonly #held: Tensor[] = [];
  readonly #constants = new Map<string, Tensor>();

  constructor(device: Device, linears: readonly Linear[], seed: number | null, dropout: number) {
    this.device = device;
    this.linears = linears;
    this.seed = seed;
    this.#dropout = dropout;
    this.#stages = new Set(linears.map(({ stage }) => stage));
    this.lowestStage = Math.min(...this.#stages);
  }

  /** linearForward of an adapted map, without its bias. */
  protected abstract forward(adapter: A, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void;
  /** linearBackward of an adapted map; x is its stage's input. */
  protected abstract backward(adapter: A, dX: Tensor | null, linear: Linear, dOut: Tensor, x: Tensor, accumulate: boolean, kept: Tensor | null): void;
  /** out = the merged weight of an adapted map. */
  protected abstract merge(adapter: A, out: Tensor, linear: Linear): void;

  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void {
    const adapter = this.adapters.get(linear.name);
    if (!adapter) {
      frozenForward(this.device, out, linear, x, accumulate);
      return;
    }
    this.forward(adapter, out, linear, x, accumulate, keep);
    if (linear.bias) this.device.addBias(out, linear.bias);
  }

  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean, kept: Tensor | null): void {
    const adapter = this.adapters.get(linear.name);
    if (adapter) this.backward(adapter, dX, linear, dOut, saved as Tensor, accumulate, kept);
    else frozenBackward(this.device, dX, linear, dOut, accumulate);
  }

  mergedWeight(out: Tensor, linear: Linear): void {
    const adapter = this.adapters.get(linear.name);
    if (!adapter) throw new Error(`${linear.name} has no adapter`);
    this.merge(adapter, out, linear);
  }

  gradientOf(): null {
    return null;
  }

  beginBatch(place: BatchPlace | null): void {
    this.place = place;
  }

  /** x itself: every adapter's gradient needs the whole input, and a reference to it costs nothing beside it. */
  saveInput(stage: number, x: Tensor): Tensor | null {
    return this.#stages.has(stage) ? x : null;
  }

  afterUpdate(): void {}

  release(): void {
    for (const { value, gradient, firstMoment, secondMoment } of this.parameters)
      for (const tensor of [value, gradient, firstMoment, secondMoment]) this.device.free(tensor);
    for (const tensor of [...this.#held, ...this.#constants.values()]) this.device.free(tensor);
    this.#held.length = 0;
    this.#constants.clear();
    this.parameters.length = 0;
    this.adapters.clear();
  }

  // What an adapter is made of

  /** A trained tensor: zero, or uniform within ±1/√columns, which is kaiming-uniform with a = √5. */
  protected parameter(name: string, shape: readonly number[], start: "zero" | "kaiming"): Parameter {
    const value = this.device.allocate(shape, "f32", "trainable");
    if (start === "zero" || this.seed === null) this.device.fill(value, 0);
    else this.device.write(value, kaiming(shape, new Random(this.seed, nameHash(name))));
    const parameter = parameterFor(this.device, name, value);
    this.parameters.push(parameter);
    return parameter;
  }

  /** A tensor that lives as long as the method. */
  protected held(shape: readonly number[], dtype: DType): Tensor {
    const tensor = this.device.allocate(shape, dtype, "workspace");
    this.#held.push(tensor);
    return tensor;
  }

  /** A vector of one value, shared by all who ask for it. Asked for while the method is made, so that its memory is counted from the start. */
  protected constant(value: number, length: number): Tensor {
    const key = `${value}:${length}`;
    let tensor = this.#constants.get(key);
    if (!tensor) {
      tensor = this.device.allocate([length], "f32", "workspace");
      this.device.fill(tensor, value);
      this.#constants.set(key, tensor);
    }
    return tensor;
  }

  /** A tensor that the caller frees before it returns, or keeps for backward. */
  protected temporary(shape: readonly number[], dtype: DType): Tensor {
    return this.device.allocate(shape, dtype, "activations");
  }

  /**
   * scale · a·b, (rows, rank) f32: the thin products of adapters. The scale is a vector over the thin side, because that is the smallest thing to
   * multiply by it.
   */
  protected thin(a: Tensor, b: Tensor, transposeB: boolean, scale: Tensor): Tensor {
    const product = this.temporary([a.shape[0], b.shape[transposeB ? 0 : 1]], "f32");
    this.device.matmul(product, a, b, { transposeB });
    this.device.scaleColumns(product, product, scale, false);
    return product;
  }

  // Weights that are formed inside products (LoRS, SPP, SQFT)

  /** out (+)= x·W̃ᵀ; with dropout x·Wᵀ + drop(x)·Pᵀ, P = W̃ − W, because the two parts then have inputs of their own. */
  protected adaptedForward(weight: AdaptedWeight, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    const d = this.device;
    const input = this.droppedInput(x, linear);
    if (input === x) {
      d.adaptedMatmul(out, x, weight, { transposeB: true, accumulate });
      return;
    }
    d.matmul(out, x, linear.weight, { transposeB: true, accumulate });
    d.adaptedMatmul(out, input, { ...weight, base: false }, { transposeB: true, accumulate: true });
    d.free(input);
  }

  /** dX (+)= dOut·W̃; with dropout dOut·W + (dOut·P)∘mask. */
  protected adaptedBackward(weight: AdaptedWeight, dX: Tensor, linear: Linear, dOut: Tensor, accumulate: boolean): void {
    const d = this.device;
    if (!this.dropoutOf(linear)) {
      d.adaptedMatmul(dX, dOut, weight, { accumulate });
      return;
    }
    d.matmul(dX, dOut, linear.weight, { accumulate });
    this.addThroughDropout(dX, linear, (dInput, add) => d.adaptedMatmul(dInput, dOut, { ...weight, base: false }, { accumulate: add }));
  }

  /** Adds the exact gradients of the two tensors that `weight` is made of, as {@link Device.adaptedGradients} orders them. */
  protected exactGradients(weight: AdaptedWeight, first: Parameter, second: Parameter, linear: Linear, dOut: Tensor, x: Tensor): void {
    const input = this.droppedInput(x, linear);
    this.device.adaptedGradients(first.gradient, second.gradient, dOut, input, weight);
    if (input !== x) this.device.free(input);
  }

  // Dropout

  /** Whether this map's adapter sees a thinned-out input in this batch. */
  protected dropoutOf(linear: Linear): DropoutOptions | null {
    if (this.#dropout === 0 || !this.place) return null;
    return { probability: this.#dropout, seed: this.drawn(this.place.batch, linear.name) };
  }

  /** The adapter's input: x itself, or a new tensor with entries dropped, which the caller frees. */
  protected droppedInput(x: Tensor, linear: Linear): Tensor {
    const dropout = this.dropoutOf(linear);
    if (!dropout) return x;
    const dropped = this.temporary(x.shape, x.dtype);
    this.device.dropout(dropped, x, dropout);
    return dropped;
  }

  /** dX += what `add` adds, through the mask of this map's adapter input. */
  protected addThroughDropout(dX: Tensor, linear: Linear, add: (dInput: Tensor, accumulate: boolean) => void): void {
    const dropout = this.dropoutOf(linear);
    if (!dropout) {
      add(dX, true);
      return;
    }
    const dInput = this.temporary(dX.shape, dX.dtype);
    add(dInput, false);
    this.device.dropout(dX, dInput, { ...dropout, accumulate: true });
    this.device.free(dInput);
  }

  /** 32 bits that depend on the run's seed, a count and a name. */
  protected drawn(count: number, name: string): number {
    const seed = this.seed ?? 0;
    const words = new Uint32Array(2);
    threefry(words, count >>> 0, nameHash(name), seed >>> 0, Math.floor(seed / 4294967296));
    return words[0];
  }
}

function kaiming(shape: readonly number[], random: Random): Float32Array {
  const [rows, columns] = shape;
  const bound = 1 / Math.sqrt(columns);
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = bound * (2 * random.uniform() - 1);
  return values;
}
