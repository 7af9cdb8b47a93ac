/**
 * Kernels as ops write them: WGSL over named tensors of either dtype. This makes the bindings, the accessors and the parameters, and keeps every compiled
 * variant. A variant is a kernel's name, its tensors' dtypes, which of them share a buffer, and the op's own word.
 *
 * In the WGSL, `x(i)` is element i of tensor x as f32 (i32 for ids), `set_x(i, v)` stores into an f32 tensor, and `p.count` is a parameter. A bf16 tensor holds two
 * elements a 32-bit word: it is written by {@link Programs.map} alone, where one invocation owns a word.
 * The rule to keep: a buffer is bound once, however many of the tensors lie in it; WebGPU refuses two writable bindings of one buffer.
 */
import type { DType, Tensor } from "../device.ts";
import { UnsupportedError } from "../unsupported.ts";
import type { GpuData } from "./buffers.ts";
import type { Commands, Pipeline } from "./commands.ts";

/** A parameter: integers are u32, `{ f32 }` is a float. */
export type Param = number | { f32: number };

export interface Kernel {
  /** The op, and the form of it that has its own WGSL. */
  name: string;
  tensors: Record<string, Tensor>;
  params: Record<string, Param>;
  /** Declarations and `@compute … fn main`. Read once a variant. */
  wgsl: () => string;
  groups: readonly [number, number, number];
}

export interface Map {
  name: string;
  /** What is written, by name; several must be of one dtype and lie alike in their buffers. */
  outs: Record<string, Tensor>;
  /** Elements of each, from its first. */
  count: number;
  tensors: Record<string, Tensor>;
  params: Record<string, Param>;
  /** out += instead of out =. */
  accumulate?: boolean;
  /** `fn value_out(i: u32) -> f32` for element i of each out, and what they call. Element i of an out may be read by its own value alone. */
  wgsl: () => string;
}

const maxGroups = 65535;
const mapWidth = 64;

export class Programs {
  readonly #device: GPUDevice;
  readonly #commands: Commands;
  readonly #data: (tensor: Tensor) => GpuData;
  readonly #pipelines = new Map<string, Pipeline>();

  constructor(device: GPUDevice, commands: Commands, data: (tensor: Tensor) => GpuData) {
    this.#device = device;
    this.#commands = commands;
    this.#data = data;
  }

  run({ name, tensors, params, wgsl, groups }: Kernel): void {
    const buffers: GPUBuffer[] = [];
    const bindings: number[] = [];
    const words: Param[] = [];
    for (const tensor of Object.values(tensors)) {
      const { buffer, at } = this.#data(tensor);
      if (!buffers.includes(buffer)) buffers.push(buffer);
      bindings.push(buffers.indexOf(buffer));
      words.push(at);
    }
    const signature = Object.entries(tensors).map(([tensorName, { dtype }], i) => `${tensorName}:${dtype}@${bindings[i]}`);
    const key = [name, ...signature, ...Object.entries(params).map(([param, value]) => `${param}:${typeof value}`)].join(" ");
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(key, buffers.length, prelude(tensors, bindings, params) + wgsl());
      this.#pipelines.set(key, pipeline);
    }
    this.#commands.dispatch(pipeline, buffers, packed([...words, ...Object.values(params)]), groups);
  }

  /** out[i] = value_out(i) for every element of every out, of any dtype. All values of an element are taken before any is written. */
  map({ name, outs, count, tensors, params, accumulate = false, wgsl }: Map): void {
    const names = Object.keys(outs);
    const [first, ...others] = Object.values(outs);
    const { at } = this.#data(first);
    const bf16 = first.dtype === "bf16";
    const alike = (other: Tensor) => other.dtype === first.dtype && (!bf16 || this.#data(other).at % 2 === at % 2);
    if (!others.every(alike)) throw new UnsupportedError(name, "outputs that lie differently in their memory");
    const words = bf16 ? Math.ceil((at + count) / 2) - Math.floor(at / 2) : count;
    const groups = Math.ceil(words / mapWidth);
    const columns = Math.min(groups, maxGroups);
    this.run({
      name: `${name}${accumulate ? " +=" : ""}`,
      tensors: { ...outs, ...tensors },
      params: { count, stride: columns * mapWidth, ...params },
      wgsl: () => `${wgsl()}\n${bf16 ? mapWords(names, accumulate) : mapElements(names, accumulate)}`,
      groups: [columns, Math.ceil(groups / columns), 1],
    });
  }

  #compile(label: string, buffers: number, code: string): Pipeline {
    const layout = this.#device.createBindGroupLayout({
      entries: [
        { binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } },
        ...Array.from({ length: buffers }, (_, i) => ({ binding: i + 1, visibility: 4, buffer: { type: "storage" as const } })),
      ],
    });
    const module = this.#device.createShaderModule({ label, code });
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    return { name: label, pipeline, layout };
  }
}

