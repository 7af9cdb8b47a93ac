/**
 * Marks the so many lowest of a list of scores, equal ones from the front: their bits are looked at eight at a time, from the highest, and entries counted by
 * them; after four times the limit is known, and how many that equal it go too. Shared by ops; no op of the interface by itself.
 * The rule to keep: scores are not negative, so that their bits are in their order; counts pass through f32 and stay below 2²⁴.
 */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";

const lanes = 256;
/** Scores of one workgroup; each invocation marks four neighbours. */
const partScores = 1024;
const maxGroups = 65535;

export interface Marking {
  /** (count) f32: scores, then 1 for each that is among the lowest and 0 for the others. */
  marks: Tensor;
  /** ({@link countsLength}) f32. */
  counts: Tensor;
  /** (3) f32: the limit's upper and lower 16 bits, and how many scores are still wanted of those that begin with its known bits. */
  limit: Tensor;
}

/** Floats that counting takes. */
export function countsLength(count: number): number {
  return lanes * Math.ceil(count / partScores);
}

export function markLowest(programs: Programs, { marks, counts, limit }: Marking, count: number, wanted: number): void {
  const parts = Math.ceil(count / partScores);
  const across = Math.min(parts, maxGroups);
  const groups = [across, Math.ceil(parts / across), 1] as const;
  for (let shift = 24; shift >= 0; shift -= 8) {
    const known = shift === 24 ? 0 : (2 ** 32 - 2 ** (shift + 8)) >>> 0;
    programs.run({
      name: "markLowest count",
      tensors: { counts, marks, limit },
      params: { count, parts, across, shift, known },
      wgsl: countDigits,
      groups,
    });
    programs.run({ name: "markLowest pick", tensors: { limit, counts }, params: { parts, shift, wanted }, wgsl: pickDigit, groups: [1, 1, 1] });
  }
  programs.run({ name: "markLowest mark", tensors: { marks, counts, limit }, params: { count, parts, across }, wgsl: mark, groups });
}

const main = `@compute @workgroup_size(${lanes}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {`;
const limitBits = "fn limit_bits() -> u32 { return (u32(limit(0u)) << 16u) | u32(limit(1u)); }";
const key = "fn key(i: u32) -> u32 { return bitcast<u32>(marks(i)) & 0x7fffffffu; }";

/** counts (parts, 256): scores that agree with the limit as far as it is known, by their next eight bits. */
const countDigits = () => `var<workgroup> bins: array<atomic<u32>, ${lanes}>;
${limitBits}
${key}
${main}
  let part = group.y * p.across + group.x;
  if (part >= p.parts) { return; }
  atomicStore(&bins[lane], 0u);
  workgroupBarrier();
  var wanted = 0u;
  if (p.known != 0u) { wanted = limit_bits(); }
  for (var i = part * ${partScores}u + lane; i < min(p.count, (part + 1u) * ${partScores}u); i += ${lanes}u) {
    if (((key(i) ^ wanted) & p.known) == 0u) { atomicAdd(&bins[(key(i) >> p.shift) & 255u], 1u); }
  }
  workgroupBarrier();
  set_counts(part * ${lanes}u + lane, f32(atomicLoad(&bins[lane])));
}`;

/** The eight bits in which the last wanted score lies. */
const pickDigit = () => `var<workgroup> totals: array<f32, ${lanes}>;
${limitBits}
${main}
  var total = 0.0;
  for (var part = 0u; part < p.parts; part++) { total += counts(part * ${lanes}u + lane); }
  totals[lane] = total;
  workgroupBarrier();
  if (lane > 0u) { return; }
  var bits = 0u;
  var left = f32(p.wanted);
  if (p.shift < 24u) { bits = limit_bits(); left = limit(2u); }
  var digit = 0u;
  while (digit < 255u && totals[digit] < left) { left -= totals[digit]; digit++; }
  bits |= digit << p.shift;
  set_limit(0u, f32(bits >> 16u));
  set_limit(1u, f32(bits & 0xffffu));
  set_limit(2u, left);
}`;

/** The last counts tell how many scores equal the limit in the parts before; within a part its invocations count on. */
const mark = () => `var<workgroup> sums: array<f32, ${lanes}>;
${limitBits}
${key}
${main}
  let part = group.y * p.across + group.x;
  if (part >= p.parts) { return; }
  let bits = limit_bits();
  var equal = 0.0;
  for (var other = lane; other < part; other += ${lanes}u) { equal += counts(other * ${lanes}u + (bits & 255u)); }
  let begin = part * ${partScores}u + lane * ${partScores / lanes}u;
  let end = min(p.count, begin + ${partScores / lanes}u);
  sums[lane] = equal;
  workgroupBarrier();
  var before = 0.0;
  for (var other = 0u; other < ${lanes}u; other++) { before += sums[other]; }
  workgroupBarrier();
  equal = 0.0;
  for (var i = begin; i < end; i++) { if (key(i) == bits) { equal += 1.0; } }
  sums[lane] = equal;
  workgroupBarrier();
  for (var other = 0u; other < lane; other++) { before += sums[other]; }
  for (var i = begin; i < end; i++) {
    var chosen = key(i) < bits;
    if (key(i) == bits) { chosen = before < limit(2u); before += 1.0; }
    set_marks(i, select(0.0, 1.0, chosen));
  }
}`;
