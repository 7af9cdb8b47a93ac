/**
 * Causal attention within documents, as flash attention does it: scores of a tile of keys live in registers, never queryLength × keyLength. Forward and dQ give an
 * invocation one query, dK and dV one key; the other side passes through workgroup memory a few rows at a time.
 */
import type { AttentionShape, Tensor } from "../../device.ts";
import { UnsupportedError } from "../../unsupported.ts";
import type { Programs } from "../program.ts";

/** Queries (or keys) of a workgroup, and rows of the other side at a time. */
const width = 64;
/** Registers hold a head's row; workgroup memory of 16 KiB holds a tile of two. */
const largestHead = 256;

const rowsPerTile = (headSize: number) => Math.max(1, Math.min(16, Math.floor(4096 / (2 * headSize))));

function parameters({ queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize, batchSize }: AttentionShape) {
  if (headSize > largestHead) throw new UnsupportedError("attention", `head size ${headSize}`);
  return {
    params: {
      T: queryLength,
      S: keyLength,
      keyStride,
      heads: numHeads,
      kvHeads: numKeyValueHeads,
      B: batchSize,
      scale: { f32: 1 / Math.sqrt(headSize) },
    },
    groups: (members: number, heads: number) => [Math.ceil(members / width), heads, batchSize] as const,
  };
}

/** Stores a head's row: `value` in terms of i. A bf16 row consists of whole words. */
function storeHead(name: string, { dtype }: Tensor, D: number, row: string, value: string): string {
  if (dtype === "f32") return `for (var i = 0u; i < ${D}u; i++) { set_${name}(${row} * ${D}u + i, ${value}); }`;
  const next = value.replaceAll("[i]", "[i + 1u]");
  return `for (var i = 0u; i < ${D}u; i += 2u) { set_word_${name}((p.at_${name} + ${row} * ${D}u + i) >> 1u, bf16_bits(${value}) | (bf16_bits(${next}) << 16u)); }`;
}

/** What an invocation of a query tile knows: batch, head, its own query and the keys it may see. */
const querySide = `  let batch = group.z;
  let head = group.y;
  let kvHead = head / (p.heads / p.kvHeads);
  let t = group.x * ${width}u + lane;
  let live = t < p.T;
  let row = batch * p.T + min(t, p.T - 1u);
  let own = p.S - p.T + t;
  let first = u32(documentStart(row));
  let lastOfTile = min(p.S, p.S - p.T + group.x * ${width}u + ${width}u);`;

/** The tiles of keys and values, and the beginning of a kernel that gives an invocation one query. */
const queryKernel = (keys: number, D: number) => `var<workgroup> tile_k: array<f32, ${keys * D}>;
var<workgroup> tile_v: array<f32, ${keys * D}>;
@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
${querySide}`;

/** Keys and values [s0, s0 + keys) come into the tiles, when nobody reads the last ones any more. */
const fetchKeys = (keys: number, D: number) => `workgroupBarrier();
    for (var i = lane; i < ${keys * D}u; i += ${width}u) {
      let s = s0 + i / ${D}u;
      if (s < p.S) {
        let at = ((batch * p.keyStride + s) * p.kvHeads + kvHead) * ${D}u + i % ${D}u;
        tile_k[i] = k(at);
        tile_v[i] = v(at);
      }
    }
    workgroupBarrier();`;

/** out and logSumExp as in device.ts; a bf16 out needs an even head size from an even place, as the gradients below do. */
export function attentionForward(
  programs: Programs,
  out: Tensor,
  logSumExp: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  documentStart: Tensor,
  shape: AttentionShape,
): void {
  const D = shape.headSize;
  const keys = rowsPerTile(D);
  const { params, groups } = parameters(shape);
  programs.run({
    name: `attentionForward ${D}`,
    tensors: { out, logSumExp, q, k, v, documentStart },
    params,
    wgsl: () => `${queryKernel(keys, D)}
  var query: array<f32, ${D}>;
  var sum: array<f32, ${D}>;
  for (var i = 0u; i < ${D}u; i++) { query[i] = q((row * p.heads + head) * ${D}u + i) * p.scale; sum[i] = 0.0; }
  var largest = -3.4e38;
  var total = 0.0;
  for (var s0 = 0u; s0 < lastOfTile; s0 += ${keys}u) {
    ${fetchKeys(keys, D)}
    for (var j = 0u; j < ${keys}u; j++) {
      let s = s0 + j;
      if (!live || s < first || s > own) { continue; }
      var score = 0.0;
      for (var i = 0u; i < ${D}u; i++) { score += query[i] * tile_k[j * ${D}u + i]; }
      let raised = max(largest, score);
      let keep = exp(largest - raised);
      let part = exp(score - raised);
      total = total * keep + part;
      for (var i = 0u; i < ${D}u; i++) { sum[i] = sum[i] * keep + part * tile_v[j * ${D}u + i]; }
      largest = raised;
    }
  }
  if (!live) { return; }
  ${storeHead("out", out, D, "(row * p.heads + head)", "sum[i] / total")}
  set_logSumExp(row * p.heads + head, largest + log(total));
}`,
    groups: groups(shape.queryLength, shape.numHeads),
  });
}

