/**
 * Ops on adapted weights at sizes where the native kernels change their ways: operands beyond the packed scratch, many tiles of rows and of G. Some
 * elements are judged by sums in f64. A step-0 product equals the frozen weight's bit for bit at these sizes too.
 */
import { test } from "node:test";
import { type Device, type DType, sizeOf, type Tensor } from "../../../../src/core/devices/device.ts";
import { adaptedOf, spans, tensorsOf, type WeightForm, type WeightTensor } from "../../../conformance/cases/adaptedWeights.ts";
import { expectSameBits } from "../../../conformance/harness.ts";
import { expectClose, f32Unit } from "../../../support/expectClose.ts";
import { normals } from "../../../support/randomTensors.ts";
import { randomTensor, skip, withDevice } from "./nativeDevice.ts";

const lowRank = (out: number, columns: number, r: number, groupSize?: number): WeightForm => ({
  kind: "maskedLowRank",
  out,
  in: columns,
  scale: 0.75,
  r,
  rank: r,
  base: true,
  groupSize,
});
const grouped = (out: number, columns: number, groups: number): WeightForm => ({
  kind: "groupScaled",
  out,
  in: columns,
  scale: 1.5,
  base: true,
  groups,
});

type Weights = Record<WeightTensor, Tensor>;

function make(device: Device, form: WeightForm, dtype: DType): Weights {
  const entries = Object.entries(tensorsOf(form, dtype)).map(([name, spec]) => {
    const tensor = device.allocate(spec.shape, spec.dtype, "weights");
    device.write(tensor, spec.data as Float32Array);
    return [name, tensor];
  });
  return Object.fromEntries(entries) as Weights;
}

async function valuesOf(device: Device, weights: Weights): Promise<Record<WeightTensor, Float64Array>> {
  const entries = await Promise.all(
    Object.entries<Tensor>(weights).map(async ([name, tensor]) => [name, Float64Array.from(await device.read(tensor))] as const),
  );
  return Object.fromEntries(entries) as Record<WeightTensor, Float64Array>;
}

const forms: [M: number, form: WeightForm][] = [
  [530, lowRank(70, 5300, 16)],
  [530, lowRank(5300, 70, 3)],
  [5000, lowRank(400, 390, 16)],
  [3, lowRank(2000, 1500, 16)],
  [700, lowRank(300, 2560, 16, 128)],
  [700, grouped(1104, 700, 16)],
];

for (const [M, form] of forms) {
  for (const dtype of ["f32", "bf16"] as const) {
    const title = `${form.kind} (${form.out}, ${form.in}) ${dtype} by ${M} rows`;
    test(`adaptedMatmul of many tiles: ${title}`, { skip }, async () => {
      await withDevice(2, async (device) => {
        const weights = make(device, form, dtype);
        const adapted = adaptedOf(form, weights);
        const { low, high } = spans(form, await valuesOf(device, weights), dtype === "bf16");
        for (const transposeB of [true, false]) {
          const [N, K] = transposeB ? [form.out, form.in] : [form.in, form.out];
          const [a, out] = [randomTensor(device, [M, K], dtype, 1), randomTensor(device, [M, N], "f32", 2)];
          const [x, before] = (await Promise.all([device.read(a), device.read(out)])) as Float32Array[];
          device.adaptedMatmul(out, a, adapted, { transposeB, accumulate: true });
          const after = (await device.read(out)) as Float32Array;
          for (let i = 0; i < 200; i++) {
            const [row, column] = [(i * 7919) % M, (i * 104_729) % N];
            let [sum, magnitude, range] = [before[row * N + column], Math.abs(before[row * N + column]), 0];
            for (let k = 0; k < K; k++) {
              const at = transposeB ? column * form.in + k : k * form.in + column;
              const product = (x[row * K + k] * (low[at] + high[at])) / 2;
              sum += product;
              magnitude += Math.abs(product);
              range += (Math.abs(x[row * K + k]) * (high[at] - low[at])) / 2;
            }
            const tolerance = (8 + Math.sqrt(K)) * f32Unit * magnitude + range;
            expectClose(`transposeB ${transposeB}, (${row}, ${column})`, [after[row * N + column]], [sum], () => tolerance);
          }
          device.free(a);
          device.free(out);
        }
      });
    });

    // A quantised weight is not the base.
    if (form.kind === "maskedLowRank" && form.groupSize) continue;
    test(`an idle adapter leaves a product of many tiles as it is: ${title}`, {
      skip: skip || (form.kind === "maskedLowRank" && !!form.groupSize),
    }, async () => {
      await withDevice(2, async (device) => {
        const weights = make(device, form, dtype);
        device.fill(form.kind === "maskedLowRank" ? weights.first : weights.second, 0);
        for (const transposeB of [true, false]) {
          const [N, K] = transposeB ? [form.out, form.in] : [form.in, form.out];
          const a = randomTensor(device, [M, K], dtype, 1);
          const [expected, actual] = [device.allocate([M, N], dtype, "activations"), device.allocate([M, N], dtype, "activations")];
          device.matmul(expected, a, weights.weight, { transposeB });
          device.adaptedMatmul(actual, a, adaptedOf(form, weights), { transposeB });
          // No deepEqual: its account of a difference in a million numbers takes minutes.
          expectSameBits(`transposeB ${transposeB}`, await device.read(actual), await device.read(expected));
          for (const tensor of [a, expected, actual]) device.free(tensor);
        }
      });
    });
  }
}

