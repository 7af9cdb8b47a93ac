/** What tests of the reference device share: short ways to make tensors, and a backward op against finite differences of its forward op. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Tensor } from "../../src/core/devices/device.ts";
import { sizeOf } from "../../src/core/devices/device.ts";
import { openReferenceDevice, type ReferenceDevice } from "../../src/core/devices/reference.ts";
import { checkGradient } from "../support/checkGradient.ts";
import { normals } from "../support/randomTensors.ts";

export type Body = (t: Bench) => void | Promise<void>;

/** A reference device with short ways to make tensors. */
export class Bench {
  readonly device: ReferenceDevice = openReferenceDevice();
  #seed = 0;

  random(...shape: number[]): Tensor {
    return this.of(Float64Array.from(normals(++this.#seed, sizeOf(shape))), ...shape);
  }

  zeros(...shape: number[]): Tensor {
    return this.of(new Float64Array(sizeOf(shape)), ...shape);
  }

  of(data: Float64Array, ...shape: number[]): Tensor {
    const tensor = this.device.allocate(shape, "f32", "workspace");
    this.device.writeExact(tensor, data);
    return tensor;
  }

  ids(data: Int32Array): Tensor {
    const tensor = this.device.allocate([data.length], "i32", "workspace");
    this.device.write(tensor, data);
    return tensor;
  }

  values(tensor: Tensor): Float64Array {
    return this.device.readExact(tensor);
  }

  /** Σ weights∘out after `forward`: the scalar whose gradient by `x` a backward op gives when dOut = weights. */
  check(label: string, x: Tensor, gradient: Tensor, weights: Tensor, out: Tensor, forward: () => void): void {
    const [w, held] = [this.values(weights), this.values(x)];
    checkGradient(label, this.values(x), this.values(gradient), (values) => {
      this.device.writeExact(x, values);
      forward();
      return this.values(out).reduce((sum, y, i) => sum + y * w[i], 0);
    });
    this.device.writeExact(x, held);
  }
}

/** A test on a fresh reference device, which must be left without tensors. */
export function check(name: string, body: Body): void {
  test(`reference: ${name}`, async () => {
    const bench = new Bench();
    await body(bench);
    bench.device.close();
    assert.equal(bench.device.ledger.liveBytes, 0);
  });
}