function packed(params: readonly Param[]): Uint32Array {
  const words = new Uint32Array(params.length);
  const floats = new Float32Array(words.buffer);
  for (const [i, param] of params.entries())
    if (typeof param === "number") words[i] = param;
    else floats[i] = param.f32;
  return words;
}

const wgslType: Record<DType, string> = { f32: "f32", bf16: "u32", i32: "i32" };

function prelude(tensors: Record<string, Tensor>, bindings: readonly number[], params: Record<string, Param>): string {
  const names = Object.keys(tensors);
  const fields = [
    ...names.map((name) => `at_${name}: u32`),
    ...Object.entries(params).map(([name, value]) => `${name}: ${typeof value === "number" ? "u32" : "f32"}`),
  ];
  const declared = new Map<number, DType>();
  for (const [i, { dtype }] of Object.values(tensors).entries()) declared.set(bindings[i], dtype);
  const buffers = [...declared].map(
    ([binding, dtype]) => `@group(0) @binding(${binding + 1}) var<storage, read_write> b${binding}: array<${wgslType[dtype]}>;`,
  );
  const accessors = Object.values(tensors).map(({ dtype }, i) => accessor(names[i], dtype, `b${bindings[i]}`));
  return `struct Params { ${fields.join(", ")} }\n@group(0) @binding(0) var<uniform> p: Params;\n${buffers.join("\n")}\n${rounding}\n${accessors.join("\n")}\n`;
}

function accessor(name: string, dtype: DType, buffer: string): string {
  const element = `${buffer}[i + p.at_${name}]`;
  if (dtype === "f32") return `fn ${name}(i: u32) -> f32 { return ${element}; }\nfn set_${name}(i: u32, value: f32) { ${element} = value; }`;
  if (dtype === "i32") return `fn ${name}(i: u32) -> i32 { return ${element}; }`;
  return `fn ${name}(i: u32) -> f32 { let k = i + p.at_${name}; return half_of(${buffer}[k >> 1u], k); }
fn word_${name}(k: u32) -> u32 { return ${buffer}[k]; }
fn set_word_${name}(k: u32, word: u32) { ${buffer}[k] = word; }`;
}

/** bf16 to nearest, ties to even; NaN stays NaN. */
const rounding = `fn half_of(word: u32, k: u32) -> f32 { return bitcast<f32>(select(word << 16u, word & 0xffff0000u, (k & 1u) == 1u)); }
fn bf16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
fn is_zero(value: f32) -> bool { return (bitcast<u32>(value) << 1u) == 0u; } // by its bits: cards take the smallest numbers for 0
fn rounded(value: f32) -> f32 { return bitcast<f32>(bf16_bits(value) << 16u); }`;

function mapElements(names: readonly string[], accumulate: boolean): string {
  const value = (name: string) => `value_${name}(i)${accumulate ? ` + ${name}(i)` : ""}`;
  return `@compute @workgroup_size(${mapWidth}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.y * p.stride + id.x;
  if (i >= p.count) { return; }
  ${names.map((name) => `let new_${name} = ${value(name)};`).join("\n  ")}
  ${names.map((name) => `set_${name}(i, new_${name});`).join("\n  ")}
}`;
}

/** One invocation a word: its two elements, as far as they are the tensor's; the other half of a word at an odd end stays. */
function mapWords(names: readonly string[], accumulate: boolean): string {
  const [first] = names;
  const bits = (name: string) => `bf16_bits(value_${name}(i)${accumulate ? ` + ${name}(i)` : ""})`;
  const half = (condition: string, element: string, mask: string, shift: number) => `if (${condition}) {
    let i = ${element};
    ${names.map((name) => `word_of_${name} = (word_of_${name} & ${mask}) | (${bits(name)} << ${shift}u);`).join("\n    ")}
  }`;
  return `@compute @workgroup_size(${mapWidth}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let at = p.at_${first} & 1u;
  let k = id.y * p.stride + id.x;
  let low = 2u * k; // counted from the first element's word
  if (low >= at + p.count) { return; }
  ${names.map((name) => `var word_of_${name} = word_${name}((p.at_${name} >> 1u) + k);`).join("\n  ")}
  ${half("low >= at", "low - at", "0xffff0000u", 0)}
  ${half("low + 1u < at + p.count", "low + 1u - at", "0xffffu", 16)}
  ${names.map((name) => `set_word_${name}((p.at_${name} >> 1u) + k, word_of_${name});`).join("\n  ")}
}`;
}
