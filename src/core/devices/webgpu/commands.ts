/**
 * Work for the card, in order: compute dispatches are gathered into one submission, with the parameters of all of them in one buffer, and sent when the
 * host waits or a submission is full. It knows no op.
 * The rules to keep: a transfer from the host is sent after everything recorded before it; an error of the card is thrown at the next wait, with the name
 * of the kernel when it can be known.
 */
import type { GpuData } from "./buffers.ts";

/** A compiled kernel. */
export interface Pipeline {
  name: string;
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** Parameters of one dispatch start at multiples of this, as uniform offsets must. */
const slotBytes = 256;
const slots = 512;

export class Commands {
  readonly #device: GPUDevice;
  readonly #params: GPUBuffer;
  readonly #staged = new Uint32Array((slots * slotBytes) / 4);
  #used = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #error: Error | null = null;

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#params = device.createBuffer({ size: slots * slotBytes, usage: 0x0040 | 0x0008 }); // UNIFORM | COPY_DST
    device.addEventListener("uncapturederror", (event) => {
      this.#error ??= new Error(`webgpu: ${event.error.message}`);
    });
    void device.lost.then(({ reason, message }) => {
      if (reason !== "destroyed") this.#error ??= new Error(`webgpu: the device was lost: ${message}`);
    });
  }

  /** Runs a kernel over so many workgroups; `params` are 32-bit words. */
  dispatch({ pipeline, layout }: Pipeline, buffers: readonly GPUBuffer[], params: Uint32Array, groups: readonly [number, number, number]): void {
    if (groups.some((count) => count === 0)) return;
    if (this.#used === slots) this.submit();
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#staged.set(params, (this.#used * slotBytes) / 4);
    const bindGroup = this.#device.createBindGroup({
      layout,
      entries: [
        { binding: 0, resource: { buffer: this.#params, size: slotBytes } },
        ...buffers.map((buffer, i) => ({ binding: i + 1, resource: { buffer } })),
      ],
    });
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, bindGroup, [this.#used++ * slotBytes]);
    this.#pass.dispatchWorkgroups(...groups);
  }

  /** Whole words of a buffer become these bytes. */
  upload(buffer: GPUBuffer, byteOffset: number, bytes: ArrayBufferView<ArrayBuffer>): void {
    this.submit();
    this.#device.queue.writeBuffer(buffer, byteOffset, bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Hands over what was recorded. */
  submit(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    this.#device.queue.writeBuffer(this.#params, 0, this.#staged, 0, (this.#used * slotBytes) / 4);
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#pass = null;
    this.#used = 0;
  }

  /** Bytes of a buffer's words [first, first + count), when everything before has been done. */
  async download({ buffer }: Pick<GpuData, "buffer">, first: number, count: number): Promise<ArrayBuffer> {
    this.submit();
    const size = Math.max(4, 4 * count);
    const staging = this.#device.createBuffer({ size, usage: 0x0001 | 0x0008 }); // MAP_READ | COPY_DST
    const encoder = this.#device.createCommandEncoder();
    if (count > 0) encoder.copyBufferToBuffer(buffer, 4 * first, staging, 0, 4 * count);
    this.#device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(0x0001);
      return staging.getMappedRange().slice(0, 4 * count);
    } catch (error) {
      throw this.#error ?? error;
    } finally {
      staging.destroy();
      this.#check();
    }
  }

  /** Waits for everything that was recorded. */
  async done(): Promise<void> {
    this.submit();
    await this.#device.queue.onSubmittedWorkDone();
    this.#check();
  }

  #check(): void {
    const error = this.#error;
    this.#error = null;
    if (error) throw error;
  }

  close(): void {
    this.#params.destroy();
  }
}
