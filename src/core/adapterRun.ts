/**
 * The part of a run that only adapters have: attaching one, finding where LoRS starts, and putting saved values into one. What each method computes is
 * the method's; how an adapter lies in files is files/storedAdapter.ts's.
 * The rule to keep: what is found before the first update depends on the run's seed and its first rows alone, so that a run that was stopped meanwhile
 * begins again and finds the same.
 */
import type { AdapterConfig } from "../protocol/runConfig.ts";
import type { Batch } from "./data/batch.ts";
import { Documents } from "./data/documents.ts";
import { evaluationBatches, type RowOptions } from "./data/packing.ts";
import type { Device } from "./devices/device.ts";
import type { StoredAdapter } from "./files/storedAdapter.ts";
import { attachAdapter } from "./methods/adapters.ts";
import { LoRS } from "./methods/lors.ts";
import { initialiseLors } from "./methods/lorsInit.ts";
import type { AdapterMethod } from "./methods/method.ts";
import type { Run } from "./run.ts";
import type { Emit, RunControl } from "./trainer.ts";

/** Puts the run's adapter in place, as it starts. */
export function attachRunAdapter(run: Run, config: AdapterConfig): AdapterMethod {
  const method = attachAdapter(run.device, run.model.tensors, config, run.config.train.seed);
  run.method = method;
  run.holdsGradients = false;
  return method;
}

/** What an adapter still wants before its first update. False when the run was stopped meanwhile; it is then as if it had not begun. */
export async function initialiseAdapter(run: Run, config: AdapterConfig, emit: Emit, control: RunControl): Promise<boolean> {
  if (!(run.method instanceof LoRS) || !needsInitialising(config)) return true;
  const { batchSize, sequenceLength, seed } = run.config.train;
  const rows = { batchSize, sequenceLength, packing: run.config.data.packing, padTokenId: run.padTokenId };
  return initialiseLors(run.model, run.method, initialBatches(run.batches.documents, config.initSamples, rows), {
    seed,
    onProgress(done, of) {
      // At most a hundred lines of the event log, whatever the number of rows.
      if (Math.floor((100 * done) / of) > Math.floor((100 * (done - 1)) / of)) emit({ kind: "initialising", done, of });
    },
    stopped: () => control.stopRequested(),
  });
}

/** Whether a LoRS run looks at gradients before it starts. */
export function needsInitialising(config: AdapterConfig): config is Extract<AdapterConfig, { name: "lors" }> {
  return config.name === "lors" && config.init === "gradientSvd";
}

/** The first rows of the training data (of a text that is cut into several, each piece is one), packed as in training, in the file's order. */
function initialBatches(documents: Documents, samples: number, rows: RowOptions): Batch[] {
  const first = new Documents();
  for (let i = 0; i < Math.min(samples, documents.count); i++)
    first.add({ ids: documents.tokensOf(i), marks: documents.marksOf(i), line: documents.lineOf(i) });
  return evaluationBatches(first, rows);
}

/** Writes an opened adapter's values into the method that was attached for it, or for a part of it. */
export async function putAdapter(device: Device, method: AdapterMethod, stored: StoredAdapter): Promise<void> {
  for (const { name, value } of method.parameters) device.write(value, await stored.read(name));
  method.afterUpdate();
}
