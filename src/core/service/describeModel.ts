/** What a model folder is, for a list of models: its config.json and the headers of its weight files are looked at, no weight is read. */
import { stat } from "node:fs/promises";
import path from "node:path";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { sizeOf } from "../devices/device.ts";
import { type ModelFolder, openModelFolder } from "../files/modelFolder.ts";
import { weightShapes } from "../model/config.ts";

/** A folder that cannot be trained says why. */
export async function describeModel(folder: string): Promise<ServiceResults["describeModel"]> {
  let opened: ModelFolder;
  try {
    opened = await openModelFolder(folder);
  } catch (error) {
    if (error instanceof UserError) return { supported: false, reason: `${error.message} ${error.action}` };
    throw error;
  }
  const { config, rawConfig, files } = opened;
  await opened.close();
  const sizes = [...files.keys()].map(async (file) => (await stat(path.join(folder, file))).size);
  const { architectures } = rawConfig;
  return {
    supported: true,
    architecture: Array.isArray(architectures) && typeof architectures[0] === "string" ? architectures[0] : config.family,
    parameters: [...weightShapes(config).values()].reduce((sum, shape) => sum + sizeOf(shape), 0),
    layers: config.numLayers,
    hiddenSize: config.hiddenSize,
    maxPositions: config.maxPositions,
    bytes: (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0),
    dtype: dtypesOf(opened),
  };
}

/** How its weights are stored, the dtype of most bytes first. */
function dtypesOf({ tensors }: ModelFolder): string {
  const bytesByDType = new Map<string, number>();
  for (const { dtype, bytes } of tensors.values()) bytesByDType.set(dtype, (bytesByDType.get(dtype) ?? 0) + bytes);
  return [...bytesByDType]
    .sort(([, a], [, b]) => b - a)
    .map(([dtype]) => dtype)
    .join(", ");
}
