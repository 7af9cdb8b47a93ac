/**
 * Two methods as their authors run them, on the same matrix products as ours, for the bench to compare with; no run file names them.
 * Both are treated kindly: their weights are formed in one pass by the kernels ours are formed by, where frameworks take several.
 */
import type { AdaptedWeight, Device, Tensor } from "../devices/device.ts";
import { bytesOf, sizeOf } from "../devices/device.ts";
import { type Keep, LinearAdapters } from "../methods/adapter.ts";
import type { Linear, Parameter } from "../methods/method.ts";

interface MaskedAdapter {
  /** (out, r), zero at the start. */
  b: Parameter;
  /** (r, in). */
  a: Parameter;
  weight: AdaptedWeight;
}

/**
 * SQFT's SparsePEFT, or LoRS without its own backward, as automatic differentiation runs them: W̃ is written to memory and kept beside x and the mask, and
 * backward forms the dense G. 6N·out·in FLOPs; bytes kept: x, W̃, and the mask at a byte a weight. (The mask's values are read from W itself.)
 */
export class NaiveMasked extends LinearAdapters<MaskedAdapter> {
  readonly keepsZeros = true;
  readonly #scales: Tensor;
  readonly #masks = new Map<string, Tensor>();

  constructor(device: Device, linears: readonly Linear[], { rank, alpha }: { rank: number; alpha: number }, seed: number) {
    super(device, linears, seed, 0);
    this.#scales = this.constant(alpha / rank, rank);
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const a = this.parameter(`${linear.name}.sqft_A`, [rank, width], "kaiming");
      const b = this.parameter(`${linear.name}.sqft_B`, [out, rank], "zero");
      const shared = { weight: linear.weight, scale: alpha / rank, base: true, left: b.value, right: a.value, rank, quantization: null };
      this.adapters.set(linear.name, { a, b, weight: { kind: "maskedLowRank", ...shared } });
    }
  }

  protected forward({ weight }: MaskedAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void {
    const d = this.device;
    const formed = this.temporary(linear.weight.shape, linear.weight.dtype);
    d.formAdapted(formed, weight);
    d.matmul(out, x, formed, { transposeB: true, accumulate });
    if (!keep) {
      d.free(formed);
      return;
    }
    keep(formed);
    this.#masks.set(linear.name, this.temporary([Math.ceil(sizeOf(linear.weight.shape) / bytesOf([1], "f32"))], "f32"));
  }

  protected backward(
    { a, b }: MaskedAdapter,
    dX: Tensor | null,
    linear: Linear,
    dOut: Tensor,
    x: Tensor,
    accumulate: boolean,
    kept: Tensor | null,
  ): void {
    const d = this.device;
    if (dX) d.matmul(dX, dOut, kept as Tensor, { accumulate });
    const gradient = this.temporary(linear.weight.shape, "f32");
    d.matmul(gradient, dOut, x, { transposeA: true });
    d.maskBy(gradient, linear.weight);
    const left = this.temporary(b.value.shape, "f32");
    d.matmul(left, gradient, a.value, { transposeB: true });
    d.scaleColumns(b.gradient, left, this.#scales, true);
    d.scaleColumns(left, b.value, this.#scales, false);
    d.matmul(a.gradient, left, gradient, { transposeA: true, accumulate: true });
    for (const tensor of [left, gradient, this.#masks.get(linear.name) as Tensor]) d.free(tensor);
    this.#masks.delete(linear.name);
  }

  protected merge({ weight }: MaskedAdapter, out: Tensor): void {
    this.device.formAdapted(out, weight);
  }
}

interface ScaledAdapter {
  alpha: Parameter;
  beta: Parameter;
  /** What is added to W. */
  change: AdaptedWeight;
}

/**
 * SPP in its published form: y = x·Wᵀ + s·x·(W∘rep(α)∘β)ᵀ, two products forward, two for dX and one for the dense G: 10N·out·in FLOPs. The scaled weight is
 * written to memory and kept.
 */
export class PublishedSpp extends LinearAdapters<ScaledAdapter> {
  readonly keepsZeros = true;

  constructor(device: Device, linears: readonly Linear[], { groups, scaling }: { groups: number; scaling: number }, seed: number) {
    super(device, linears, seed, 0);
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const alpha = this.parameter(`${linear.name}.spp_alpha`, [groups, width], "kaiming");
      const beta = this.parameter(`${linear.name}.spp_beta`, [out], "zero");
      const change = { kind: "groupScaled", weight: linear.weight, scale: scaling, base: false, alpha: alpha.value, beta: beta.value } as const;
      this.adapters.set(linear.name, { alpha, beta, change });
    }
  }

  protected forward({ change }: ScaledAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void {
    const d = this.device;
    const scaled = this.temporary(linear.weight.shape, linear.weight.dtype);
    d.formAdapted(scaled, change);
    d.matmul(out, x, linear.weight, { transposeB: true, accumulate });
    d.matmul(out, x, scaled, { transposeB: true, accumulate: true });
    if (keep) keep(scaled);
    else d.free(scaled);
  }

  protected backward(
    { alpha, beta, change }: ScaledAdapter,
    dX: Tensor | null,
    linear: Linear,
    dOut: Tensor,
    x: Tensor,
    accumulate: boolean,
    kept: Tensor | null,
  ): void {
    const d = this.device;
    if (dX) {
      d.matmul(dX, dOut, linear.weight, { accumulate });
      d.matmul(dX, dOut, kept as Tensor, { accumulate: true });
    }
    this.exactGradients(change, alpha, beta, linear, dOut, x);
  }

  protected merge({ change }: ScaledAdapter, out: Tensor): void {
    this.device.formAdapted(out, { ...change, base: true });
  }
}
