/**
 * LoRS (arXiv 2501.08582): W̃ = (W + s·A·B) ∘ M with M = (W ≠ 0), so that a pruned model stays pruned. A (out, r) starts at zero, B (r, in) at the main
 * directions of the gradient (lorsInit.ts); s = alpha/√r. In PEFT's names A is lora_B and B is lora_A.
 * Gradients: `exact`, dA = s (M∘G)Bᵀ, dB = s Aᵀ(M∘G) with G = dOutᵀx in tiles; or `ste`, the paper's, which passes the mask straight through so that
 * G never exists: dA = s dOutᵀ(xBᵀ), dB = s (dOut·A)ᵀx. We keep the s that the paper's code drops. They are not the same gradient.
 * The rule to keep: between forward and backward nothing is kept but x; W̃ is formed anew inside the product, a panel at a time.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { AdaptedWeight, Device, Tensor } from "../devices/device.ts";
import { LinearAdapters } from "./adapter.ts";
import type { Linear, Parameter } from "./method.ts";

export type LorsConfig = Extract<AdapterConfig, { name: "lors" }>;

/** One map's adapter. */
export interface LorsAdapter {
  linear: Linear;
  /** (out, r). */
  a: Parameter;
  /** (r, in). */
  b: Parameter;
  weight: AdaptedWeight;
}

export class LoRS extends LinearAdapters<LorsAdapter> {
  readonly keepsZeros = true;
  /** Factor of A·B. */
  readonly scale: number;
  readonly #exact: boolean;
  readonly #scales: Tensor;

  constructor(device: Device, linears: readonly Linear[], { rank, alpha, gradient }: LorsConfig, seed: number | null) {
    super(device, linears, seed, 0);
    this.scale = alpha / Math.sqrt(rank);
    this.#exact = gradient === "exact";
    this.#scales = this.constant(this.scale, rank);
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const a = this.parameter(`${linear.name}.lors_A`, [out, rank], "zero");
      const b = this.parameter(`${linear.name}.lors_B`, [rank, width], "kaiming");
      const weight = {
        kind: "maskedLowRank",
        weight: linear.weight,
        scale: this.scale,
        base: true,
        left: a.value,
        right: b.value,
        rank,
        quantization: null,
      } as const;
      this.adapters.set(linear.name, { linear, a, b, weight });
    }
  }

  /** Every adapter, in the order of `linears`. */
  all(): LorsAdapter[] {
    return [...this.adapters.values()];
  }

  protected forward({ weight }: LorsAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    this.adaptedForward(weight, out, linear, x, accumulate);
  }

  protected backward(adapter: LorsAdapter, dX: Tensor | null, linear: Linear, dOut: Tensor, x: Tensor, accumulate: boolean): void {
    const { a, b, weight } = adapter;
    if (dX) this.adaptedBackward(weight, dX, linear, dOut, accumulate);
    if (this.#exact) this.exactGradients(weight, a, b, linear, dOut, x);
    else this.#straightThrough(adapter, dOut, x);
  }

  #straightThrough({ a, b }: LorsAdapter, dOut: Tensor, x: Tensor): void {
    const d = this.device;
    const inside = this.thin(x, b.value, true, this.#scales);
    d.matmul(a.gradient, dOut, inside, { transposeA: true, accumulate: true });
    d.free(inside);
    const outside = this.thin(dOut, a.value, false, this.#scales);
    d.matmul(b.gradient, outside, x, { transposeA: true, accumulate: true });
    d.free(outside);
  }

  protected merge({ weight }: LorsAdapter, out: Tensor): void {
    this.device.formAdapted(out, weight);
  }
}
