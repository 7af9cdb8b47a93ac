/** attentionForward and attentionBackward: grouped heads, packed documents, padding, the key cache's form, lengths below and above any tile. */
import type { AttentionShape, DType } from "../../../src/core/devices/device.ts";
import { bf16Unit, f32Unit } from "../../support/expectClose.ts";
import { integers, normals } from "../../support/randomTensors.ts";
import { type ConformanceCase, opCase } from "../harness.ts";

interface AttentionCase extends AttentionShape {
  dtype: DType;
  /** none: one document a sequence; packed: several; single: every token its own. */
  documents: "none" | "packed" | "single";
  scale: number;
}

const rowsOfQuery = ({ batchSize, queryLength }: AttentionShape) => batchSize * queryLength;

function documentStarts({ documents, ...shape }: AttentionCase): Int32Array {
  const { queryLength, keyLength } = shape;
  const lengths = integers(keyLength, 64, Math.max(1, Math.ceil(keyLength / 3)));
  let [start, next] = [0, 0];
  return Int32Array.from({ length: rowsOfQuery(shape) }, (_, t) => {
    const own = keyLength - queryLength + (t % queryLength);
    if (t % queryLength === 0) start = 0;
    else if (documents === "packed" && lengths[next % 64]-- <= 0) {
      next++;
      start = own;
    }
    return documents === "single" ? own : start;
  });
}

/** Visits every (query row, head, key) that the mask lets through, with the offsets of their vectors. */
function forEachPair(
  shape: AttentionShape,
  documentStart: Int32Array,
  visit: (pair: { t: number; h: number; q: number; k: number; last: boolean; first: boolean }) => void,
): void {
  const { queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize } = shape;
  for (let t = 0; t < rowsOfQuery(shape); t++) {
    const [sequence, own] = [Math.floor(t / queryLength), keyLength - queryLength + (t % queryLength)];
    for (let h = 0; h < numHeads; h++) {
      const keyHead = Math.floor((h * numKeyValueHeads) / numHeads);
      for (let s = documentStart[t]; s <= own; s++) {
        const k = ((sequence * keyStride + s) * numKeyValueHeads + keyHead) * headSize;
        visit({ t, h, q: (t * numHeads + h) * headSize, k, first: s === documentStart[t], last: s === own });
      }
    }
  }
}

function absoluteDot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += Math.abs(a[aAt + i] * b[bAt + i]);
  return sum;
}

/**
 * Units of error of one probability: its score is a sum of headSize products whose error is relative to Σ|q·k|, which exp passes on;
 * log-sum-exp sums keyLength terms. Beside bf16 keys a device may round probabilities and score gradients to bf16, as matmul would.
 */
function probabilityError({ q, k }: { q: Float64Array; k: Float64Array }, shape: AttentionCase, documentStart: Int32Array): number {
  let largest = 0;
  forEachPair(shape, documentStart, (pair) => {
    largest = Math.max(largest, absoluteDot(q, pair.q, k, pair.k, shape.headSize) / Math.sqrt(shape.headSize));
  });
  return f32Unit * (16 + Math.sqrt(shape.keyLength) + 2 * largest * (4 + Math.sqrt(shape.headSize))) + (shape.dtype === "bf16" ? bf16Unit : 0);
}

/** exp below f32's normal numbers may give 0: so much is added to a probability where errors are counted relative to it. */
const vanishing = 2 ** -124 / (16 * f32Unit);

const titleOf = (s: AttentionCase) =>
  `B ${s.batchSize}, T ${s.queryLength}/${s.keyLength}/${s.keyStride}, heads ${s.numHeads}/${s.numKeyValueHeads}·${s.headSize}, ${s.dtype}, documents ${s.documents}` +
  (s.scale === 1 ? "" : `, scale ${s.scale}`);

const shapeOf = ({ batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize }: AttentionCase): AttentionShape => ({
  batchSize,
  queryLength,
  keyLength,
  keyStride,
  numHeads,
  numKeyValueHeads,
  headSize,
});