/** Rows of x and dOut, and a weight of many tiles. */
const gradients: [N: number, form: WeightForm][] = [
  [3000, lowRank(530, 300, 16)],
  [200, lowRank(300, 2600, 3)],
  [600, grouped(1104, 270, 16)],
];

for (const [N, form] of gradients) {
  for (const dtype of ["f32", "bf16"] as const) {
    test(`adaptedGradients of many tiles: ${form.kind} (${form.out}, ${form.in}), ${N} rows of ${dtype}`, { skip }, async () => {
      await withDevice(2, async (device) => {
        const weights = make(device, form, dtype);
        // All of one sign, so that entries of G do not cancel and their rounding would show.
        const [dOut, x] = [positive(device, [N, form.out], dtype, 3), positive(device, [N, form.in], dtype, 4)];
        const [dFirst, dSecond] = [weights.first, weights.second].map((tensor, i) => randomTensor(device, [...tensor.shape], "f32", 5 + i));
        const before = (await Promise.all([dFirst, dSecond].map((tensor) => device.read(tensor)))) as Float32Array[];
        device.adaptedGradients(dFirst, dSecond, dOut, x, adaptedOf(form, weights));
        const after = (await Promise.all([dFirst, dSecond].map((tensor) => device.read(tensor)))) as Float32Array[];
        const values = await valuesOf(device, weights);
        const G = entriesOf(form.out, form.in, N, (await device.read(dOut)) as Float32Array, (await device.read(x)) as Float32Array);
        for (const which of [0, 1]) {
          const size = sizeOf(which === 0 ? dFirst.shape : dSecond.shape);
          for (let i = 0; i < 30; i++) {
            const at = (i * 104_729) % size;
            let [sum, magnitude] = [before[which][at], Math.abs(before[which][at])];
            for (const { entry, factor } of termsOf(form, values, which, at)) {
              const [g, absolute] = G(entry);
              sum += form.scale * factor * g;
              magnitude += form.scale * Math.abs(factor) * absolute;
            }
            // Sums over the rows and over a row or column of G, which round each on their own.
            const tolerance = (16 + 2 * Math.sqrt(N + Math.max(form.out, form.in))) * f32Unit * magnitude;
            expectClose(`${which === 0 ? "dFirst" : "dSecond"} at ${at}`, [after[which][at]], [sum], () => tolerance);
          }
        }
      });
    });
  }
}

function positive(device: Device, shape: number[], dtype: DType, seed: number): Tensor {
  const tensor = device.allocate(shape, dtype, "activations");
  device.write(tensor, normals(seed, sizeOf(shape)).map(Math.abs));
  return tensor;
}

/** Entry of G = dOutᵀ·x, and the sum of its terms' magnitudes. */
function entriesOf(out: number, columns: number, N: number, dOut: Float32Array, x: Float32Array): (at: number) => [number, number] {
  return (at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    let [sum, magnitude] = [0, 0];
    for (let n = 0; n < N; n++) {
      const product = dOut[n * out + i] * x[n * columns + j];
      sum += product;
      magnitude += Math.abs(product);
    }
    return [sum, magnitude];
  };
}

/** The entries of G that element `at` of the first or second gradient sums, each with its factor. */
function* termsOf(form: WeightForm, { weight, first, second }: Record<WeightTensor, Float64Array>, which: number, at: number) {
  const columns = form.in;
  if (form.kind === "maskedLowRank") {
    const [i, k, j] = [Math.floor(at / form.r), which === 0 ? at % form.r : Math.floor(at / columns), at % columns];
    const count = which === 0 ? columns : form.out;
    for (let n = 0; n < count; n++) {
      const entry = which === 0 ? i * columns + n : n * columns + j;
      if (weight[entry] !== 0) yield { entry, factor: which === 0 ? second[k * columns + n] : first[n * form.r + k] };
    }
    return;
  }
  const groupRows = form.out / form.groups;
  if (which === 1) {
    const group = Math.floor(at / groupRows);
    for (let j = 0; j < columns; j++) yield { entry: at * columns + j, factor: weight[at * columns + j] * first[group * columns + j] };
    return;
  }
  const [group, j] = [Math.floor(at / columns), at % columns];
  for (let i = group * groupRows; i < (group + 1) * groupRows; i++) yield { entry: i * columns + j, factor: weight[i * columns + j] * second[i] };
}
