/**
 * Every family through the product's own folders: the whole model's gradient on the float64 reference against central differences along random
 * directions, a fully fine-tuned export that loads back with the same logits, and generation through the cache against whole forwards.
 * Against transformers they are judged in model/families.test.ts.
 */
import assert from "node:assert/strict";
import { cpSync, readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../../src/core/devices/reference.ts";
import { exportMerged } from "../../../src/core/files/mergedExport.ts";
import { openModelFolder } from "../../../src/core/files/modelFolder.ts";
import { generate } from "../../../src/core/generate.ts";
import { Frozen } from "../../../src/core/methods/frozen.ts";
import { FullFineTuning } from "../../../src/core/methods/full.ts";
import { type Llama, runBatch, runLogits } from "../../../src/core/model/llama.ts";
import { ropeTables } from "../../../src/core/model/rope.ts";
import { allocateTensors, loadWeights, readPieces } from "../../../src/core/model/tensors.ts";
import { Random } from "../../../src/core/random.ts";
import { fastDevice } from "../../support/devices.ts";
import { integers } from "../../support/randomTensors.ts";
import { plainBatch } from "../../support/storyModel.ts";
import { temporaryFolder } from "./smallRuns.ts";

const fixtures = path.join(import.meta.dirname, "../../fixtures/families");
const families = readdirSync(fixtures, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
const T = 12;

async function open(device: Device, place: string): Promise<Llama> {
  const folder = await openModelFolder(place);
  const tensors = allocateTensors(device, folder.config, "f32");
  await loadWeights(device, tensors, folder);
  await folder.close();
  return { device, config: folder.config, tensors, rope: ropeTables(device, folder.config, 2 * T), precision: "f32", recompute: "none" };
}

/** Two rows, the second of two documents, with a few targets masked. */
function batchFor({ config }: Llama) {
  const batch = plainBatch(2, T, integers(1, 2 * T, config.vocabSize), integers(2, 2 * T, config.vocabSize));
  const [positions, documentStart, targets] = [batch.positions.slice(), batch.documentStart.slice(), batch.targets.slice()];
  for (let t = 5; t < T; t++) {
    positions[T + t] = t - 5;
    documentStart[T + t] = 5;
  }
  for (const masked of [0, 3, T + 4]) targets[masked] = -1;
  return { ...batch, positions, documentStart, targets, unmaskedTokens: 2 * T - 3 };
}

/** A weight's name without its layer. */
const kindOf = (name: string) => name.replace(/layers\.\d+/, "layers.*");

test("there are fixtures of every kind", () => assert.ok(families.length >= 5, families.join()));

for (const family of families)
  describe(family, () => {
    test("the gradient along random directions is the slope of the loss", async () => {
      const model = await open(openReferenceDevice(), path.join(fixtures, family));
      const { device } = model;
      const batch = batchFor(model);
      const method = new FullFineTuning(device, model.tensors);
      const loss = async () => (await runBatch(model, new Frozen(device), batch, null)) / batch.unmaskedTokens;
      await runBatch(model, method, batch, 1 / batch.unmaskedTokens);
      const random = new Random(9);
      // All weights at once, and each kind alone.
      const kinds = new Set(method.parameters.map(({ name }) => kindOf(name)));
      for (const kind of [null, ...kinds]) {
        const moved = method.parameters.filter(({ name }) => kind === null || kindOf(name) === kind);
        const directions: { value: Tensor; held: Float32Array; gradient: Float32Array; direction: Float64Array }[] = [];
        for (const { value, gradient } of moved) {
          const held = (await device.read(value)) as Float32Array;
          directions.push({
            value,
            held,
            gradient: (await device.read(gradient)) as Float32Array,
            direction: Float64Array.from(held, () => random.normal()),
          });
        }
        const length = Math.hypot(...directions.map(({ direction }) => Math.hypot(...direction)));
        const scale = Math.hypot(...directions.map(({ gradient }) => Math.hypot(...gradient)));
        // Half along the gradient, half at random, so that the slope is as large as the gradient: what is lost in it shows.
        for (const { direction, gradient } of directions) for (const [i, r] of direction.entries()) direction[i] = r / length + gradient[i] / scale;
        const slope = directions.reduce((sum, { direction, gradient }) => sum + gradient.reduce((all, g, i) => all + g * direction[i], 0), 0);
        const difference = async (size: number) => {
          const at = async (step: number) => {
            for (const { value, held, direction } of directions)
              device.write(
                value,
                Float32Array.from(held, (x, i) => x + step * direction[i]),
              );
            return loss();
          };
          return ((await at(size)) - (await at(-size))) / (2 * size);
        };
        // Losses come back as f32, 1e-7 apart, so the steps are large and the curvature is taken out (Richardson): what is left is near 1e-5.
        const numeric = (4 * (await difference(0.01)) - (await difference(0.02))) / 3;
        for (const { value, held } of directions) device.write(value, held);
        assert.ok(
          scale > 0 && Math.abs(numeric - slope) <= 1e-3 * scale,
          `${kind ?? "all"}: difference ${numeric}, gradient ${slope}, scale ${scale}`,
        );
      }
      device.close();
    });

    test("a merged export of trained weights loads back with the same logits", async (t) => {
      const folder = temporaryFolder(t);
      cpSync(path.join(fixtures, family), path.join(folder, "base"), { recursive: true });
      const model = await open(fastDevice(), path.join(folder, "base"));
      const { device, tensors } = model;
      const random = new Random(4);
      for (const weight of tensors.byName.values())
        device.write(
          weight,
          ((await device.read(weight)) as Float32Array).map((x) => x + 0.05 * random.normal()),
        );
      const base = await openModelFolder(path.join(folder, "base"));
      const overrides = new Map(
        [...tensors.byName].map(([name, weight]) => [name, { dtype: "F32" as const, floats: () => readPieces(device, weight) }]),
      );
      await exportMerged(base, overrides, path.join(folder, "merged"));
      await base.close();
      const again = await open(fastDevice(), path.join(folder, "merged"));
      const ids = integers(3, T, model.config.vocabSize);
      const logits = (of: Llama) => runLogits(of, new Frozen(of.device), ids, T, null).then((tensor) => of.device.read(tensor));
      assert.deepEqual(await logits(again), await logits(model));
      device.close();
      again.device.close();
    });

    test("generation through the cache takes the likeliest tokens of whole forwards", async () => {
      const model = await open(fastDevice(), path.join(fixtures, family));
      const prompt = integers(8, 4, model.config.vocabSize);
      const ids = await generate(model, prompt, { tokens: 8, temperature: 0, seed: 1, stopIds: [] });
      assert.equal(ids.length, 8);
      const all = [...prompt];
      for (const id of ids) {
        const logits = await model.device.read(await runLogits(model, new Frozen(model.device), Int32Array.from(all), 1, null));
        const best = logits.indexOf(Math.max(...logits));
        // Two logits may be equal but for the order of sums; a wrong cache is off by far more.
        assert.ok(logits[best] - logits[id] <= 1e-5 * Math.abs(logits[best]), `after ${all}: ${id} instead of ${best}`);
        all.push(id);
      }
      const live = model.device.ledger.liveBytes;
      await generate(model, prompt, { tokens: 2, temperature: 0.8, seed: 2, stopIds: [] });
      assert.equal(model.device.ledger.liveBytes, live, "generation gives back what it took");
      model.device.close();
    });
  });
