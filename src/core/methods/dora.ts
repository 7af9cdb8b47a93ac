/**
 * DoRA (arXiv 2402.09353): U = W + s·B·A, y = g∘(x·Uᵀ) with gains g = m/ν, ν_i = ‖U_i‖ the norm of each weight row; A (r, in) random, B (out, r) zero,
 * m (out) the rows' first norms, so that W′ = W at the start, exactly: m and ν come from the same sum. Zeros of a pruned base are lost.
 * Norms come from ‖U_i‖² = ‖W_i‖² + 2s⟨(WAᵀ)_i, B_i⟩ + s² B_i(AAᵀ)B_iᵀ once an update: no (out, in) temporary.
 * As in PEFT dropout thins out what the change of the base sees too: y = x·Wᵀ + (g−1)∘(x̃·Wᵀ) + g∘s(x̃·Aᵀ·Bᵀ), x̃ = drop(x).
 * Gradients, with Z = x̃·Uᵀ (kept for backward), D = dOut∘g and t_i = Σ_n dOut_ni Z_ni: dm = t/ν, dB = s Dᵀ(x̃Aᵀ), dA = s (D·B)ᵀx̃. `normGradient: full` lets ν
 * count as well, which takes c_i U_i off each row of dU, c = g∘t/ν²: dB −= s c∘(UAᵀ), dA −= s (c∘B)ᵀU.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { Device, Tensor } from "../devices/device.ts";
import { type Keep, LinearAdapters } from "./adapter.ts";
import { lowRankScale, mergeLowRank } from "./lora.ts";
import type { Linear, Parameter } from "./method.ts";
import { rankOf } from "./targets.ts";

interface DoraAdapter {
  linear: Linear;
  /** (r, in). */
  a: Parameter;
  /** (out, r). */
  b: Parameter;
  /** (out). */
  magnitude: Parameter;
  scale: number;
  /** s and −s, r times each. */
  scales: Tensor;
  negative: Tensor;
  /** (out) each: ‖W_i‖²; ν; g; g − 1; 1/ν. */
  squares: Tensor;
  norm: Tensor;
  gain: Tensor;
  change: Tensor;
  inverseNorm: Tensor;
}

export class DoRA extends LinearAdapters<DoraAdapter> {
  readonly keepsZeros = false;
  readonly #full: boolean;

