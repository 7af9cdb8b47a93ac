/**
 * An adapter as it lies in files, whatever their format: what reading one gives, and what writing one takes. The formats are adapterFile.ts (our own)
 * and peftAdapter.ts; putting values on a device is adapterRun.ts's.
 * The rule to keep: an opened adapter fits its base, tensor by tensor; only values are still to be read, and those are checked when they are.
 */
import type { AdapterConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";
import type { FileDType } from "../devices/device.ts";
import type { Precision } from "../model/tensors.ts";
import type { SafetensorsFile } from "./safetensors.ts";
import { decodeFloats } from "./storedFloats.ts";
import { quote } from "./strictJson.ts";

export interface StoredAdapter {
  config: AdapterConfig;
  /** What the run computed in, where that is known; a 4-bit base is quantised from weights of this precision. */
  precision: Precision | null;
  /** Parameters by the method's names, with their shapes; one that is not here stays as it is at the start, when it changes nothing. */
  shapes: ReadonlyMap<string, readonly number[]>;
  /** Throws UserError `adapter/not-finite`. */
  read(name: string): Promise<Float32Array>;
  /** Sentences about what was read otherwise than written. */
  notices: string[];
  close(): Promise<void>;
}

/** An adapter out of the trained.safetensors of a checkpoint, which was compared with its manifest. */
export function checkpointAdapter(
  file: SafetensorsFile,
  config: AdapterConfig,
  precision: Precision | null,
  shapes: ReadonlyMap<string, readonly number[]>,
): StoredAdapter {
  requireTensors(
    file,
    [...shapes].map(([name, shape]) => ({ name, shape })),
  );
  return { config, precision, shapes, read: (name) => readFloats(file, name), notices: [], close: () => file.close() };
}

/** Throws UserError when a tensor is missing, is of another shape, or is no float. */
export function requireTensors(file: SafetensorsFile, expected: readonly { name: string; shape: readonly number[] }[]): void {
  for (const { name, shape } of expected) {
    const info = file.header.tensors.get(name);
    if (!info)
      throw new UserError("adapter/missing-tensor", `${file.path}: the tensor ${quote(name)} is missing.`, "Export or download the adapter again.");
    if (info.shape.length !== shape.length || info.shape.some((n, i) => n !== shape[i]))
      throw new UserError(
        "adapter/wrong-shape",
        `${file.path}: ${quote(name)} has the shape (${info.shape.slice(0, 4).join(", ")}), but this model and the adapter's settings call for (${shape.join(", ")}).`,
        "Use the model that the adapter was made for.",
      );
    if (!isFloat(info.dtype))
      throw new UserError(
        "adapter/unsupported",
        `${file.path}: ${quote(name)} is stored as ${info.dtype}; F32, F16 and BF16 are read.`,
        "Save it in one of these.",
      );
  }
}

function isFloat(dtype: string): dtype is FileDType {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** The values of a tensor. Throws UserError `adapter/not-finite`. */
export async function readFloats(file: SafetensorsFile, name: string): Promise<Float32Array> {
  const values = decodeFloats(await file.readBytes(name), file.info(name).dtype as FileDType);
  if (!values.every(Number.isFinite))
    throw new UserError("adapter/not-finite", `${file.path}: ${quote(name)} has NaN or infinity among its values.`, "Use an earlier checkpoint.");
  return values;
}
