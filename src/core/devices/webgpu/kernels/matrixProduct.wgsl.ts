/**
 * The product of bf16 operands on a card's matrix units (tensor cores): a workgroup of several subgroups computes a tile, each subgroup a part of it in
 * fragments, from scaled f16 operands in workgroup memory to f32 sums. What lies beyond an operand's edge is zero there. Results leave through workgroup memory.
 * It is no op: matmul runs it. The rules to keep: control flow is the same for all invocations, and a fragment's sum runs over k from first to last
 * whatever the tile.
 * Source: the WGSL of Dawn's chromium_experimental_subgroup_matrix.
 */

import { unscaling } from "./scale.wgsl.ts";
import { type Several, single, type TileShape } from "./tiledProduct.wgsl.ts";

/** One multiplication of the card: M × K by K × N, by a subgroup of `lanes` invocations. */
export interface MatrixUnit {
  M: number;
  N: number;
  K: number;
  lanes: number;
}

/** A tile and the part of it that a subgroup computes. */
export interface MatrixShape extends TileShape {
  own: TileShape;
}

const slice = 32;
/** Elements that an invocation fetches at once: 16 bytes of bf16. */
const fetched = 8;
/** Rows of workgroup memory are this much longer than what they hold, so that neighbouring rows lie in different banks. */
const padding = 8;

export const allShapes: readonly MatrixShape[] = [
  { rows: 64, columns: 64, own: { rows: 32, columns: 32 } },
  { rows: 128, columns: 64, own: { rows: 64, columns: 32 } },
  { rows: 128, columns: 128, own: { rows: 64, columns: 32 } },
];

const subgroupsOf = ({ rows, columns, own }: MatrixShape) => (rows / own.rows) * (columns / own.columns);

/** Invocations of a workgroup, and its bytes of workgroup memory. */
export function needs(unit: MatrixUnit, shape: MatrixShape): { invocations: number; bytes: number } {
  const operand = (members: number) => 2 * Math.max(members * (slice + padding), slice * (members + padding));
  const subgroups = subgroupsOf(shape);
  return { invocations: subgroups * unit.lanes, bytes: operand(shape.rows) + operand(shape.columns) + 4 * subgroups * unit.M * unit.N };
}

/** Those that this unit's fragments fill and this card has room for, from the smallest. */
export function matrixShapes(
  unit: MatrixUnit,
  limits: Pick<GPUSupportedLimits, "maxComputeInvocationsPerWorkgroup" | "maxComputeWorkgroupStorageSize">,
): MatrixShape[] {
  const fills = ({ own }: MatrixShape) => own.rows % unit.M === 0 && own.columns % unit.N === 0 && slice % unit.K === 0;
  return allShapes.filter((shape) => {
    const { invocations, bytes } = needs(unit, shape);
    return fills(shape) && invocations <= limits.maxComputeInvocationsPerWorkgroup && bytes <= limits.maxComputeWorkgroupStorageSize;
  });
}

/** What is done with fragments, as WGSL. */
export interface Fragments {
  /** WGSL extensions. */
  enables: readonly string[];
  declarations: string;
  /** A parameter of `main`, and what it begins with, that make `subgroup` known: which of the workgroup's subgroups this is. */
  parameter: string;
  begin: string;
  /** What operands are in workgroup memory. */
  stored: "f16" | "f32";
  /** A fragment of zeros. */
  zero: string;
  /** The fragment of `tile_a` or `tile_b` from element `at`, lines of `stride` elements; a line is a row, or a column. */
  load(use: "a" | "b", at: string, stride: number, line: "row" | "column"): string;
  multiplyAdd(left: string, right: string, sum: string): string;
  /** Stores rows of N into `results`. */
  store(at: string, sum: string): string;
}

/** The card's own. */
export function subgroupFragments({ M, N, K }: MatrixUnit): Fragments {
  const type = { a: `subgroup_matrix_left<f16, ${K}, ${M}>`, b: `subgroup_matrix_right<f16, ${N}, ${K}>` };
  return {
    enables: ["f16", "subgroups", "chromium_experimental_subgroup_matrix"],
    declarations: "",
    parameter: "@builtin(subgroup_id) subgroup: u32",
    begin: "",
    stored: "f16",
    zero: `subgroup_matrix_result<f32, ${N}, ${M}>()`,
    load: (use, at, stride, line) =>
      `subgroupMatrixLoad<${type[use]}, ${line === "row" ? "row_major" : "col_major"}>(&tile_${use}, ${at}, ${stride}u)`,
    multiplyAdd: (left, right, sum) => `subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum})`,
    store: (at, sum) => `subgroupMatrixStore<row_major>(&results, ${at}, ${sum}, ${N}u);`,
  };
}

