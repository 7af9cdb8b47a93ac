/**
 * The memory half of the portable device: tensors in JavaScript's memory and how data comes in and out of them. portableDevice.ts has the ops.
 */

import type { MemoryClass } from "../../../../protocol/memory.ts";
import type { DType, FileDType, Tensor } from "../../device.ts";
import { sizeOf } from "../../device.ts";
import { fromFloat16, toBfloat16 } from "../../floatFormats.ts";
import { HostTensors } from "../../hostTensors.ts";
import { MemoryLedger } from "../../memoryLedger.ts";
import * as shapes from "../../shapes.ts";
import { Buffers, type Data } from "./buffers.ts";
import { bfloat16Values, type FloatData, load, Scratch, scratchBytes, store } from "./formats.ts";
import { GemmWorkspace, gemmWorkspaceBytes } from "./gemm.ts";
import { copyElements } from "./layers.ts";

/** Bytes the device takes for itself when it opens, counted as workspace; a plan starts from them. */
export const portableWorkspaceBytes = scratchBytes + gemmWorkspaceBytes;

export abstract class PortableMemory {
  readonly ledger = new MemoryLedger();
  readonly #buffers = new Buffers(this.ledger);
  readonly #tensors = new HostTensors<Data>(this.ledger, {
    create: (size, dtype) => this.#buffers.create(size, dtype),
    view: (data, start, size) => data.subarray(start, start + size),
    release: (data) => this.#buffers.release(data),
  });
  protected readonly scratch: Scratch = new Scratch();
  protected readonly gemm: GemmWorkspace = new GemmWorkspace();

  constructor() {
    this.ledger.add("workspace", portableWorkspaceBytes);
  }

  /** The elements of a float tensor that is still alive. */
  protected data(tensor: Tensor): FloatData {
    return this.#tensors.data(tensor) as FloatData;
  }

  protected f32(tensor: Tensor): Float32Array {
    return this.#tensors.data(tensor) as Float32Array;
  }

  protected i32(tensor: Tensor): Int32Array {
    return this.#tensors.data(tensor) as Int32Array;
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
    const to = this.#tensors.data(tensor);
    if (to instanceof Uint16Array) store(to, offset, data as Float32Array, data.length);
    else to.set(data, offset);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const to = this.data(tensor);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let firstBad = -1;
    for (let i = 0; i < count; i++) {
      const value = valueAt(view, i, stored);
      if (firstBad < 0 && !Number.isFinite(value)) firstBad = i;
      if (to instanceof Float32Array) to[offset + i] = value;
      else to[offset + i] = stored === "BF16" ? view.getUint16(2 * i, true) : toBfloat16(value);
    }
    return firstBad;
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const from = this.#tensors.data(tensor);
    if (!(from instanceof Uint16Array)) return from.slice(offset, offset + count);
    const out = new Float32Array(count);
    load(out, from, offset, count);
    return out;
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    this.#tensors.data(tensor).fill(tensor.dtype === "bf16" ? toBfloat16(value) : value);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    copyElements(this.data(out), 0, this.data(x), 0, sizeOf(x.shape), this.scratch);
  }

  turn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): void {
    this.#tensors.close();
    this.#buffers.forget();
    this.ledger.remove("workspace", portableWorkspaceBytes);
  }
}

function valueAt(view: DataView, i: number, stored: FileDType): number {
  if (stored === "F32") return view.getFloat32(4 * i, true);
  const half = view.getUint16(2 * i, true);
  return stored === "BF16" ? bfloat16Values[half] : fromFloat16(half);
}
