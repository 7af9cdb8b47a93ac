/** A process for checkpointCrash.test.ts that saves one checkpoint after the other into the run folder it is given until it is killed. */
import { saveCheckpoint } from "../../../src/core/files/checkpoint.ts";
import { entryOf } from "../../../src/core/files/safetensorsWriter.ts";

for (let step = 1; ; step++) {
  const tensors = [entryOf("m", "F32", [5000], () => new Float32Array(5000).fill(step))];
  await saveCheckpoint(process.argv[2], step, { "state.json": { json: { step } }, "optimizer.safetensors": { tensors } }, { keep: 2 });
  await new Promise((resolve) => process.stdout.write(`saved ${step}\n`, resolve));
}
