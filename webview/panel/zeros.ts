/**
 * What the measured zeros of a pruned base say: their share now and at the start, per layer, and whether any was lost. Pure.
 * The rule to keep: only what was measured; a share is never rounded to one that it is not.
 */
import { t } from "../strings.ts";
import { exactCount } from "./byteUnits.ts";
import type { PanelState } from "./store.ts";

type Sparsity = PanelState["sparsities"][number];

export interface Zeros {
  step: number;
  zeros: number;
  entries: number;
  /** Zeros of the base that no longer are. */
  lost: number;
  share: number;
  layers: {
    share: number;
    /** At the first measurement; null where that had no such layer. */
    baseShare: number | null;
  }[];
  /** Every measurement, oldest first. */
  measured: { step: number; share: number; lost: number }[];
}

/** The newest measurement beside the oldest; null before there is one. */
export function zerosOf(sparsities: readonly Sparsity[]): Zeros | null {
  const [base, now] = [sparsities[0], sparsities.at(-1)];
  if (!base || !now) return null;
  return {
    step: now.step,
    zeros: now.zeros,
    entries: now.entries,
    lost: now.lost,
    share: shareOf(now),
    layers: now.byLayer.map((share, layer) => ({ share, baseShare: base.byLayer[layer] ?? null })),
    measured: sparsities.map((event) => ({ step: event.step, share: shareOf(event), lost: event.lost })),
  };
}

function shareOf({ zeros, entries }: Sparsity): number {
  return entries > 0 ? zeros / entries : 0;
}

/** A share as a percentage with two digits; what is not quite all or not quite nothing does not look it. */
export function shareText(share: number): string {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.005) return "< 0.01 %";
  if (percent < 100 && percent >= 99.995) return "> 99.99 %";
  return `${percent.toFixed(2)} %`;
}

/** What a person has to know of it, in one sentence. */
export function zerosSentence({ lost, step }: Pick<Zeros, "lost" | "step">): string {
  if (lost > 0) return t("{0} zeros of the pruned base are zero no more, at step {1}.", exactCount(lost), step);
  return step === 0 ? t("Measured on the base, before the first step.") : t("Every zero of the pruned base is still zero at step {0}.", step);
}
