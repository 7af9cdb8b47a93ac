/**
 * Memory of the WebGPU device: tensors on the card, views, and transfers of either dtype. What the host must know of ids, positions and targets stays with
 * their tensors, because they are checked before they index anything.
 * The rule to keep: the card's order is the calls' order; an upload waits behind what was recorded before it.
 */
import type { MemoryClass } from "../../../protocol/memory.ts";
import { type DType, type FileDType, sizeOf, type Tensor } from "../device.ts";
import { fromFloat16, toBfloat16 } from "../floatFormats.ts";
import { HostTensors } from "../hostTensors.ts";
import { MemoryLedger } from "../memoryLedger.ts";
import * as shapes from "../shapes.ts";
import { Buffers, type GpuData } from "./buffers.ts";
import { Commands, parameterBytes } from "./commands.ts";
import type { Gpu } from "./gpu.ts";
import { copy } from "./kernels/copy.wgsl.ts";
import { fill } from "./kernels/fill.wgsl.ts";
import { MatmulKernels } from "./matmulKernels.ts";
import { Programs } from "./program.ts";
import { Scales, scaleElements } from "./scales.ts";

/** What the device takes for itself when it opens, counted as workspace: room for what an op needs beside its tensors, f32, and for what is small. */
export const webgpuWorkspaceBytes = 64 << 20;
/** The small: parameters of dispatches, and integer tables; of a selection of thousands of blocks a few hundred kilobytes. More tables are counted as they come. */
const smallBytes = 4 << 20;
/** What ops may take of it in f32; the rest holds scales of operands. */
export const workspaceElements = (webgpuWorkspaceBytes - smallBytes) / 4 - scaleElements;

export interface TensorData extends GpuData {
  /** Of an i32 tensor: what it holds. */
  ints: Int32Array | null;
}

