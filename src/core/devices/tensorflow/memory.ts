/**
 * Memory of the TensorFlow device. The engine's tensors cannot be changed, so a tensor of ours is a cell that holds the engine's current one, flat; an op
 * makes a new one and puts it into the cell. A view is a cell and a range: reading takes a slice, writing makes the whole cell anew around it.
 * While it is filled from the host a cell holds a Float32Array instead; integers stay on the host altogether.
 * The rules to keep: an op works inside `run`, which gives back everything but what it stored; a bf16 tensor holds f32 numbers that are all bf16's.
 */
import type { Tensor1D, Tensor2D, Tensor as TfTensor } from "@tensorflow/tfjs-core";
import type { MemoryClass } from "../../../protocol/memory.ts";
import { type DType, type ElementBytes, type FileDType, sizeOf, type Tensor } from "../device.ts";
import { fromFloat16, roundToBfloat16 as roundOne } from "../floatFormats.ts";
import { HostTensors } from "../hostTensors.ts";
import { MemoryLedger } from "../memoryLedger.ts";
import * as shapes from "../shapes.ts";
import { type Engine, outOfMemory, type Tf } from "./engine.ts";
import { elementsOf } from "./products.ts";
import { roundToBfloat16 } from "./rounding.ts";
import { largestTensors, stripsBytes } from "./strips.ts";

/** What holds a tensor's elements: the engine, or the host, or nobody yet. */
interface Cell {
  size: number;
  tensor: Tensor1D | null;
  floats: Float32Array | null;
  ints: Int32Array | null;
}

/** Elements [start, start + size) of a cell. */
interface Part {
  cell: Cell;
  start: number;
  size: number;
}

/** A result and where it goes; `asIs` where it needs no rounding, because nothing but bf16 numbers was moved. */
export type Stored = [out: Tensor, result: TfTensor, asIs?: boolean];

/** No engine has bf16: such a number takes the room of an f32. */
export const elementBytes: ElementBytes = { f32: 4, bf16: 4, i32: 4 };

export class TensorflowMemory {
  readonly description: string;
  readonly ledger = new MemoryLedger(elementBytes, largestTensors);
  protected readonly tf: Tf;
  protected readonly engine: Engine;
  readonly #tensors: HostTensors<Part>;

