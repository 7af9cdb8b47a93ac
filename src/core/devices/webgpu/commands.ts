/**
 * Work for the card, in order: compute dispatches are gathered into one submission, with the parameters of all of them in one buffer, and sent when the
 * host waits or a submission is full. It knows no op.
 * The rules to keep: a transfer from the host is sent after everything recorded before it; an error of the card is thrown at the next wait, its cause before
 * what followed from it; once the card is lost, everything but closing throws.
 */
import { DeviceLostError } from "../deviceLost.ts";
import { type GpuData, spansOf } from "./buffers.ts";
import { PassTimer } from "./passTimer.ts";

/** A compiled kernel. */
export interface Pipeline {
  name: string;
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
  /** Of each buffer whether it is written. */
  writes: readonly boolean[];
}

/** Parameters of one dispatch start at multiples of this, as uniform offsets must. */
const slotBytes = 256;
const slots = 512;
/** What this holds on the card. */
export const parameterBytes = slots * slotBytes;

export class Commands {
  readonly #device: GPUDevice;
  readonly #params: GPUBuffer;
  readonly #staged = new Uint32Array((slots * slotBytes) / 4);
  #used = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #watched: Promise<void>[] = [];
  #cause: Error | null = null;
  #error: Error | null = null;
  #lost: DeviceLostError | null = null;
  readonly #timer: PassTimer;
  readonly #versions = new WeakMap<GPUBuffer, number>();

  constructor(device: GPUDevice) {
    this.#device = device;
    this.#timer = new PassTimer(device);
    this.#params = device.createBuffer({ size: parameterBytes, usage: 0x0040 | 0x0008 }); // UNIFORM | COPY_DST
    device.addEventListener("uncapturederror", (event) => {
      this.#error ??= new Error(`webgpu: ${event.error.message}`);
    });
    void device.lost.then(({ message }) => {
      this.#lost = new DeviceLostError(message);
    });
  }

  /** What may turn out to have failed; it is thrown at the next wait. */
  watch(failure: Promise<Error | null>): void {
    const settled = failure.then(
      (error) => {
        this.#cause ??= error;
      },
      () => {}, // a lost card answers nothing; that it is lost is known
    );
    this.#watched.push(settled);
  }

  /** Whether the card tells how long a kernel took. */
  get canTime(): boolean {
    return this.#timer.available;
  }

  /** Changes whenever a buffer's content may have. */
  version(buffer: GPUBuffer): number {
    return this.#versions.get(buffer) ?? 0;
  }

  #written(buffer: GPUBuffer): void {
    this.#versions.set(buffer, this.version(buffer) + 1);
  }

  /** Runs a kernel over so many workgroups; `params` are 32-bit words. One that is timed gets a pass of its own. */
  dispatch(
    { pipeline, layout, writes }: Pipeline,
    buffers: readonly GPUBuffer[],
    params: Uint32Array,
    groups: readonly [number, number, number],
    timed?: (nanoseconds: number) => void,
  ): void {
    this.#requireCard();
    if (groups.some((count) => count === 0)) return;
    if (this.#used === slots) this.submit();
    this.#encoder ??= this.#device.createCommandEncoder();
    const timing = timed && this.#timer.begin(timed);
    if (timing) this.#endPass();
    this.#pass ??= this.#encoder.beginComputePass(timing?.pass);
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
    for (const [i, written] of writes.entries()) if (written) this.#written(buffers[i]);
    if (!timing) return;
    this.#endPass();
    timing.end(this.#encoder);
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  /** Whole words of a tensor's storage become these bytes. */
  upload(data: GpuData, firstByte: number, bytes: ArrayBufferView<ArrayBuffer>): void {
    this.#requireCard();
    this.submit();
    for (const span of spansOf(data, firstByte, bytes.byteLength)) {
      this.#written(span.buffer);
      this.#device.queue.writeBuffer(span.buffer, span.offset, bytes.buffer, bytes.byteOffset + span.from, span.bytes);
    }
  }

  /** Hands over what was recorded. */
  submit(): void {
    if (!this.#encoder) return;
    this.#endPass();
    this.#device.queue.writeBuffer(this.#params, 0, this.#staged, 0, (this.#used * slotBytes) / 4);
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#used = 0;
    this.#timer.submitted();
  }

  /** So many bytes of a storage from its byte `first` on, whole words, when everything before has been done. They pass through memory of the host's. */
  async download(data: GpuData, first: number, count: number): Promise<ArrayBuffer> {
    this.#requireCard();
    this.submit();
    const encoder = this.#device.createCommandEncoder();
    const staged = [...spansOf(data, first, count)].map(({ buffer, offset, from, bytes }) => {
      const staging = this.#device.createBuffer({ size: Math.max(4, bytes), usage: 0x0001 | 0x0008 }); // MAP_READ | COPY_DST
      if (bytes > 0) encoder.copyBufferToBuffer(buffer, offset, staging, 0, bytes);
      return { staging, from, bytes };
    });
    this.#device.queue.submit([encoder.finish()]);
    const result = new Uint8Array(count);
    try {
      await Promise.all(staged.map(({ staging }) => staging.mapAsync(0x0001)));
      for (const { staging, from, bytes } of staged) result.set(new Uint8Array(staging.getMappedRange(), 0, bytes), from);
    } catch (error) {
      this.#error ??= error as Error;
    } finally {
      for (const { staging } of staged) staging.destroy();
    }
    await this.#check();
    return result.buffer;
  }

  /** Waits for everything that was recorded. */
  async done(): Promise<void> {
    this.#requireCard();
    this.submit();
    await this.#device.queue.onSubmittedWorkDone();
    await this.#check();
  }

  async #check(): Promise<void> {
    await Promise.all(this.#watched.splice(0));
    this.#requireCard();
    const error = this.#cause ?? this.#error;
    this.#cause = null;
    this.#error = null;
    if (error) throw error;
  }

  #requireCard(): void {
    if (this.#lost) throw this.#lost;
  }

  close(): void {
    this.#params.destroy();
  }
}