export class WebgpuMemory {
  /** The card, as its driver names it. */
  protected readonly title: string;
  readonly ledger = new MemoryLedger();
  protected readonly commands: Commands;
  protected readonly programs: Programs;
  protected readonly workspace: Tensor;
  protected readonly kernels: MatmulKernels;
  readonly #gpu: Gpu;
  readonly #buffers: Buffers;
  readonly #tensors: HostTensors<TensorData>;
  /** Integer tables as callers pass them, by identity: a selection's tables are the same objects in every step. */
  readonly #tables = new WeakMap<Int32Array, { tensor: Inner; content: Int32Array }>();
  readonly #forgotten = new FinalizationRegistry<GpuData>((storage) => this.#releaseTable(storage));
  #closed = false;
  #tableBytes = parameterBytes;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.title = gpu.title;
    this.commands = new Commands(gpu.device);
    this.#buffers = new Buffers(gpu, this.commands);
    this.#tensors = new HostTensors<TensorData>(this.ledger, {
      create: (size, dtype) => ({ ...this.#buffers.create(size, dtype), ints: dtype === "i32" ? new Int32Array(size) : null }),
      view: (data, start, size) => ({ ...data, at: data.at + start, size, ints: data.ints?.subarray(start, start + size) ?? null }),
      release: (data) => this.#buffers.release(data),
    });
    this.programs = new Programs(gpu.device, this.commands, (tensor) => this.data(tensor));
    this.ledger.add("workspace", smallBytes);
    this.workspace = this.allocate([workspaceElements], "f32", "workspace");
    // A buffer of its own, which kernels may bind beside the workspace in bf16.
    const scaleRoom = this.allocate([scaleElements], "f32", "workspace");
    const scales = new Scales(this.programs, this.commands, (tensor) => this.data(tensor), scaleRoom);
    this.kernels = new MatmulKernels(gpu.units, scales, this.commands);
  }

  protected data(tensor: Tensor): TensorData {
    if (tensor instanceof Inner) return tensor.data;
    return this.#tensors.data(tensor);
  }

  /** What an i32 tensor holds. */
  protected ints(tensor: Tensor): Int32Array {
    return this.data(tensor).ints as Int32Array;
  }

  /** The first `count` floats of the workspace as a matrix or a vector. */
  protected room(...shape: number[]): Tensor {
    const flat = this.rows(this.workspace, 0, sizeOf(shape));
    return shape.length === 1 ? flat : this.#tensors.shaped(flat, shape);
  }

  /** The workspace as a matrix of either dtype: rows · columns of at most {@link workspaceElements}, twice that in bf16. */
  protected strip(dtype: "f32" | "bf16", rows: number, columns: number): Tensor {
    return dtype === "f32" ? this.room(rows, columns) : new Inner({ ...this.data(this.workspace), size: rows * columns }, dtype, [rows, columns]);
  }

  /** An integer table on the card, for as long as the caller keeps the table; one whose contents changed is sent again. */
  protected table(table: Int32Array, make: (table: Int32Array) => Int32Array = (same) => same): Tensor {
    const known = this.#tables.get(table);
    if (known?.content.every((value, i) => value === table[i])) return known.tensor;
    if (known) {
      this.#forgotten.unregister(known.tensor);
      this.#releaseTable(known.tensor.data);
    }
    const tensor = this.#newTable(make(table));
    this.#tables.set(table, { tensor, content: table.slice() });
    const { ints: _table, ...storage } = tensor.data; // the register must not hold what it waits for
    this.#forgotten.register(table, storage, tensor);
    return tensor;
  }

  /** Integer tables for the time of a call. */
  protected withTables(contents: Int32Array[], run: (tables: Tensor[]) => void): void {
    const tables = contents.map((content) => this.#newTable(content));
    run(tables);
    for (const { data } of tables) this.#releaseTable(data);
  }

  #newTable(content: Int32Array): Inner {
    const tensor = new Inner({ ...this.#buffers.create(content.length, "i32"), ints: content }, "i32");
    this.#countTables(4 * content.length);
    this.commands.upload(tensor.data, 0, content as Int32Array<ArrayBuffer>);
    return tensor;
  }

  #releaseTable(storage: GpuData): void {
    if (this.#closed) return;
    this.#buffers.release(storage);
    this.#countTables(-4 * storage.size);
  }

  #countTables(bytes: number): void {
    const beyond = () => Math.max(0, this.#tableBytes - smallBytes);
    const before = beyond();
    this.#tableBytes += bytes;
    if (beyond() > before) this.ledger.add("workspace", beyond() - before);
    else this.ledger.remove("workspace", before - beyond());
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
    if (data.length === 0) return;
    const storage = this.data(tensor);
    if (tensor.dtype === "bf16") {
      this.#uploadBf16(tensor, offset, Uint16Array.from(data, toBfloat16));
      return;
    }
    storage.ints?.set(data, offset);
    this.commands.upload(storage, 4 * (storage.at + offset), data as Float32Array<ArrayBuffer>);
  }

  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
    const count = shapes.checkLoad(tensor, offset, bytes, stored);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const floats = new Float32Array(count);
    const words = tensor.dtype === "bf16" && stored === "BF16" ? new Uint16Array(count) : null;
    let firstBad = -1;
    for (let i = 0; i < count; i++) {
      const value = valueAt(view, i, stored);
      if (firstBad < 0 && !Number.isFinite(value)) firstBad = i;
      if (words) words[i] = view.getUint16(2 * i, true);
      else floats[i] = value;
    }
    if (words) this.#uploadBf16(tensor, offset, words);
    else this.write(tensor, floats, offset);
    return firstBad;
  }

  /** Whole words at once; a half at either end passes through the workspace, so that its neighbour stays. */
  #uploadBf16(tensor: Tensor, offset: number, values: Uint16Array): void {
    const storage = this.data(tensor);
    const start = storage.at + offset;
    if (start % 2 === 0 && values.length % 2 === 0) {
      this.commands.upload(storage, 2 * start, values as Uint16Array<ArrayBuffer>);
      return;
    }
    for (let first = 0; first < values.length; first += workspaceElements) {
      const part = values.subarray(first, first + workspaceElements);
      const floats = new Float32Array(Uint32Array.from(part, (bits) => bits << 16).buffer);
      const room = this.room(floats.length);
      this.commands.upload(this.data(room), 4 * this.data(room).at, floats);
      copy(this.programs, this.elements(tensor, offset + first, floats.length), room);
    }
  }

  /** Elements [first, first + count) of a tensor, whatever its shape. */
  protected elements(tensor: Tensor, first: number, count: number): Tensor {
    return this.rows(this.#tensors.shaped(tensor, [sizeOf(tensor.shape)]), first, count);
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const storage = this.data(tensor);
    const start = storage.at + offset;
    if (tensor.dtype === "i32") return new Int32Array(await this.commands.download(storage, 4 * start, 4 * count));
    if (tensor.dtype === "f32") return new Float32Array(await this.commands.download(storage, 4 * start, 4 * count));
    const firstWord = start >>> 1;
    const words = Math.ceil((start + count) / 2) - firstWord;
    const halves = new Uint16Array(await this.commands.download(storage, 4 * firstWord, 4 * words));
    const skip = start - 2 * firstWord;
    return new Float32Array(Uint32Array.from(halves.subarray(skip, skip + count), (bits) => bits << 16).buffer);
  }

  fill(tensor: Tensor, value: number): void {
    shapes.checkFill(tensor, value);
    if (tensor.dtype === "i32") this.write(tensor, new Int32Array(sizeOf(tensor.shape)).fill(value));
    else fill(this.programs, tensor, value);
  }

  copy(out: Tensor, x: Tensor): void {
    shapes.checkCopy(out, x);
    copy(this.programs, out, x);
  }

  async turn(): Promise<void> {
    this.commands.submit();
    await new Promise((resolve) => setImmediate(resolve));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tensors.close();
    this.ledger.remove("workspace", Math.max(smallBytes, this.#tableBytes));
    this.#buffers.close();
    this.commands.close();
    this.#gpu.close();
  }
}

/** What a kernel reads or writes beside the tensors that callers know: an integer table, or the workspace in another dtype. */
class Inner implements Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly memoryClass = "workspace";
  readonly data: TensorData;

  constructor(data: TensorData, dtype: DType, shape: readonly number[] = [data.size]) {
    this.shape = shape;
    this.dtype = dtype;
    this.data = data;
  }
}

function valueAt(view: DataView, i: number, stored: FileDType): number {
  if (stored === "F32") return view.getFloat32(4 * i, true);
  const bits = view.getUint16(2 * i, true);
  if (stored === "F16") return fromFloat16(bits);
  scratchWord[0] = bits << 16;
  return scratchFloat[0];
}

const scratchWord = new Uint32Array(1);
const scratchFloat = new Float32Array(scratchWord.buffer);
