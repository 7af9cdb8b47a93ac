/**
 * The hidden states of all calibration windows between two decoder blocks, (tokens, C) f32: on the device, or, above a limit, in a temporary file of which
 * a few windows are on the device at a time. The rule to keep: a file has no name while it is used (where the system allows), so that nothing stays behind
 * when the process is killed.
 */
import { type FileHandle, open, rm } from "node:fs/promises";
import path from "node:path";
import type { Device, Tensor } from "../devices/device.ts";
import { temporaryName, writeError } from "../files/durableFile.ts";

export interface ActivationOptions {
  /** Tokens of all windows, and of those that are worked on together, which divide them up; the last part may be smaller. */
  tokens: number;
  partTokens: number;
  columns: number;
  /** Bytes that may lie on the device; more go to a file in `folder`. */
  maxBytes: number;
  folder: string;
}

export class Activations {
  /** Bytes of the file; 0 when all is on the device. */
  readonly fileBytes: number;
  readonly #device: Device;
  readonly #options: ActivationOptions;
  /** All windows, or with a file one part. */
  readonly #memory: Tensor;
  readonly #file: FileHandle | null;
  readonly #fileName: string;

  private constructor(device: Device, options: ActivationOptions, file: FileHandle | null, fileName: string) {
    this.#device = device;
    this.#options = options;
    this.#file = file;
    this.#fileName = fileName;
    this.fileBytes = file ? bytesOfActivations(options) : 0;
    this.#memory = device.allocate([file ? options.partTokens : options.tokens, options.columns], "f32", "activations");
  }

  static async create(device: Device, options: ActivationOptions): Promise<Activations> {
    if (bytesOfActivations(options) <= options.maxBytes) return new Activations(device, options, null, "");
    const fileName = path.join(options.folder, temporaryName());
    const file = await open(fileName, "wx+").catch(async (error) => {
      throw await writeError(error, "the calibration activations", options.folder, bytesOfActivations(options));
    });
    if (process.platform !== "win32") await rm(fileName);
    return new Activations(device, options, file, fileName);
  }

  get parts(): number {
    return Math.ceil(this.#options.tokens / this.#options.partTokens);
  }

  /** Tokens of a part. */
  tokensOf(part: number): number {
    const { tokens, partTokens } = this.#options;
    return Math.min(partTokens, tokens - part * partTokens);
  }

  /** Calls body with each part in turn, or with every n-th; what it makes of the tensor is forgotten. */
  async forEach(body: (x: Tensor, part: number) => Promise<void>, every = 1): Promise<void> {
    const { partTokens, columns } = this.#options;
    // What came from a file may be changed as it is.
    const copy = this.#file ? null : this.#device.allocate([partTokens, columns], "f32", "activations");
    for (let part = 0; part < this.parts; part += every) {
      const x = copy ? this.#device.rows(copy, 0, this.tokensOf(part)) : this.#view(part);
      if (copy) this.#device.copy(x, this.#view(part));
      else await this.#load(x, part);
      await body(x, part);
    }
    if (copy) this.#device.free(copy);
  }

  /** Puts what `change` makes of a part in its place; `fresh`: there was nothing before. */
  async update(part: number, change: (x: Tensor) => void, fresh = false): Promise<void> {
    const x = this.#view(part);
    if (this.#file && !fresh) await this.#load(x, part);
    change(x);
    if (this.#file) await this.#store(x, part);
  }

  #view(part: number): Tensor {
    return this.#device.rows(this.#memory, this.#file ? 0 : part * this.#options.partTokens, this.tokensOf(part));
  }

  #position(part: number): number {
    return 4 * part * this.#options.partTokens * this.#options.columns;
  }

  async #load(x: Tensor, part: number): Promise<void> {
    const bytes = new Uint8Array(4 * this.tokensOf(part) * this.#options.columns);
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await (this.#file as FileHandle).read(bytes, at, bytes.length - at, this.#position(part) + at);
      if (bytesRead === 0) throw new Error("the file of calibration activations ended early");
      at += bytesRead;
    }
    this.#device.load(x, 0, bytes, "F32");
  }

  async #store(x: Tensor, part: number): Promise<void> {
    const values = (await this.#device.read(x)) as Float32Array;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await (this.#file as FileHandle).write(bytes, at, bytes.length - at, this.#position(part) + at);
        at += bytesWritten;
      }
    } catch (error) {
      throw await writeError(error, "the calibration activations", this.#options.folder, this.fileBytes);
    }
  }

  async close(): Promise<void> {
    this.#device.free(this.#memory);
    await this.#file?.close();
    if (this.#file) await rm(this.#fileName, { force: true });
  }
}

export function bytesOfActivations({ tokens, columns }: Pick<ActivationOptions, "tokens" | "columns">): number {
  return 4 * tokens * columns;
}
