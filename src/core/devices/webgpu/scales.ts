/**
 * The powers of two by which operands are brought into f16's range, found on the card and kept there: the host never waits for one. A tensor that nothing has
 * written since keeps its own, as frozen weights do.
 */
import { sizeOf, type Tensor } from "../device.ts";
import type { GpuData } from "./buffers.ts";
import type { Commands } from "./commands.ts";
import { findScale, scaleParts } from "./kernels/scale.wgsl.ts";
import type { Programs } from "./program.ts";

const slots = 16384;
/** Floats that {@link Scales} needs. */
export const scaleElements = slots + scaleParts;

interface Found {
  serial: number;
  version: number;
}

export class Scales {
  readonly #room: Tensor;
  readonly #programs: Programs;
  readonly #commands: Commands;
  readonly #data: (tensor: Tensor) => GpuData;
  /** Slots are taken in turn; the oldest is forgotten. */
  #serial = 0;
  readonly #found = new WeakMap<GPUBuffer, Map<string, Found>>();

  /** `room` has {@link scaleElements} f32: by slot, and behind them what is found of a tensor's parts. */
  constructor(programs: Programs, commands: Commands, data: (tensor: Tensor) => GpuData, room: Tensor) {
    this.#programs = programs;
    this.#commands = commands;
    this.#data = data;
    this.#room = room;
  }

  /** What kernels read the scales from, by slot. */
  get tensor(): Tensor {
    return this.#room;
  }

  /** The slots of a's and b's scales; on the card they are right when the next kernel runs. */
  of(a: Tensor, b: Tensor): [number, number] {
    // The first may have the oldest slot, which the second must not take.
    return [this.#slot(a, slots - 1), this.#slot(b, slots)];
  }

  #slot(x: Tensor, kept: number): number {
    const { parts, at } = this.#data(x);
    const count = sizeOf(x.shape);
    const key = `${at} ${count}`;
    // Each part's only grows, so the sum tells a write to any.
    const version = parts.reduce((sum, part) => sum + this.#commands.version(part), 0);
    const ofBuffer = this.#found.get(parts[0]) ?? new Map<string, Found>();
    this.#found.set(parts[0], ofBuffer);
    const known = ofBuffer.get(key);
    if (known && known.version === version && this.#serial - known.serial < kept) return known.serial % slots;
    if (known?.version !== version) for (const [other, found] of ofBuffer) if (found.version !== version) ofBuffer.delete(other);
    const serial = this.#serial++;
    ofBuffer.set(key, { serial, version });
    findScale(this.#programs, this.#room, slots, x, serial % slots, count);
    return serial % slots;
  }
}
