/**
 * A pruned copy of a model folder for tests, made here so that they need no pruner: of every four neighbouring input columns of each linear map, the two
 * entries of least magnitude become zero. Everything else keeps its value.
 */
import { cpSync } from "node:fs";
import path from "node:path";
import type { FileDType } from "../../../src/core/devices/device.ts";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { entryOf, writeSafetensors } from "../../../src/core/files/safetensorsWriter.ts";
import { decodeFloats, encodeFloats } from "../../../src/core/files/storedFloats.ts";

/** Values of every tensor of a folder's model.safetensors. */
export async function valuesOf(folder: string): Promise<Map<string, { shape: readonly number[]; values: Float32Array }>> {
  const file = await openSafetensors(path.join(folder, "model.safetensors"));
  const all = new Map<string, { shape: readonly number[]; values: Float32Array }>();
  for (const [name, { dtype, shape }] of file.header.tensors)
    all.set(name, { shape, values: decodeFloats(await file.readBytes(name), dtype as FileDType) });
  await file.close();
  return all;
}

const isLinear = (name: string) => /_proj\.weight$/.test(name);

/** Copies the model folder `from` to `to`, its weights stored as `dtype`; with two of every four entries zero, unless `dense`. */
export async function prunedCopy(
  from: string,
  to: string,
  { dtype = "BF16", dense = false }: { dtype?: FileDType; dense?: boolean } = {},
): Promise<string> {
  cpSync(from, to, { recursive: true });
  const tensors = await valuesOf(from);
  if (!dense) for (const [name, { values }] of tensors) if (isLinear(name)) prune(values);
  const entries = [...tensors].map(([name, { shape, values }]) => entryOf(name, dtype, shape, () => encodeFloats(values, dtype)));
  await writeSafetensors(path.join(to, "model.safetensors"), entries, { format: "pt" });
  return to;
}

function prune(values: Float32Array): void {
  for (let group = 0; group < values.length; group += 4) {
    const order = [0, 1, 2, 3].sort((a, b) => Math.abs(values[group + a]) - Math.abs(values[group + b]) || a - b);
    for (const i of order.slice(0, 2)) values[group + i] = 0;
  }
}

/** Zeros of the linear maps of `tuned`, how many zeros of `base` are no longer zero there, and how many groups of four have exactly two zeros. */
export async function compareZeros(base: string, tuned: string): Promise<{ zeros: number; lost: number; pairs: number; groups: number }> {
  const before = await valuesOf(base);
  const found = { zeros: 0, lost: 0, pairs: 0, groups: 0 };
  for (const [name, { values }] of await valuesOf(tuned)) {
    if (!isLinear(name)) continue;
    const old = before.get(name)?.values as Float32Array;
    for (let group = 0; group < values.length; group += 4) {
      let zeros = 0;
      for (let i = group; i < group + 4; i++) {
        if (values[i] === 0) zeros++;
        if (old[i] === 0 && values[i] !== 0) found.lost++;
      }
      found.zeros += zeros;
      found.groups++;
      if (zeros === 2) found.pairs++;
    }
  }
  return found;
}