export interface MatrixProduct {
  unit: MatrixUnit;
  fragments: Fragments;
  shape: MatrixShape;
  /** Which element of a is (row, k), of b (k, column), and of out (row, column). */
  places: { a: string; b: string; out: string };
  /** Operands whose elements can be read 8 at once, as {@link Programs.run} declares them. */
  wide: readonly string[];
  aAlongK: boolean;
  bAlongK: boolean;
  accumulate: boolean;
  /** out is bf16, and two neighbouring columns from an even one on are a word. */
  words: boolean;
  several?: Several;
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** An operand's way into workgroup memory: lines along k, one a row (column) of the result, or lines along these, one a k. */
function operand(name: "a" | "b", alongK: boolean, members: number, { places, wide, fragments, unit, shape, several = single }: MatrixProduct) {
  const { stored } = fragments;
  const [member, limit] = name === "a" ? ["row", several.rows] : ["column", several.columns];
  const line = alongK ? slice : members;
  const stride = line + padding;
  const rounds = (members * slice) / fetched / needs(unit, shape).invocations;
  const own = (round: number) => `(invocation + ${round * needs(unit, shape).invocations}u)`;
  const at = (round: number) => [`${own(round)} / ${line / fetched}u`, `${own(round)} % ${line / fetched}u * ${fetched}u`];
  const [memberOf, depthOf] = alongK ? [0, 1] : [1, 0];
  const step = (i: string) => (alongK ? `let ${member} = member; let k = depth + ${i};` : `let ${member} = member + ${i}; let k = depth;`);
  return {
    stride,
    /** A line is a row of the left operand, or a column of the right one. */
    alongK,
    declarations: `var<workgroup> tile_${name}: array<${stored}, ${(alongK ? members : slice) * stride}>;
fn fetch_${name}(member: u32, depth: u32) -> vec4u {
  ${
    wide.includes(name)
      ? `${step("0u")} if (${member} < ${limit} && k < p.K) { return wide_${name}(${places[name]}); } return vec4u();`
      : `var eight = vec4u();
  for (var i = 0u; i < ${fetched}u; i++) { ${step("i")} if (${member} < ${limit} && k < p.K) { eight[i / 2u] |= bf16_bits(${name}(${places[name]})) << (16u * (i % 2u)); } }
  return eight;`
  }
}
fn stage_${name}(at: u32, eight: vec4u) {
  ${range(fetched)
    .map((i) => `tile_${name}[at + ${i}u] = ${stored}(bitcast<f32>(eight[${i >> 1}] ${i % 2 ? "& 0xffff0000u" : "<< 16u"}) * up_${name});`)
    .join("\n  ")}
}`,
    variables: range(rounds)
      .map((round) => `var ${name}_${round}: vec4u;`)
      .join(" "),
    fetch: range(rounds)
      .map((round) => `${name}_${round} = fetch_${name}(${name === "a" ? "row0" : "column0"} + ${at(round)[memberOf]}, K0 + ${at(round)[depthOf]});`)
      .join(" "),
    stage: range(rounds)
      .map((round) => `stage_${name}(${at(round)[0]} * ${stride}u + ${at(round)[1]}, ${name}_${round});`)
      .join(" "),
  };
}

/** A kernel for out (M, N) over the parameters M, N, K, the scales' and what the places read. */
export function matrixProduct(o: MatrixProduct): string {
  const { unit, fragments, shape, aAlongK, bAlongK, several = single } = o;
  const { M, N, K } = unit;
  const a = operand("a", aAlongK, shape.rows, o);
  const b = operand("b", bAlongK, shape.columns, o);
  const across = shape.columns / shape.own.columns;
  const [down, right] = [range(shape.own.rows / M), range(shape.own.columns / N)];
  const sums = down.flatMap((i) => right.map((j) => ({ i, j, name: `sum_${i}_${j}` })));
  const { invocations } = needs(unit, shape);
  const left = (i: number, k: number) => {
    const row = `(own_row + ${i * M}u)`;
    return aAlongK
      ? fragments.load("a", `${row} * ${a.stride}u + ${k}u`, a.stride, "row")
      : fragments.load("a", `${k * a.stride}u + ${row}`, a.stride, "column");
  };
  const rightOf = (j: number, k: number) => {
    const column = `(own_column + ${j * N}u)`;
    return bAlongK
      ? fragments.load("b", `${column} * ${b.stride}u + ${k}u`, b.stride, "column")
      : fragments.load("b", `${k * b.stride}u + ${column}`, b.stride, "row");
  };
  const steps = range(slice / K).map(
    (step) => `{
      ${down.map((i) => `let left_${i} = ${left(i, step * K)};`).join("\n      ")}
      ${right.map((j) => `let right_${j} = ${rightOf(j, step * K)};`).join("\n      ")}
      ${sums.map(({ i, j, name }) => `${name} = ${fragments.multiplyAdd(`left_${i}`, `right_${j}`, name)};`).join("\n      ")}
    }`,
  );
  return `${fragments.declarations}
${unscaling()}
${several.declarations}
${a.declarations}
${b.declarations}
var<workgroup> results: array<f32, ${(invocations / unit.lanes) * M * N}>;
${store(o)}
@compute @workgroup_size(${invocations}) fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) invocation: u32, ${fragments.parameter}) {
  ${several.begin}
  ${fragments.begin}
  let row0 = group.y * ${shape.rows}u;
  let column0 = group.x * ${shape.columns}u;
  let own_row = subgroup / ${across}u * ${shape.own.rows}u;
  let own_column = subgroup % ${across}u * ${shape.own.columns}u;
  bring_to_scale();
  ${sums.map(({ name }) => `var ${name} = ${fragments.zero};`).join(" ")}
  ${a.variables} ${b.variables}
  ${a.fetch.replaceAll("K0", "0u")} ${b.fetch.replaceAll("K0", "0u")}
  for (var k0 = 0u; k0 < p.K; k0 += ${slice}u) {
    ${a.stage} ${b.stage}
    workgroupBarrier();
    // The next slice is on its way while this one is multiplied; beyond K it is zeros that nobody reads.
    ${a.fetch.replaceAll("K0", `k0 + ${slice}u`)} ${b.fetch.replaceAll("K0", `k0 + ${slice}u`)}
    ${steps.join(" ")}
    workgroupBarrier();
  }
  ${sums
    .map(
      ({ i, j, name }) => `${fragments.store(`subgroup * ${M * N}u`, name)}
  workgroupBarrier();
  store(invocation, row0 + ${i * M}u, column0 + ${j * N}u);
  workgroupBarrier();`,
    )
    .join("\n  ")}
}`;
}

/** All invocations write what all subgroups have left in `results`. */
function store({ unit: { M, N }, unit, shape, places, accumulate, words, several = single }: MatrixProduct): string {
  const { invocations } = needs(unit, shape);
  const across = shape.columns / shape.own.columns;
  const value = (at: string, index: string) => `unscaled(results[${index}])${accumulate ? ` + out(${at})` : ""}`;
  const write = words
    ? `let low = bf16_bits(${value("at", "index")});
      let high = bf16_bits(${value("at + 1u", "index + 1u")});
      set_word_out((p.at_out + at) >> 1u, low | (high << 16u));`
    : `set_out(at, ${value("at", "index")});`;
  const step = words ? 2 : 1;
  return `fn store(invocation: u32, row0: u32, column0: u32) {
  for (var index = ${step}u * invocation; index < ${(invocations / unit.lanes) * M * N}u; index += ${step * invocations}u) {
    let subgroup = index / ${M * N}u;
    let row = row0 + subgroup / ${across}u * ${shape.own.rows}u + index % ${M * N}u / ${N}u;
    let column = column0 + subgroup % ${across}u * ${shape.own.columns}u + index % ${N}u;
    if (row < ${several.rows} && column < ${several.columns}) {
      let at = ${places.out};
      ${write}
    }
  }
}`;
}
