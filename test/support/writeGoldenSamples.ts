/**
 * Writes test/fixtures/golden-torch/story_samples.safetensors: of every gradient and every final weight that PyTorch gave, the entries that `sampleOf` takes.
 * Run by hand with the whole goldens at hand: `node test/developmentNode.mjs test/support/writeGoldenSamples.ts`.
 */
import path from "node:path";
import { openSafetensors } from "../../src/core/files/safetensors.ts";
import { entryOf, type TensorEntry, writeSafetensors } from "../../src/core/files/safetensorsWriter.ts";
import { goldenSamples, readF32, sampleOf, wholeGoldens } from "./goldens.ts";
import { sharedData } from "./sharedData.ts";

const folder = sharedData("golden-torch");
if (!folder) throw new Error("The whole goldens are not at hand.");
const entries: TensorEntry[] = [];
for (const [kind, { file, prefix }] of Object.entries(wholeGoldens)) {
  const opened = await openSafetensors(path.join(folder, file));
  const names = [...opened.header.tensors.keys()];
  await opened.close();
  for (const name of names) {
    const sample = sampleOf(await readF32(path.join(folder, file), name));
    entries.push(entryOf(`${kind}.${name.slice(prefix.length)}`, "F32", [sample.length], () => sample));
  }
}
await writeSafetensors(goldenSamples, entries);
