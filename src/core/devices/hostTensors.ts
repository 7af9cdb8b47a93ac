/**
 * The tensors of devices whose memory is JavaScript's (reference, portable) or nobody's (meta): handles, row views, and their count in the ledger.
 * It knows no op and no number format; the storage of a tensor is what `create` returns.
 * The rule to keep: a freed tensor, its views, and a tensor of another device are refused, and the ledger changes only after the memory was had.
 */

import type { MemoryClass } from "../../protocol/memory.ts";
import { bytesOf, type DType, sizeOf, type Tensor } from "./device.ts";
import type { MemoryLedger } from "./memoryLedger.ts";
import { checkAllocate, checkRows } from "./shapes.ts";

/** How a device makes, views and takes back the storage of a tensor. */
export interface Storage<Data> {
  /** Storage for `size` elements; throws when it cannot be had. */
  create(size: number, dtype: DType): Data;
  /** The elements [start, start + size) of a storage, sharing its memory. */
  view(data: Data, start: number, size: number): Data;
  /** Takes storage back that `create` made. */
  release(data: Data, dtype: DType): void;
}

class HostTensor<Data> implements Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly memoryClass: MemoryClass;
  readonly data: Data;
  /** The tensor that holds the memory: itself, unless it is a view. */
  readonly owner: HostTensor<Data>;
  freed = false;

  constructor(shape: readonly number[], dtype: DType, memoryClass: MemoryClass, data: Data, owner: HostTensor<Data> | null) {
    this.shape = shape;
    this.dtype = dtype;
    this.memoryClass = memoryClass;
    this.data = data;
    this.owner = owner ?? this;
  }
}

export class HostTensors<Data> {
  readonly #ledger: MemoryLedger;
  readonly #storage: Storage<Data>;
  readonly #live = new Set<HostTensor<Data>>();

  constructor(ledger: MemoryLedger, storage: Storage<Data>) {
    this.#ledger = ledger;
    this.#storage = storage;
  }

  allocate(shape: readonly number[], dtype: DType, memoryClass: MemoryClass): Tensor {
    checkAllocate(shape, dtype);
    const tensor = new HostTensor([...shape], dtype, memoryClass, this.#storage.create(sizeOf(shape), dtype), null);
    this.#ledger.addTensor(memoryClass, bytesOf(shape, dtype, this.#ledger.elementBytes));
    this.#live.add(tensor);
    return tensor;
  }

  free(tensor: Tensor): void {
    const owner = this.#owned(tensor);
    if (owner !== tensor) throw new Error("free: a view holds no memory of its own");
    owner.freed = true;
    this.#live.delete(owner);
    this.#ledger.removeTensor(owner.memoryClass, bytesOf(owner.shape, owner.dtype, this.#ledger.elementBytes));
    this.#storage.release(owner.data, owner.dtype);
  }

  rows(tensor: Tensor, first: number, count: number): Tensor {
    const { start, size, shape } = checkRows(tensor, first, count);
    const owner = this.#owned(tensor);
    const data = this.#storage.view((tensor as HostTensor<Data>).data, start, size);
    return new HostTensor(shape, tensor.dtype, tensor.memoryClass, data, owner);
  }

  /** The same elements under another shape of their number; a view. */
  shaped(tensor: Tensor, shape: readonly number[]): Tensor {
    const owner = this.#owned(tensor);
    return new HostTensor([...shape], tensor.dtype, tensor.memoryClass, (tensor as HostTensor<Data>).data, owner);
  }

  /** The storage of a tensor that is still alive. */
  data(tensor: Tensor): Data {
    this.#owned(tensor);
    return (tensor as HostTensor<Data>).data;
  }

  /** Frees everything. */
  close(): void {
    for (const tensor of [...this.#live]) this.free(tensor);
  }

  #owned(tensor: Tensor): HostTensor<Data> {
    if (!(tensor instanceof HostTensor)) throw new Error(`a ${tensor.dtype} (${tensor.shape.join(", ")}) tensor of another device was used`);
    const owner = tensor.owner as HostTensor<Data>;
    if (owner.freed) throw new Error(`a freed ${tensor.dtype} (${tensor.shape.join(", ")}) tensor was used`);
    if (!this.#live.has(owner)) throw new Error(`a ${tensor.dtype} (${tensor.shape.join(", ")}) tensor of another device was used`);
    return owner;
  }
}
