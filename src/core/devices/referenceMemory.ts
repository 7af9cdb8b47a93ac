/**
 * The memory half of the reference device: float64 tensors and how data comes in and out of them. reference.ts has the ops and the rules.
 */

import type { MemoryClass } from "../../protocol/memory.ts";
import type { DType, FileDType, Tensor } from "./device.ts";
import { sizeOf } from "./device.ts";
import { fromBfloat16, fromFloat16, roundToBfloat16 } from "./floatFormats.ts";
import { HostTensors } from "./hostTensors.ts";
import { MemoryLedger } from "./memoryLedger.ts";
import * as shapes from "./shapes.ts";

type Data = Float64Array | Int32Array;

export abstract class ReferenceMemory {
  readonly ledger = new MemoryLedger();
  readonly #tensors = new HostTensors<Data>(this.ledger, {
    create: (size, dtype) => (dtype === "i32" ? new Int32Array(size) : new Float64Array(size)),
    view: (data, start, size) => data.subarray(start, start + size),
    release: () => {},
  });

  protected floats(tensor: Tensor): Float64Array {
    return this.#tensors.data(tensor) as Float64Array;
  }

  protected integers(tensor: Tensor): Int32Array {
    return this.#tensors.data(tensor) as Int32Array;
  }

  /** Moves values into a tensor, rounding where it is bf16. */
  protected move(out: Tensor, offset: number, values: ArrayLike<number>): void {
    const to = this.#tensors.data(out);
    for (let i = 0; i < values.length; i++) to[offset + i] = out.dtype === "bf16" ? roundToBfloat16(values[i]) : values[i];
  }

  allocate(shape: readonly number[], dtype: DType, memoryClass: MemoryClass): Tensor {
    return this.#tensors.allocate(shape, dtype, memoryClass);
  }

  free(tensor: Tensor): void {
    this.#tensors.free(tensor);
  }

  rows(tensor: Tensor, first: number, count: number): Tensor {
    return this.#tensors.rows(tensor, first, count);
  }

  write(tensor: Tensor, data: Float32Array | Int32Array, offset = 0): void {
    shapes.checkWrite(tensor, data, offset);
    this.move(tensor, offset, data);
  }

  /** Like `write`, in float64; into bf16 tensors too without rounding. */
  writeExact(tensor: Tensor, data: Float64Array, offset = 0): void {
    shapes.checkWrite(tensor, data, offset);
    this.floats(tensor).set(data, offset);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const values = Float64Array.from({ length: count }, (_, i) => {
      if (stored === "F32") return view.getFloat32(4 * i, true);
      const half = view.getUint16(2 * i, true);
      return stored === "BF16" ? fromBfloat16(half) : fromFloat16(half);
    });
    this.move(tensor, offset, values);
    return values.findIndex((value) => !Number.isFinite(value));
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const data = this.#tensors.data(tensor).subarray(offset, offset + count);
    return data instanceof Int32Array ? data.slice() : Float32Array.from(data);
  }

  /** A copy of a float tensor's elements, unrounded. */
  readExact(tensor: Tensor): Float64Array {
    if (tensor.dtype === "i32") throw new Error("readExact: an i32 tensor holds no floats");
    return this.floats(tensor).slice();
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    this.#tensors.data(tensor).fill(tensor.dtype === "bf16" ? roundToBfloat16(value) : value);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    this.move(out, 0, this.floats(x));
  }

  async turn(): Promise<void> {}

  close(): void {
    this.#tensors.close();
  }
}
