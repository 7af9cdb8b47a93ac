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
import { Commands } from "./commands.ts";
import type { Gpu } from "./gpu.ts";
import { copy, fill } from "./kernels/elementwise.wgsl.ts";
import { Programs } from "./program.ts";

/** Room for what an op needs beside its tensors, f32; taken when the device opens and counted as workspace. */
export const webgpuWorkspaceBytes = 64 << 20;
export const workspaceElements = webgpuWorkspaceBytes / 4;

export interface TensorData extends GpuData {
  /** Of an i32 tensor: what it holds. */
  ints: Int32Array | null;
}

export class WebgpuMemory {
  readonly description: string;
  readonly ledger = new MemoryLedger();
  protected readonly commands: Commands;
  protected readonly programs: Programs;
  protected readonly workspace: Tensor;
  readonly #gpu: Gpu;
  readonly #buffers: Buffers;
  readonly #tensors: HostTensors<TensorData>;
  /** Integer tables as callers pass them, by identity: a selection's tables are the same objects in every step. */
  readonly #tables = new WeakMap<Int32Array, { tensor: Table; content: Int32Array }>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.description = `webgpu: ${gpu.title}`;
    this.commands = new Commands(gpu.device);
    this.#buffers = new Buffers(gpu.device, () => this.commands.submit());
    this.#tensors = new HostTensors<TensorData>(this.ledger, {
      create: (size, dtype) => ({ ...this.#buffers.create(size, dtype), ints: dtype === "i32" ? new Int32Array(size) : null }),
      view: (data, start, size) => ({ buffer: data.buffer, at: data.at + start, size, ints: data.ints?.subarray(start, start + size) ?? null }),
      release: (data) => this.#buffers.release(data),
    });
    this.programs = new Programs(gpu.device, this.commands, (tensor) => this.data(tensor));
    this.workspace = this.allocate([workspaceElements], "f32", "workspace");
  }

  protected data(tensor: Tensor): TensorData {
    if (tensor instanceof Table) return tensor.data;
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

  /** An integer table on the card, for as long as the caller keeps the table; one whose contents changed is sent again. */
  protected table(table: Int32Array, make: (table: Int32Array) => Int32Array = (same) => same): Tensor {
    const known = this.#tables.get(table);
    if (known?.content.every((value, i) => value === table[i])) return known.tensor;
    const tensor = new Table(this.#gpu.device, make(table));
    this.#tables.set(table, { tensor, content: table.slice() });
    return tensor;
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
    const { buffer, at, ints } = this.data(tensor);
    if (tensor.dtype === "bf16") {
      this.#uploadBf16(tensor, offset, Uint16Array.from(data, toBfloat16));
      return;
    }
    ints?.set(data, offset);
    this.commands.upload(buffer, 4 * (at + offset), data as Float32Array<ArrayBuffer>);
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
    const { buffer, at } = this.data(tensor);
    const start = at + offset;
    if (start % 2 === 0 && values.length % 2 === 0) {
      this.commands.upload(buffer, 2 * start, values as Uint16Array<ArrayBuffer>);
      return;
    }
    for (let first = 0; first < values.length; first += workspaceElements) {
      const part = values.subarray(first, first + workspaceElements);
      const floats = new Float32Array(Uint32Array.from(part, (bits) => bits << 16).buffer);
      const room = this.room(floats.length);
      this.commands.upload(this.data(room).buffer, 4 * this.data(room).at, floats);
      copy(this.programs, this.#elements(tensor, offset + first, floats.length), room);
    }
  }

  /** Elements [first, first + count) of a tensor, whatever its shape. */
  #elements(tensor: Tensor, first: number, count: number): Tensor {
    return this.rows(this.#tensors.shaped(tensor, [sizeOf(tensor.shape)]), first, count);
  }

  async read(tensor: Tensor, offset = 0, count = sizeOf(tensor.shape) - offset): Promise<Float32Array | Int32Array> {
    shapes.checkRead(tensor, offset, count);
    const { buffer, at } = this.data(tensor);
    const start = at + offset;
    if (tensor.dtype === "i32") return new Int32Array(await this.commands.download({ buffer }, start, count));
    if (tensor.dtype === "f32") return new Float32Array(await this.commands.download({ buffer }, start, count));
    const firstWord = start >> 1;
    const halves = new Uint16Array(await this.commands.download({ buffer }, firstWord, Math.ceil((start + count) / 2) - firstWord));
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
    this.#tensors.close();
    this.#buffers.close();
    this.commands.close();
    this.#gpu.close();
  }
}

/** Integers that a kernel reads, a few kilobytes that the ledger does not count. The card forgets them when nobody here refers to them any more. */
class Table implements Tensor {
  readonly shape: readonly number[];
  readonly dtype = "i32";
  readonly memoryClass = "workspace";
  readonly data: TensorData;

  constructor(device: GPUDevice, content: Int32Array) {
    this.shape = [content.length];
    const buffer = device.createBuffer({ size: Math.max(4, content.byteLength), usage: 0x0080, mappedAtCreation: true }); // STORAGE
    new Int32Array(buffer.getMappedRange()).set(content);
    buffer.unmap();
    this.data = { buffer, at: 0, size: content.length, ints: content };
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