  constructor(engine: Engine) {
    this.engine = engine;
    this.tf = engine.tf;
    this.description = `tensorflow: ${engine.title}; each weight takes 4 bytes`;
    this.#tensors = new HostTensors<Part>(this.ledger, {
      create: (size, dtype) => this.#create(size, dtype),
      view: ({ cell, start }, first, size) => ({ cell, start: start + first, size }),
      release: ({ cell }) => {
        cell.tensor?.dispose();
        cell.tensor = null;
      },
    });
    this.ledger.add("workspace", stripsBytes);
  }

  #create(size: number, dtype: DType): Part {
    if (size > this.engine.largestElements || this.ledger.bytesWith(4 * size) > this.engine.memoryBytes) throw outOfMemory(4 * size);
    const ints = dtype === "i32" ? new Int32Array(size) : null;
    return { cell: { size, tensor: null, floats: null, ints }, start: 0, size };
  }

  /** What an i32 tensor holds. */
  protected ints(tensor: Tensor): Int32Array {
    const { cell, start, size } = this.#tensors.data(tensor);
    return (cell.ints as Int32Array).subarray(start, start + size);
  }

  /** A float tensor's elements as the engine's; only inside `run`. */
  protected flat(tensor: Tensor): Tensor1D {
    const { cell, start, size } = this.#tensors.data(tensor);
    const whole = this.#current(cell);
    return size === cell.size ? whole : elementsOf(this.engine, whole, start, size);
  }

  /** A float tensor as a matrix, its own or of so many columns; only inside `run`. */
  protected matrix(tensor: Tensor, columns = shapes.columnsOf(tensor)): Tensor2D {
    const size = sizeOf(tensor.shape);
    return this.tf.reshape(this.flat(tensor), [columns === 0 ? 0 : size / columns, columns]);
  }

  /** Computes with the engine: stores what `work` returns, and gives back the rest. Where it throws, nothing was stored. */
  protected run(work: () => Stored[]): void {
    this.tf.tidy(() => {
      const results = work().map(([out, result, asIs]): [Tensor, TfTensor] => [
        out,
        out.dtype === "bf16" && !asIs ? roundToBfloat16(this.engine, result) : result,
      ]);
      for (const [out, result] of results) this.#store(out, result);
    });
  }

  #store(out: Tensor, result: TfTensor): void {
    const { cell, start, size } = this.#tensors.data(out);
    if (size === 0) return;
    if (result.size !== size) throw new Error(`tensorflow: ${result.size} results for ${size} elements`);
    // A handle of its own, as several cells may hold the same numbers.
    const flat = this.tf.reshape(result, [size]) as Tensor1D;
    this.#replace(cell, size === cell.size ? flat : this.#around(this.#current(cell), start, flat));
  }

  #around(whole: Tensor1D, start: number, part: Tensor1D): Tensor1D {
    const end = start + part.size;
    const before = start > 0 ? [elementsOf(this.engine, whole, 0, start)] : [];
    const behind = end < whole.size ? [elementsOf(this.engine, whole, end, whole.size - end)] : [];
    return this.tf.concat1d([...before, part, ...behind]);
  }

  #replace(cell: Cell, next: Tensor1D): void {
    this.tf.keep(next);
    cell.tensor?.dispose();
    cell.tensor = next;
    cell.floats = null;
  }

  /** The engine's tensor of a cell, which takes over what the host filled in. */
  #current(cell: Cell): Tensor1D {
    if (!cell.tensor) this.#replace(cell, this.tf.tensor1d(cell.floats ?? new Float32Array(cell.size), "float32"));
    return cell.tensor as Tensor1D;
  }

  /** The host's elements of a cell that is to be filled in, as far as they are still of use. */
  #filling(cell: Cell, size: number): Float32Array {
    cell.floats ??= cell.tensor && size < cell.size ? (cell.tensor.dataSync() as Float32Array).slice() : new Float32Array(cell.size);
    cell.tensor?.dispose();
    cell.tensor = null;
    return cell.floats;
  }

  /** Puts `count` elements of the host at `offset`; the last element of a cell sends it to the engine. */
  #fillIn(tensor: Tensor, offset: number, count: number, valueAt: (i: number) => number): void {
    if (count === 0) return;
    const { cell, start } = this.#tensors.data(tensor);
    const first = start + offset;
    const floats = this.#filling(cell, count);
    if (tensor.dtype === "bf16") for (let i = 0; i < count; i++) floats[first + i] = roundOne(valueAt(i));
    else for (let i = 0; i < count; i++) floats[first + i] = valueAt(i);
    if (first + count === cell.size) this.tf.tidy(() => void this.#current(cell));
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
    if (tensor.dtype === "i32") this.ints(tensor).set(data, offset);
    else this.#fillIn(tensor, offset, data.length, (i) => data[i]);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const values = floatsOf(bytes, count, stored);
    this.#fillIn(tensor, offset, count, (i) => values[i]);
    return values.findIndex((value) => !Number.isFinite(value));
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const { cell, start } = this.#tensors.data(tensor);
    const first = start + offset;
    const host = cell.ints ?? cell.floats;
    if (host) return host.slice(first, first + count);
    if (!cell.tensor || count === 0) return new Float32Array(count);
    if (count === cell.size) return ((await cell.tensor.data()) as Float32Array).slice();
    const part = this.tf.slice(cell.tensor, first, count);
    try {
      return ((await part.data()) as Float32Array).slice();
    } finally {
      part.dispose();
    }
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    if (tensor.dtype === "i32") this.ints(tensor).fill(value);
    else this.run(() => [[tensor, this.tf.fill([sizeOf(tensor.shape)], tensor.dtype === "bf16" ? roundOne(value) : value, "float32"), true]]);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    this.run(() => [[out, this.flat(x), x.dtype === "bf16"]]);
  }

  async turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Gives all tensors back. The engine stays: there is one a process. */
  close(): void {
    this.#tensors.close();
    this.ledger.remove("workspace", stripsBytes);
  }
}

/** Little-endian file bytes as numbers. */
function floatsOf(bytes: Uint8Array, count: number, stored: FileDType): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const floats = new Float32Array(count);
  if (stored === "F32") for (let i = 0; i < count; i++) floats[i] = view.getFloat32(4 * i, true);
  else if (stored === "F16") for (let i = 0; i < count; i++) floats[i] = fromFloat16(view.getUint16(2 * i, true));
  else {
    const words = new Uint32Array(floats.buffer);
    for (let i = 0; i < count; i++) words[i] = view.getUint16(2 * i, true) << 16;
  }
  return floats;
}
