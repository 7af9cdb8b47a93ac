/** The bundled model as tasks get it, on a device of the test's choice. */
import path from "node:path";
import { openTokenizer } from "../../../src/core/data/tokenizer.ts";
import type { Device } from "../../../src/core/devices/device.ts";
import type { OpenModel } from "../../../src/core/inference.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import type { Precision } from "../../../src/core/model/tensors.ts";
import { openStory, storyFolder } from "../../support/storyModel.ts";

export const fixtures = path.resolve(import.meta.dirname, "../../fixtures/tasks");

export async function storyForTasks(device: Device, precision: Precision): Promise<OpenModel> {
  const model = await openStory(device, precision, 1);
  const tokenizer = await openTokenizer(storyFolder);
  return { model, method: new Frozen(device), tokenizer, config: null, reasons: [], close: () => device.close() };
}
