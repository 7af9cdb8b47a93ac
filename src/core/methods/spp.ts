/**
 * SPP (ICML 2024): each remaining weight is scaled, W̃_ij = W_ij (1 + s·beta_i·alpha_gj), row i in group g = ⌊groups·i/out⌋. alpha (groups, in) random,
 * beta (out) zero. Multiplicative, so zeros stay without a mask. Gradients, with E = W∘G: dbeta_i = s Σ_j E_ij alpha_gj, dalpha_gj = s Σ_{i∈g} beta_i E_ij.
 * With dropout the scaled part has an input of its own, y = x·Wᵀ + drop(x)·Pᵀ with P = W̃ − W, and so two products each way instead of one.
 * Only x is kept between forward and backward.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { AdaptedWeight, Device, Tensor } from "../devices/device.ts";
import { LinearAdapters } from "./adapter.ts";
import type { Linear, Parameter } from "./method.ts";

interface SppAdapter {
  /** (groups, in). */
  alpha: Parameter;
  /** (out). */
  beta: Parameter;
  weight: AdaptedWeight;
}

export class SPP extends LinearAdapters<SppAdapter> {
  readonly keepsZeros = true;

  constructor(device: Device, linears: readonly Linear[], config: Extract<AdapterConfig, { name: "spp" }>, seed: number | null) {
    super(device, linears, seed, config.dropout);
    const { groups, scaling: scale } = config;
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const alpha = this.parameter(`${linear.name}.spp_alpha`, [groups, width], "kaiming");
      const beta = this.parameter(`${linear.name}.spp_beta`, [out], "zero");
      const weight = { kind: "groupScaled", weight: linear.weight, scale, base: true, alpha: alpha.value, beta: beta.value } as const;
      this.adapters.set(linear.name, { alpha, beta, weight });
    }
  }

  protected forward({ weight }: SppAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    this.adaptedForward(weight, out, linear, x, accumulate);
  }

  protected backward({ alpha, beta, weight }: SppAdapter, dX: Tensor | null, linear: Linear, dOut: Tensor, x: Tensor, accumulate: boolean): void {
    if (dX) this.adaptedBackward(weight, dX, linear, dOut, accumulate);
    this.exactGradients(weight, alpha, beta, linear, dOut, x);
  }

  protected merge({ weight }: SppAdapter, out: Tensor): void {
    this.device.formAdapted(out, weight);
  }
}