/** `dots` (N, NH) f32 holds Σ dOut∘out of each head. */
export function attentionBackwardQuery(
  programs: Programs,
  { dQ, dOut, q, k, v, logSumExp, dots, documentStart }: Record<"dQ" | "dOut" | "q" | "k" | "v" | "logSumExp" | "dots" | "documentStart", Tensor>,
  shape: AttentionShape,
): void {
  const D = shape.headSize;
  const keys = rowsPerTile(D);
  const { params, groups } = parameters(shape);
  programs.run({
    name: `attentionBackward dQ ${D}`,
    tensors: { dQ, dOut, q, k, v, logSumExp, dots, documentStart },
    params,
    wgsl: () => `${queryKernel(keys, D)}
  var sum: array<f32, ${D}>;
  let mine = (row * p.heads + head) * ${D}u;
  let lse = logSumExp(row * p.heads + head);
  let dot = dots(row * p.heads + head);
  for (var s0 = 0u; s0 < lastOfTile; s0 += ${keys}u) {
    ${fetchKeys(keys, D)}
    for (var j = 0u; j < ${keys}u; j++) {
      let s = s0 + j;
      if (!live || s < first || s > own) { continue; }
      var score = 0.0;
      var gain = 0.0;
      for (var i = 0u; i < ${D}u; i++) { score += q(mine + i) * tile_k[j * ${D}u + i]; gain += dOut(mine + i) * tile_v[j * ${D}u + i]; }
      let ds = exp(score * p.scale - lse) * (gain - dot) * p.scale;
      for (var i = 0u; i < ${D}u; i++) { sum[i] += ds * tile_k[j * ${D}u + i]; }
    }
  }
  if (!live) { return; }
  ${storeHead("dQ", dQ, D, "(row * p.heads + head)", "sum[i]")}
}`,
    groups: groups(shape.queryLength, shape.numHeads),
  });
}

/** The queries of all heads that share the key's head are added in their order. */
export function attentionBackwardKey(
  programs: Programs,
  {
    dK,
    dV,
    dOut,
    q,
    k,
    v,
    logSumExp,
    dots,
    documentStart,
  }: Record<"dK" | "dV" | "dOut" | "q" | "k" | "v" | "logSumExp" | "dots" | "documentStart", Tensor>,
  shape: AttentionShape,
): void {
  const D = shape.headSize;
  const queries = rowsPerTile(D);
  const { params, groups } = parameters(shape);
  programs.run({
    name: `attentionBackward dK dV ${D}`,
    tensors: { dK, dV, dOut, q, k, v, logSumExp, dots, documentStart },
    params,
    wgsl: () => `var<workgroup> tile_q: array<f32, ${queries * D}>;
var<workgroup> tile_d: array<f32, ${queries * D}>;
@compute @workgroup_size(${width}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z;
  let kvHead = group.y;
  let share = p.heads / p.kvHeads;
  let s = group.x * ${width}u + lane;
  let live = s < p.S;
  let mine = ((batch * p.S + min(s, p.S - 1u)) * p.kvHeads + kvHead) * ${D}u;
  var sum_k: array<f32, ${D}>;
  var sum_v: array<f32, ${D}>;
  for (var head = kvHead * share; head < (kvHead + 1u) * share; head++) {
    for (var t0 = group.x * ${width}u / ${queries}u * ${queries}u; t0 < p.T; t0 += ${queries}u) {
      workgroupBarrier();
      for (var i = lane; i < ${queries * D}u; i += ${width}u) {
        let t = t0 + i / ${D}u;
        if (t < p.T) {
          let at = ((batch * p.T + t) * p.heads + head) * ${D}u + i % ${D}u;
          tile_q[i] = q(at);
          tile_d[i] = dOut(at);
        }
      }
      workgroupBarrier();
      for (var j = 0u; j < ${queries}u; j++) {
        let t = t0 + j;
        if (!live || t >= p.T || s > t) { continue; }
        let row = batch * p.T + t;
        if (s < u32(documentStart(row))) { continue; }
        var score = 0.0;
        var gain = 0.0;
        for (var i = 0u; i < ${D}u; i++) { score += tile_q[j * ${D}u + i] * k(mine + i); gain += tile_d[j * ${D}u + i] * v(mine + i); }
        let probability = exp(score * p.scale - logSumExp(row * p.heads + head));
        let ds = probability * (gain - dots(row * p.heads + head)) * p.scale;
        for (var i = 0u; i < ${D}u; i++) { sum_k[i] += ds * tile_q[j * ${D}u + i]; sum_v[i] += probability * tile_d[j * ${D}u + i]; }
      }
    }
  }
  if (!live) { return; }
  ${storeHead("dK", dK, D, "((batch * p.S + s) * p.kvHeads + kvHead)", "sum_k[i]")}
  ${storeHead("dV", dV, D, "((batch * p.S + s) * p.kvHeads + kvHead)", "sum_v[i]")}
}`,
    groups: groups(shape.keyLength, shape.numKeyValueHeads),
  });
}