  constructor(device: Device, linears: readonly Linear[], config: Extract<AdapterConfig, { name: "dora" }>, seed: number | null) {
    super(device, linears, seed, config.dropout);
    this.#full = config.normGradient === "full";
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const rank = rankOf(config, linear);
      const scale = lowRankScale(config, rank);
      const vector = () => this.held([out], "f32");
      const adapter: DoraAdapter = {
        linear,
        a: this.parameter(`${linear.name}.lora_A`, [rank, width], "kaiming"),
        b: this.parameter(`${linear.name}.lora_B`, [out, rank], "zero"),
        magnitude: this.parameter(`${linear.name}.lora_magnitude_vector`, [out], "zero"),
        scale,
        scales: this.constant(scale, rank),
        negative: this.constant(-scale, rank),
        squares: vector(),
        norm: vector(),
        gain: vector(),
        change: vector(),
        inverseNorm: vector(),
      };
      device.rowDots(adapter.squares, linear.weight, linear.weight);
      this.constant(1, out);
      this.constant(-1, out);
      this.#measure(adapter);
      device.copy(adapter.magnitude.value, adapter.norm);
      this.#measure(adapter);
      this.adapters.set(linear.name, adapter);
    }
  }

  /** Norms and gains follow A, B and m. */
  override afterUpdate(): void {
    for (const adapter of this.adapters.values()) this.#measure(adapter);
  }

  #measure({ linear, a, b, magnitude, scale, squares, norm, gain, change, inverseNorm }: DoraAdapter): void {
    const d = this.device;
    const [out, rank] = b.value.shape;
    const ones = this.constant(1, out);
    const projected = this.temporary([out, rank], "f32");
    const inner = this.temporary([rank, rank], "f32");
    const cross = this.temporary([out], "f32");
    const gram = this.temporary([out], "f32");
    d.matmul(projected, linear.weight, a.value, { transposeB: true });
    d.rowDots(cross, projected, b.value);
    d.matmul(inner, a.value, a.value, { transposeB: true });
    d.matmul(projected, b.value, inner);
    d.rowDots(gram, projected, b.value);
    d.doraGains(norm, inverseNorm, ones, squares, cross, gram, scale);
    d.doraGains(norm, gain, magnitude.value, squares, cross, gram, scale);
    d.fill(change, -1);
    d.scaleColumns(change, gain, ones, true);
    for (const tensor of [projected, inner, cross, gram]) d.free(tensor);
  }

  protected forward(adapter: DoraAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void {
    const d = this.device;
    const { a, b, scales, gain, change } = adapter;
    const input = this.droppedInput(x, linear);
    const hidden = this.thin(input, a.value, true, scales);
    const z = this.temporary(out.shape, out.dtype);
    if (input === x && !accumulate) {
      d.matmul(z, x, linear.weight, { transposeB: true });
      d.matmul(z, hidden, b.value, { transposeB: true, accumulate: true });
      d.scaleColumns(out, z, gain, false);
    } else {
      // out first gets the base's part as the base alone would add it, to the bit, and then the change.
      if (input === x) this.#productAndDifference(z, out, linear, x);
      else {
        d.matmul(out, x, linear.weight, { transposeB: true, accumulate });
        d.matmul(z, input, linear.weight, { transposeB: true });
      }
      d.matmul(z, hidden, b.value, { transposeB: true, accumulate: true });
      d.scaleColumns(out, z, change, true);
      d.matmul(out, hidden, b.value, { transposeB: true, accumulate: true });
    }
    d.free(hidden);
    if (input !== x) d.free(input);
    if (keep) keep(this.#inPrecisionOf(x, z));
    else d.free(z);
  }

  /**
   * out += x·Wᵀ, and z = that product, as the difference that it made to out: a second product would cost a third of a layer's forward, and what
   * rounding takes from z is of the size of out's own rounding, because z counts times g − 1 there.
   */
  #productAndDifference(z: Tensor, out: Tensor, linear: Linear, x: Tensor): void {
    const d = this.device;
    const columns = out.shape[1];
    d.copy(z, out);
    d.matmul(out, x, linear.weight, { transposeB: true, accumulate: true });
    d.scaleColumns(z, z, this.constant(-1, columns), false);
    d.scaleColumns(z, out, this.constant(1, columns), true);
  }

  /** Z as it is kept: in the precision of the activations. */
  #inPrecisionOf(x: Tensor, z: Tensor): Tensor {
    if (z.dtype === x.dtype) return z;
    const copy = this.temporary(z.shape, x.dtype);
    this.device.copy(copy, z);
    this.device.free(z);
    return copy;
  }

  protected backward(
    adapter: DoraAdapter,
    dX: Tensor | null,
    linear: Linear,
    dOut: Tensor,
    x: Tensor,
    accumulate: boolean,
    kept: Tensor | null,
  ): void {
    const d = this.device;
    const { a, b, scales, gain } = adapter;
    this.#magnitudeGradient(adapter, dOut, kept as Tensor);
    const scaled = this.temporary(dOut.shape, x.dtype);
    d.scaleColumns(scaled, dOut, gain, false);
    const input = this.droppedInput(x, linear);
    const hidden = this.thin(input, a.value, true, scales);
    d.matmul(b.gradient, scaled, hidden, { transposeA: true, accumulate: true });
    d.free(hidden);
    const outside = this.thin(scaled, b.value, false, scales);
    d.matmul(a.gradient, outside, input, { transposeA: true, accumulate: true });
    if (input !== x) d.free(input);
    if (dX) this.#inputGradient(adapter, dX, linear, dOut, scaled, outside, accumulate);
    d.free(outside);
    d.free(scaled);
  }

  /** dX = D·U; with dropout dOut·W + ((dOut∘(g−1))·W + s D·B·A)∘mask. `scaled` is D, and may be overwritten; `outside` is s·D·B. */
  #inputGradient({ a, change }: DoraAdapter, dX: Tensor, linear: Linear, dOut: Tensor, scaled: Tensor, outside: Tensor, accumulate: boolean): void {
    const d = this.device;
    if (!this.dropoutOf(linear)) {
      d.matmul(dX, scaled, linear.weight, { accumulate });
      d.matmul(dX, outside, a.value, { accumulate: true });
      return;
    }
    d.matmul(dX, dOut, linear.weight, { accumulate });
    d.scaleColumns(scaled, dOut, change, false);
    this.addThroughDropout(dX, linear, (dInput, add) => {
      d.matmul(dInput, scaled, linear.weight, { accumulate: add });
      d.matmul(dInput, outside, a.value, { accumulate: true });
    });
  }

  /** dm += t/ν, and with the full gradient what the norms take off dA and dB. */
  #magnitudeGradient(adapter: DoraAdapter, dOut: Tensor, z: Tensor): void {
    const d = this.device;
    const { magnitude, inverseNorm, gain } = adapter;
    const t = this.temporary([z.shape[1]], "f32");
    d.fill(t, 0);
    d.columnDots(t, dOut, z);
    d.scaleColumns(magnitude.gradient, t, inverseNorm, true);
    if (this.#full) {
      d.scaleColumns(t, t, gain, false);
      d.scaleColumns(t, t, inverseNorm, false);
      d.scaleColumns(t, t, inverseNorm, false);
      this.#normGradient(adapter, t);
    }
    d.free(t);
  }

  /** dB −= s c∘(UAᵀ), dA −= s (c∘B)ᵀU, with UAᵀ = WAᵀ + s B(AAᵀ) and (c∘B)ᵀU = (c∘B)ᵀW + s (c∘B)ᵀB·A. */
  #normGradient({ linear, a, b, scales, negative }: DoraAdapter, c: Tensor): void {
    const d = this.device;
    const [out, rank] = b.value.shape;
    const inner = this.thin(a.value, a.value, true, scales); // s AAᵀ
    const projected = this.temporary([out, rank], "f32");
    d.matmul(projected, linear.weight, a.value, { transposeB: true });
    d.matmul(projected, b.value, inner, { accumulate: true });
    d.scaleRows(projected, projected, c);
    d.scaleColumns(b.gradient, projected, negative, true);
    d.scaleRows(projected, b.value, c);
    d.scaleColumns(projected, projected, negative, false); // −s c∘B
    d.matmul(a.gradient, projected, linear.weight, { transposeA: true, accumulate: true });
    d.matmul(inner, projected, b.value, { transposeA: true });
    d.scaleColumns(inner, inner, scales, false);
    d.matmul(a.gradient, inner, a.value, { accumulate: true });
    d.free(projected);
    d.free(inner);
  }

  protected merge({ a, b, scales, gain }: DoraAdapter, out: Tensor, linear: Linear): void {
    mergeLowRank(this.device, out, linear.weight, a.value, b.value, scales, gain);
  }
}
