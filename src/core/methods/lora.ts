/**
 * LoRA (arXiv 2106.09685): y = x·Wᵀ + s·drop(x)·Aᵀ·Bᵀ, A (r, in) random, B (out, r) zero, s = alpha/r, or alpha/√r when rank-stabilised.
 * Gradients, with H = drop(x)·Aᵀ and E = dOut·B: dB = s dOutᵀH, dA = s Eᵀdrop(x), dX = dOut·W + s (E·A)∘mask.
 * s·H (N, r) is kept for backward: forming it again would read all of x once more and cost a third of the adapter's backward, while it is only r/in of
 * x's size. drop(x) is as large as x and is dropped again instead. Zeros of a pruned base are lost in the merged weight.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import type { Device, Tensor } from "../devices/device.ts";
import { type Keep, LinearAdapters } from "./adapter.ts";
import { frozenBackward, type Linear, type Parameter } from "./method.ts";
import { rankOf } from "./targets.ts";

type LoraConfig = Extract<AdapterConfig, { name: "lora" | "dora" }>;

interface LoraAdapter {
  /** (r, in). */
  a: Parameter;
  /** (out, r). */
  b: Parameter;
  /** s, r times. */
  scales: Tensor;
}

/** Factor of B·A for an adapter of this rank. */
export function lowRankScale({ alpha, rankStabilized }: LoraConfig, rank: number): number {
  return alpha / (rankStabilized ? Math.sqrt(rank) : rank);
}

export class LoRA extends LinearAdapters<LoraAdapter> {
  readonly keepsZeros = false;

  constructor(device: Device, linears: readonly Linear[], config: Extract<AdapterConfig, { name: "lora" }>, seed: number | null) {
    super(device, linears, seed, config.dropout);
    for (const linear of linears) {
      const [out, width] = linear.weight.shape;
      const rank = rankOf(config, linear);
      const a = this.parameter(`${linear.name}.lora_A`, [rank, width], "kaiming");
      const b = this.parameter(`${linear.name}.lora_B`, [out, rank], "zero");
      this.adapters.set(linear.name, { a, b, scales: this.constant(lowRankScale(config, rank), rank) });
    }
  }

  protected forward({ a, b, scales }: LoraAdapter, out: Tensor, linear: Linear, x: Tensor, accumulate: boolean, keep: Keep): void {
    const d = this.device;
    const input = this.droppedInput(x, linear);
    const hidden = this.thin(input, a.value, true, scales);
    if (input !== x) d.free(input);
    d.matmul(out, x, linear.weight, { transposeB: true, accumulate });
    d.matmul(out, hidden, b.value, { transposeB: true, accumulate: true });
    if (keep) keep(hidden);
    else d.free(hidden);
  }

  protected backward(
    { a, b, scales }: LoraAdapter,
    dX: Tensor | null,
    linear: Linear,
    dOut: Tensor,
    x: Tensor,
    accumulate: boolean,
    kept: Tensor | null,
  ): void {
    const d = this.device;
    frozenBackward(d, dX, linear, dOut, accumulate);
    d.matmul(b.gradient, dOut, kept as Tensor, { transposeA: true, accumulate: true });
    const outside = this.thin(dOut, b.value, false, scales);
    const input = this.droppedInput(x, linear);
    d.matmul(a.gradient, outside, input, { transposeA: true, accumulate: true });
    if (input !== x) d.free(input);
    if (dX) this.addThroughDropout(dX, linear, (dInput, add) => d.matmul(dInput, outside, a.value, { accumulate: add }));
    d.free(outside);
  }

  protected merge({ a, b, scales }: LoraAdapter, out: Tensor, linear: Linear): void {
    mergeLowRank(this.device, out, linear.weight, a.value, b.value, scales, null);
  }
}

/** Rows of a merged weight formed at a time: at most 4 MiB of them in f32. */
const mergedPanelBytes = 4 << 20;

/** out (out, in) = gain ∘ (W + s·B·A), row by row times `gain` (out) unless it is null; summed in f32 and rounded once, a panel of rows at a time. */
export function mergeLowRank(device: Device, out: Tensor, weight: Tensor, a: Tensor, b: Tensor, scales: Tensor, gain: Tensor | null): void {
  const [rows, columns] = weight.shape;
  const panelRows = Math.min(rows, Math.max(1, Math.floor(mergedPanelBytes / (4 * columns))));
  const sums = device.allocate([panelRows, columns], "f32", "workspace");
  const left = device.allocate(b.shape, "f32", "workspace");
  device.scaleColumns(left, b, scales, false);
  for (let first = 0; first < rows; first += panelRows) {
    const count = Math.min(panelRows, rows - first);
    const panel = device.rows(sums, 0, count);
    device.copy(panel, device.rows(weight, first, count));
    device.matmul(panel, device.rows(left, first, count), a, { accumulate: true });
    if (gain) device.scaleRows(panel, panel, device.rows(gain, first, count));
    device.copy(device.rows(out, first, count), panel);
  }
  device.free(left);
  device.free(sums);
}
