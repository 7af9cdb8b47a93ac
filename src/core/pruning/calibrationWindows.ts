/**
 * The calibration windows on the device, in parts that run through a block together, with their hidden states before the block that is next. It runs nothing
 * through a block itself.
 */
import type { Device } from "../devices/device.ts";
import { type DeviceBatch, freeBatch, type Llama, uploadBatch } from "../model/llama.ts";
import { Activations } from "./activations.ts";
import type { Calibration } from "./calibration.ts";

/** Tokens that run through a block together, about: enough for matrix products to be fast. */
const partTokens = 1024;

export interface WindowsOptions {
  maxActivationBytes: number;
  /** Where activations go that are more. */
  activationFolder: string;
}

/** The calibration tokens on the device, and their hidden states before the block that is next. */
export class CalibrationWindows {
  readonly activations: Activations;
  readonly #batches: DeviceBatch[];
  readonly #device: Device;

  private constructor(device: Device, activations: Activations, batches: DeviceBatch[]) {
    this.#device = device;
    this.activations = activations;
    this.#batches = batches;
  }

  static async open(model: Llama, { ids, samples, sequenceLength }: Calibration, options: WindowsOptions): Promise<CalibrationWindows> {
    const { device, config } = model;
    const perPart = Math.min(samples, Math.max(1, Math.floor(partTokens / sequenceLength)));
    const activations = await Activations.create(device, {
      tokens: samples * sequenceLength,
      partTokens: perPart * sequenceLength,
      columns: config.hiddenSize,
      maxBytes: options.maxActivationBytes,
      folder: options.activationFolder,
    });
    const batches: DeviceBatch[] = [];
    const windows = new CalibrationWindows(device, activations, batches);
    for (let part = 0; part < activations.parts; part++) {
      const tokens = activations.tokensOf(part);
      const inputs = ids.subarray(part * perPart * sequenceLength, part * perPart * sequenceLength + tokens);
      const positions = Int32Array.from(inputs, (_, i) => i % sequenceLength);
      const batchSize = tokens / sequenceLength;
      batches.push(uploadBatch(model, { batchSize, sequenceLength, inputs, positions, documentStart: new Int32Array(tokens) }));
      await activations.update(part, (x) => device.embeddingForward(x, model.tensors.embedding, batches[part].inputs), true);
    }
    return windows;
  }

  get parts(): number {
    return this.activations.parts;
  }

  batch(part: number): DeviceBatch {
    return this.#batches[part];
  }

  async close(): Promise<void> {
    for (const batch of this.#batches) freeBatch(this.#device, batch);
    await this.activations.close();
  }
}
