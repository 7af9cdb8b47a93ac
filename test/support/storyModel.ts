/** The bundled TinyStories model on a device, and batches for it. */
import type { Batch } from "../../src/core/data/batch.ts";
import type { Device } from "../../src/core/devices/device.ts";
import { openModelFolder } from "../../src/core/files/modelFolder.ts";
import type { Llama } from "../../src/core/model/llama.ts";
import { ropeTables } from "../../src/core/model/rope.ts";
import { allocateTensors, loadWeights, type Precision } from "../../src/core/model/tensors.ts";

export const storyFolder = new URL("../../media/demo/model", import.meta.url).pathname;

export async function openStory(device: Device, precision: Precision, positions: number, recompute: Llama["recompute"] = "none"): Promise<Llama> {
  const folder = await openModelFolder(storyFolder);
  const tensors = allocateTensors(device, folder.config, precision);
  await loadWeights(device, tensors, folder);
  await folder.close();
  return { device, config: folder.config, tensors, rope: ropeTables(device, folder.config, positions), precision, recompute };
}

/** One document a row, every target as given. */
export function plainBatch(batchSize: number, sequenceLength: number, inputs: Int32Array, targets: Int32Array): Batch {
  const positions = Int32Array.from(inputs, (_, i) => i % sequenceLength);
  return {
    batchSize,
    sequenceLength,
    inputs,
    targets,
    positions,
    documentStart: new Int32Array(inputs.length),
    unmaskedTokens: targets.filter((target) => target >= 0).length,
    tokens: inputs.length,
  };
}