function inputsOf(shape: AttentionCase) {
  const { batchSize, keyLength, keyStride, numHeads, numKeyValueHeads, headSize, dtype, scale } = shape;
  const queries = [rowsOfQuery(shape), numHeads * headSize];
  const keys = [batchSize * keyStride, numKeyValueHeads * headSize];
  const [k, v] = [2, 3].map((seed) => normals(seed, keys[0] * keys[1], scale));
  // Cache rows that are not written yet must not be read.
  for (let row = 0; row < keys[0]; row++)
    if (row % keyStride >= keyLength) for (const data of [k, v]) data.fill(Number.NaN, row * keys[1], (row + 1) * keys[1]);
  return {
    q: { shape: queries, dtype, data: normals(1, queries[0] * queries[1], scale) },
    k: { shape: keys, dtype, data: k },
    v: { shape: keys, dtype, data: v },
    documentStart: { shape: [queries[0]], dtype: "i32" as const, data: documentStarts(shape) },
  };
}

function forwardCase(shape: AttentionCase): ConformanceCase {
  const { numHeads, headSize } = shape;
  const inputs = inputsOf(shape);
  const starts = inputs.documentStart.data;
  return opCase({
    title: titleOf(shape),
    tensors: {
      out: { shape: inputs.q.shape, dtype: shape.dtype },
      logSumExp: { shape: [rowsOfQuery(shape), numHeads], dtype: "f32" },
      ...inputs,
    },
    call: (d, t) => d.attentionForward(t.out, t.logSumExp, t.q, t.k, t.v, t.documentStart, shapeOf(shape)),
    outputs: {
      out: ({ before: { q, k, v }, after: { logSumExp } }) => {
        const error = probabilityError({ q, k }, shape, starts);
        const magnitude = new Float64Array(q.length);
        forEachPair(shape, starts, (pair) => {
          const probability = vanishing + Math.exp(dot(q, pair.q, k, pair.k, headSize) / Math.sqrt(headSize) - logSumExp[pair.t * numHeads + pair.h]);
          for (let i = 0; i < headSize; i++) magnitude[pair.q + i] += probability * Math.abs(v[pair.k + i]);
        });
        return (i) => error * magnitude[i];
      },
      logSumExp: ({ before: { q, k }, after: { logSumExp } }) => {
        const error = probabilityError({ q, k }, { ...shape, dtype: "f32" }, starts);
        return (i) => error + 2 * f32Unit * Math.abs(logSumExp[i]);
      },
    },
  });
}

function dot(a: Float64Array, aAt: number, b: Float64Array, bAt: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[aAt + i] * b[bAt + i];
  return sum;
}

/** Output and log-sum-exp as the forward pass would leave them, so that backward meets consistent inputs. */
function forwardResults(shape: AttentionCase, inputs: ReturnType<typeof inputsOf>): { out: Float32Array; logSumExp: Float32Array } {
  const { numHeads, headSize } = shape;
  const [q, k, v] = [inputs.q, inputs.k, inputs.v].map(({ data }) => Float64Array.from(data));
  const [out, logSumExp] = [new Float64Array(q.length), new Float64Array(rowsOfQuery(shape) * numHeads)];
  forEachPair(shape, inputs.documentStart.data, ({ t, h, q: at, k: from, first, last }) => {
    const weight = Math.exp(dot(q, at, k, from, headSize) / Math.sqrt(headSize));
    const sum = first ? weight : logSumExp[t * numHeads + h] + weight;
    logSumExp[t * numHeads + h] = last ? Math.log(sum) : sum;
    for (let i = 0; i < headSize; i++) out[at + i] = (out[at + i] + weight * v[from + i]) / (last ? sum : 1);
  });
  return { out: Float32Array.from(out), logSumExp: Float32Array.from(logSumExp) };
}

