/** No method at all: the model as it is, for evaluation, generation and forward passes that train nothing. */
import type { Device, Tensor } from "../devices/device.ts";
import { frozenBackward, frozenForward, type Linear, type Parameter, type TuningMethod } from "./method.ts";

export class Frozen implements TuningMethod {
  readonly lowestStage: number = Number.POSITIVE_INFINITY;
  readonly parameters: readonly Parameter[] = [];
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  gradientOf(): null {
    return null;
  }

  linearForward(out: Tensor, linear: Linear, x: Tensor, accumulate: boolean): void {
    frozenForward(this.#device, out, linear, x, accumulate);
  }

  saveInput(_stage: number, _x: Tensor): Tensor | null {
    return null;
  }

  linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, _saved: Tensor | null, accumulate: boolean): void {
    frozenBackward(this.#device, dX, linear, dOut, accumulate);
  }

  afterUpdate(): void {}
}
