/**
 * What storing a fine-tuned model takes from the tuning: of small changes to weights in 16 bits much is rounded away. Measured on the host, weight by weight,
 * and said in one sentence. An adapter's own measure is on the device (adapterMerge.ts), with the same meaning.
 */
import type { FileDType } from "./devices/device.ts";
import type { Delta } from "./files/smtDelta.ts";
import { decodeFloats, encodeFloats } from "./files/storedFloats.ts";
import { formatPercent } from "./terminal/format.ts";

/** A smaller share than this is nothing to tell. */
const noticed = 0.05;

export class RoundingLoss {
  /** Σ of squares of what was changed, and of that the part that rounding takes. */
  #whole = 0;
  #lost = 0;
  #changed = 0;
  #returned = 0;

  /** With c the change and e what rounding to `dtype` adds, −⟨e, c⟩ of ⟨c, c⟩ is taken from the change in its own direction. */
  add(before: Float32Array, after: Float32Array, dtype: FileDType): void {
    if (dtype === "F32") return;
    const stored = decodeFloats(encodeFloats(after, dtype), dtype);
    for (let i = 0; i < after.length; i++) {
      const change = after[i] - before[i];
      if (change === 0) continue;
      this.#changed++;
      if (stored[i] === before[i]) this.#returned++;
      this.#whole += change * change;
      this.#lost -= (stored[i] - after[i]) * change;
    }
  }

  /** Share of the change that rounding takes: 1 where every weight is the base's again. */
  get share(): number {
    return this.#whole === 0 ? 0 : Math.max(0, this.#lost / this.#whole);
  }

  /** Share of the changed weights that have the base's value again. */
  get returned(): number {
    return this.#changed === 0 ? 0 : this.#returned / this.#changed;
  }
}

/** What rounding takes from a delta's blocks; `dtype` is what they are stored as, null for the base's. */
export async function deltaRounding(delta: Delta, dtype: FileDType | null): Promise<RoundingLoss> {
  const loss = new RoundingLoss();
  for (const [weight, { dtype: stored }] of delta.matrices)
    loss.add(decodeFloats(await delta.readOriginal(weight), stored), await delta.readBlocks(weight), dtype ?? stored);
  return loss;
}

/** The sentence about it, where it is worth one. `dtype`: what was asked for, null for the base's; `stored`: the base's. */
export function roundingNote(
  share: number,
  {
    dtype,
    stored,
    changer,
    returned,
    otherwise,
  }: { dtype: FileDType | null; stored: FileDType; changer: string; returned?: number; otherwise: string },
): string[] {
  if (share < noticed) return [];
  const where = dtype === null ? `The base is stored in ${stored}` : `The model is written in ${dtype}`;
  const again = returned === undefined ? "" : ` (${formatPercent(returned)} of the changed weights have the base's value again)`;
  return [`${where}, and rounding to it takes ${formatPercent(share)} of what the ${changer} changed${again}; ${otherwise}.`];
}