function backwardCase(shape: AttentionCase): ConformanceCase {
  const { numHeads, headSize, dtype } = shape;
  const inputs = inputsOf(shape);
  const starts = inputs.documentStart.data;
  const forward = forwardResults(shape, inputs);
  type Gradients = { dQ: Float64Array; dK: Float64Array; dV: Float64Array; error: number };
  let cached: Gradients | null = null;
  /** Σ|terms| of each gradient, where a score's gradient counts as p·(Σ|dOut·v| + Σ|dOut·out|). */
  const magnitudes = (before: Record<"dOut" | "q" | "k" | "v" | "out" | "logSumExp", Float64Array>): Gradients => {
    if (cached) return cached;
    const { dOut, q, k, v, out, logSumExp } = before;
    const [dQ, dK, dV] = [q, k, v].map((x) => new Float64Array(x.length));
    forEachPair(shape, starts, (pair) => {
      const probability = vanishing + Math.exp(dot(q, pair.q, k, pair.k, headSize) / Math.sqrt(headSize) - logSumExp[pair.t * numHeads + pair.h]);
      const dScore =
        (probability * (absoluteDot(dOut, pair.q, v, pair.k, headSize) + absoluteDot(dOut, pair.q, out, pair.q, headSize))) / Math.sqrt(headSize);
      for (let i = 0; i < headSize; i++) {
        dQ[pair.q + i] += dScore * Math.abs(k[pair.k + i]);
        dK[pair.k + i] += dScore * Math.abs(q[pair.q + i]);
        dV[pair.k + i] += probability * Math.abs(dOut[pair.q + i]);
      }
    });
    cached = { dQ, dK, dV, error: probabilityError({ q, k }, shape, starts) + f32Unit * Math.sqrt(headSize) };
    return cached;
  };
  return opCase({
    title: titleOf(shape),
    tensors: {
      dQ: { shape: inputs.q.shape, dtype },
      dK: { shape: inputs.k.shape, dtype },
      dV: { shape: inputs.v.shape, dtype },
      dOut: { shape: inputs.q.shape, dtype, data: normals(4, inputs.q.data.length) },
      out: { shape: inputs.q.shape, dtype, data: forward.out },
      logSumExp: { shape: [rowsOfQuery(shape), numHeads], dtype: "f32", data: forward.logSumExp },
      ...inputs,
    },
    call: (d, t) => d.attentionBackward(t.dQ, t.dK, t.dV, t.dOut, t.q, t.k, t.v, t.out, t.logSumExp, t.documentStart, shapeOf(shape)),
    outputs: Object.fromEntries(
      (["dQ", "dK", "dV"] as const).map((name) => [
        name,
        ({ before }: { before: Parameters<typeof magnitudes>[0] }) => {
          const all = magnitudes(before);
          return (i: number) => all.error * all[name][i];
        },
      ]),
    ),
  });
}

const square = (batchSize: number, length: number, numHeads: number, numKeyValueHeads: number, headSize: number) => ({
  batchSize,
  queryLength: length,
  keyLength: length,
  keyStride: length,
  numHeads,
  numKeyValueHeads,
  headSize,
});

const squares = [
  square(1, 1, 1, 1, 2),
  square(2, 5, 2, 1, 6),
  square(1, 33, 4, 2, 16),
  square(3, 65, 6, 2, 16),
  square(2, 130, 2, 2, 64),
  square(1, 300, 3, 1, 32),
  square(1, 70, 2, 1, 128),
];
const cached = [
  { ...square(1, 1, 4, 2, 16), keyLength: 7, keyStride: 7 },
  { ...square(1, 1, 2, 1, 64), keyLength: 200, keyStride: 256 },
  { ...square(2, 5, 4, 2, 16), keyLength: 70, keyStride: 90 },
  { ...square(3, 40, 2, 1, 32), keyLength: 41, keyStride: 41 },
];

const variants = (shapes: AttentionShape[]): AttentionCase[] =>
  shapes.flatMap((shape) =>
    (["f32", "bf16"] as const).flatMap((dtype) =>
      (["none", "packed", "single"] as const).map((documents) => ({ ...shape, dtype, documents, scale: 1 })),
    ),
  );
/** Scores of hundreds: softmax is almost a choice; and of almost nothing: it is almost an average. */
const scaled: AttentionCase[] = [8, 1e-8].map((scale) => ({ ...square(2, 65, 4, 2, 16), dtype: "f32", documents: "packed", scale }));

export const attentionForwardCases: ConformanceCase[] = [...variants(squares), ...variants(cached), ...scaled].map(forwardCase);
export const attentionBackwardCases: ConformanceCase[] = [...variants(squares), ...scaled].map(backwardCase);
