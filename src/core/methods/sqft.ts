/**
 * SQFT (EMNLP Findings 2024), its SparsePEFT: P = s·(B·A) ∘ M, y = x·Wᵀ + drop(x)·Pᵀ, A (r, in) random, B (out, r) zero, s = alpha/r, exact masked gradients.
 * `neuralSearch` draws a rank for each layer and step, and its batches use and train A[:r′] and B[:, :r′] alone; evaluation and merge use the whole rank.
 * `quantize` fits 16 levels to each group of input columns of the base when it is attached, zero among them, and rounds base and adapter together to
 * them in forward; backward lets the rounding through. Before the first update the model is then the quantised base, and a merged weight holds levels.
 * The rule to keep: only x is kept; neither P nor G exists as a whole.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { AdaptedWeight, Device, GroupQuantization, Tensor } from "../devices/device.ts";
import { LinearAdapters } from "./adapter.ts";
import type { Linear, Parameter } from "./method.ts";

interface SqftAdapter {
  /** (r, in). */
  a: Parameter;
  /** (out, r). */
  b: Parameter;
  /** At the whole rank. */
  weight: AdaptedWeight & { kind: "maskedLowRank" };
}

export class SQFT extends LinearAdapters<SqftAdapter> {
  readonly keepsZeros = true;
  readonly #search: readonly number[] | null;

  constructor(device: Device, linears: readonly Linear[], config: Extract<AdapterConfig, { name: "sqft" }>, seed: number | null) {
    super(device, linears, seed, config.dropout);
    const { rank, alpha, neuralSearch, quantize } = config;
    this.#search = neuralSearch;
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const a = this.parameter(`${linear.name}.sqft_A`, [rank, width], "kaiming");
      const b = this.parameter(`${linear.name}.sqft_B`, [out, rank], "zero");
      const quantization = quantize && this.#fit(linear.weight, quantize.groupSize);
      const shared = { weight: linear.weight, scale: alpha / rank, base: true, left: b.value, right: a.value, rank, quantization };
      this.adapters.set(linear.name, { a, b, weight: { kind: "maskedLowRank", ...shared } });
    }
  }

  #fit(weight: Tensor, groupSize: number): GroupQuantization {
    const shape = [weight.shape[0], weight.shape[1] / groupSize];
    const quantization = { scales: this.held(shape, "f32"), zeros: this.held(shape, "f32"), groupSize };
    this.device.fitQuantization(quantization, weight);
    return quantization;
  }

  /** The weight as this batch sees it. */
  #now({ weight }: SqftAdapter, { layer }: Linear): AdaptedWeight {
    if (!this.#search || !this.place) return weight;
    return { ...weight, rank: this.#search[this.drawn(this.place.step, `layer ${layer}`) % this.#search.length] };
  }

  protected forward(adapter: SqftAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    this.adaptedForward(this.#now(adapter, linear), out, linear, x, accumulate);
  }

  protected backward(adapter: SqftAdapter, dX: Tensor | null, linear: Linear, dOut: Tensor, x: Tensor, accumulate: boolean): void {
    const weight = this.#now(adapter, linear);
    if (dX) this.adaptedBackward(weight, dX, linear, dOut, accumulate);
    this.exactGradients(weight, adapter.b, adapter.a, linear, dOut, x);
  }

  protected merge({ weight }: SqftAdapter, out: Tensor): void {
    this.device.formAdapted(out, weight);
  }
}
