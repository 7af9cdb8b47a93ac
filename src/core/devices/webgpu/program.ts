/**
 * Kernels as ops write them: WGSL over named tensors of either dtype. This makes the bindings, the accessors and the parameters, and keeps every compiled
 * variant. A variant is a kernel's name, its tensors' dtypes, in which buffers each of them lies, and the op's own word.
 *
 * In the WGSL, `x(i)` is element i of tensor x as f32 (i32 for ids), `set_x(i, v)` stores into an f32 tensor, and `p.count` is a parameter. A bf16 tensor holds two
 * elements a 32-bit word: it is written by {@link Programs.map} alone, where one invocation owns a word. A tensor larger than a binding lies in several buffers,
 * its parts: an accessor then chooses by the index, a kernel binds the parts that its rows reach, and a map is written part by part.
 * The rule to keep: a buffer is bound once, however many of the tensors lie in it; WebGPU refuses two writable bindings of one buffer.
 */
import { bytesOf, bytesPerElement, type DType, sizeOf, type Tensor } from "../device.ts";
import { UnsupportedError } from "../unsupported.ts";
import { type GpuData, partsOf, tooManyParts } from "./buffers.ts";
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
  /** WGSL extensions. */
  enables?: readonly string[];
  /** Tensors of {@link Programs.wide} that are read 8 elements at once, by `wide_x(i)`, and not by `x(i)`. */
  wide?: readonly string[];
  /** Takes the nanoseconds that the card took, some time later. */
  timed?: (nanoseconds: number) => void;
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

/** The elements of tensors that a dispatch reaches, where that is fewer than all. */
interface Reach {
  names: readonly string[];
  first: number;
  count: number;
}

/** Where a tensor's elements are bound: several bindings where it lies in several parts. */
interface Binding {
  name: string;
  dtype: DType;
  at: number;
  indices: number[];
  partBytes: number;
}

export class Programs {
  readonly #device: GPUDevice;
  readonly #commands: Commands;
  readonly #data: (tensor: Tensor) => GpuData;
  readonly #pipelines = new Map<string, Pipeline>();
  /** Buffers that a kernel may bind. */
  readonly #mostBuffers: number;

  constructor(device: GPUDevice, commands: Commands, data: (tensor: Tensor) => GpuData) {
    this.#device = device;
    this.#commands = commands;
    this.#data = data;
    this.#mostBuffers = device.limits.maxStorageBuffersPerShaderStage;
  }

  run(kernel: Kernel): void {
    this.#dispatch(kernel, null);
  }

  /** Whether a tensor lies in several buffers, among which the accessors alone know to choose. */
  isSplit(tensor: Tensor): boolean {
    return partsOf(this.#data(tensor), tensor.dtype).buffers.length > 1;
  }

  /** How many neighbouring elements lie in two buffers at most: all, or as many as a part holds, which is a power of two. */
  elementsTogether(tensor: Tensor): number {
    return this.isSplit(tensor) ? this.#data(tensor).partBytes / bytesPerElement[tensor.dtype] : sizeOf(tensor.shape);
  }

  /**
   * Which of these a kernel can read 8 elements at once: bf16 in one buffer, at multiples of 8 only (`places` divide by it), and in no buffer of a tensor that
   * is read otherwise, since a binding has one type.
   */
  wide(candidates: Record<string, { tensor: Tensor; places: readonly number[] }>, others: readonly Tensor[]): string[] {
    const fits = ({ tensor, places }: { tensor: Tensor; places: readonly number[] }) => {
      const { parts, at } = this.#data(tensor);
      return tensor.dtype === "bf16" && parts.length === 1 && [at, ...places].every((place) => place % 8 === 0);
    };
    const narrow = [...others, ...Object.values(candidates).flatMap((candidate) => (fits(candidate) ? [] : [candidate.tensor]))];
    const taken = new Set(narrow.flatMap((tensor) => this.#data(tensor).parts));
    return Object.keys(candidates).filter((name) => fits(candidates[name]) && !taken.has(this.#data(candidates[name].tensor).parts[0]));
  }

  #dispatch({ name, tensors, params, wgsl, groups, enables = [], wide = [], timed }: Kernel, reach: Reach | null): void {
    const { buffers, bindings } = this.#bind(name, tensors, reach);
    const signature = bindings.map((binding) => `${binding.name}:${binding.dtype}@${binding.indices.join("+")}`);
    const key = [name, ...wide, ...signature, ...Object.entries(params).map(([param, value]) => `${param}:${typeof value}`)].join(" ");
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      const body = wgsl();
      const written = bindings.filter((binding) => writesTo(body, binding.name));
      const writes = buffers.map((_, i) => written.some(({ indices }) => indices.includes(i)));
      const extensions = enables.map((extension) => `enable ${extension};\n`).join("");
      pipeline = this.#compile(key, writes, extensions + prelude(bindings, params, { writes, written, wide }) + body);
      this.#pipelines.set(key, pipeline);
    }
    this.#commands.dispatch(pipeline, buffers, packed([...bindings.map(({ at }) => at), ...Object.values(params)]), groups, timed);
  }

  /** Every buffer once. Throws UserError `device/out-of-memory` when the driver allows fewer. */
  #bind(kernel: string, tensors: Record<string, Tensor>, reach: Reach | null): { buffers: GPUBuffer[]; bindings: Binding[] } {
    const buffers: GPUBuffer[] = [];
    const bindings = Object.entries(tensors).map(([name, tensor]) => {
      const data = this.#data(tensor);
      const reached = reach?.names.includes(name) ? partsOf(data, tensor.dtype, reach.first, reach.count) : partsOf(data, tensor.dtype);
      for (const buffer of reached.buffers) if (!buffers.includes(buffer)) buffers.push(buffer);
      const indices = reached.buffers.map((buffer) => buffers.indexOf(buffer));
      return { name, dtype: tensor.dtype, at: reached.at, indices, partBytes: data.partBytes };
    });
    if (buffers.length > this.#mostBuffers) {
      const largest = Math.max(...Object.values(tensors).map(({ shape, dtype }) => bytesOf(shape, dtype)));
      throw tooManyParts(kernel, largest, buffers.length, this.#mostBuffers);
    }
    return { buffers, bindings };
  }

  /** out[i] = value_out(i) for every element of every out, of any dtype. All values of an element are taken before any is written. */
  map(map: Map): void {
    const { name, outs, count } = map;
    const [first, ...others] = Object.values(outs);
    const parity = (out: Tensor) => (out.dtype === "bf16" ? this.#data(out).at % 2 : 0);
    if (!others.every((other) => other.dtype === first.dtype && parity(other) === parity(first)))
      throw new UnsupportedError(name, "outputs that lie differently in their memory");
    const ends = this.#partEnds(Object.values(outs), count);
    for (const [i, end] of ends.entries()) {
      const begin = ends[i - 1] ?? 0;
      const reach = { names: Object.keys(outs), first: begin, count: end - begin };
      this.#mapStretch({ ...map, count: end - begin }, ends.length === 1 ? null : reach);
    }
  }

  /** Up to where elements of all outs lie in one part of each. */
  #partEnds(outs: Tensor[], count: number): number[] {
    const ends = new Set<number>();
    for (const out of outs) {
      const { parts, partBytes, at } = this.#data(out);
      const elements = partBytes / bytesPerElement[out.dtype];
      if (parts.length === 1) continue;
      for (let end = elements - (at % elements); end < count; end += elements) ends.add(end);
    }
    return [...ends, count].sort((a, b) => a - b);
  }

  /** `count` elements of a map: its all, or those that `reach` says, in one part of each out. */
  #mapStretch({ name, outs, count, tensors, params, accumulate = false, wgsl }: Map, reach: Reach | null): void {
    const names = Object.keys(outs);
    const [out] = Object.values(outs);
    const bf16 = out.dtype === "bf16";
    const at = this.#data(out).at + (reach?.first ?? 0);
    const words = bf16 ? Math.ceil((at + count) / 2) - Math.floor(at / 2) : count;
    const groups = Math.ceil(words / mapWidth);
    const columns = Math.min(groups, maxGroups);
    const from = reach ? "p.first + " : "";
    this.#dispatch(
      {
        name: `${name}${accumulate ? " +=" : ""}`,
        tensors: { ...outs, ...tensors },
        params: { count, stride: columns * mapWidth, ...(reach ? { first: reach.first } : {}), ...params },
        wgsl: () => `${wgsl()}\n${bf16 ? mapWords(names, accumulate, from) : mapElements(names, accumulate, from)}`,
        groups: [columns, Math.ceil(groups / columns), 1],
      },
      reach,
    );
  }

  #compile(label: string, writes: readonly boolean[], code: string): Pipeline {
    const layout = this.#device.createBindGroupLayout({
      entries: [
        { binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } },
        ...writes.map((written, i) => ({
          binding: i + 1,
          visibility: 4,
          buffer: { type: written ? ("storage" as const) : ("read-only-storage" as const) },
        })),
      ],
    });
    const module = this.#device.createShaderModule({ label, code });
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    return { name: label, pipeline, layout, writes };
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

/** Whether a kernel's own WGSL stores into a tensor. */
const writesTo = (wgsl: string, name: string) => wgsl.includes(`set_${name}(`) || wgsl.includes(`set_word_${name}(`);

interface Use {
  /** Of each buffer, whether something in it is written. */
  writes: readonly boolean[];
  written: readonly Binding[];
  /** Names of what is read 8 elements at once. */
  wide: readonly string[];
}

function prelude(bindings: readonly Binding[], params: Record<string, Param>, { writes, written, wide }: Use): string {
  const fields = [
    ...bindings.map(({ name }) => `at_${name}: u32`),
    ...Object.entries(params).map(([name, value]) => `${name}: ${typeof value === "number" ? "u32" : "f32"}`),
  ];
  const declared = new Map<number, string>();
  for (const { name, dtype, indices } of bindings) for (const index of indices) declared.set(index, wide.includes(name) ? "vec4u" : wgslType[dtype]);
  const buffers = [...declared].map(
    ([index, type]) => `@group(0) @binding(${index + 1}) var<storage, ${writes[index] ? "read_write" : "read"}> b${index}: array<${type}>;`,
  );
  const accessors = bindings.map((binding) => {
    const { name, indices } = binding;
    if (wide.includes(name)) return `fn wide_${name}(i: u32) -> vec4u { return b${indices[0]}[(i + p.at_${name}) >> 3u]; }`;
    return `${reading(binding)}${written.includes(binding) ? writing(binding) : ""}`;
  });
  return `struct Params { ${fields.join(", ")} }\n@group(0) @binding(0) var<uniform> p: Params;\n${buffers.join("\n")}\n${rounding}\n${accessors.join("\n")}\n`;
}

function reading(binding: Binding): string {
  const { name, dtype, indices } = binding;
  const split = indices.length > 1;
  const word = split
    ? `fn word_${name}(k: u32) -> ${wgslType[dtype]} { ${inPart(binding, (element) => `return ${element};`)} }\n`
    : `fn word_${name}(k: u32) -> ${wgslType[dtype]} { return b${indices[0]}[k]; }\n`;
  const element =
    dtype === "bf16"
      ? `fn ${name}(i: u32) -> f32 { let k = i + p.at_${name}; return half_of(word_${name}(k >> 1u), k); }\n`
      : `fn ${name}(i: u32) -> ${dtype} { return word_${name}(i + p.at_${name}); }\n`;
  return word + element;
}

function writing(binding: Binding): string {
  const { name, dtype, indices } = binding;
  const type = wgslType[dtype];
  const word =
    indices.length > 1
      ? `fn set_word_${name}(k: u32, word: ${type}) { ${inPart(binding, (element) => `${element} = word;`)} }\n`
      : `fn set_word_${name}(k: u32, word: ${type}) { b${indices[0]}[k] = word; }\n`;
  return dtype === "bf16" ? word : `${word}fn set_${name}(i: u32, value: ${type}) { set_word_${name}(i + p.at_${name}, value); }\n`;
}

/** Of a tensor in parts: 32-bit word k lies in part k >> shift. */
function inPart({ indices, partBytes }: Binding, act: (word: string) => string): string {
  const shift = Math.log2(partBytes / 4);
  const cases = indices.map((index, i) => `${i === 0 ? "default" : `case ${i}u`}: { ${act(`b${index}[k & ${partBytes / 4 - 1}u]`)} }`);
  return `switch k >> ${shift}u { ${cases.join(" ")} }`;
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

/** `from` is what comes before an element's index: nothing, or where the stretch that is written begins. */
function mapElements(names: readonly string[], accumulate: boolean, from: string): string {
  const value = (name: string) => `value_${name}(i)${accumulate ? ` + ${name}(i)` : ""}`;
  return `@compute @workgroup_size(${mapWidth}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = ${from}id.y * p.stride + id.x;
  if (i >= ${from}p.count) { return; }
  ${names.map((name) => `let new_${name} = ${value(name)};`).join("\n  ")}
  ${names.map((name) => `set_${name}(i, new_${name});`).join("\n  ")}
}`;
}

/** One invocation a word: its two elements, as far as they are the tensor's; the other half of a word at an odd end stays. */
function mapWords(names: readonly string[], accumulate: boolean, from: string): string {
  const [first] = names;
  const bits = (name: string) => `bf16_bits(value_${name}(i)${accumulate ? ` + ${name}(i)` : ""})`;
  const half = (condition: string, element: string, mask: string, shift: number) => `if (${condition}) {
    let i = ${from}${element};
    ${names.map((name) => `word_of_${name} = (word_of_${name} & ${mask}) | (${bits(name)} << ${shift}u);`).join("\n    ")}
  }`;
  return `@compute @workgroup_size(${mapWidth}) fn main(@builtin(global_invocation_id) id: vec3u) {
  let at = (${from}p.at_${first}) & 1u;
  let k = id.y * p.stride + id.x;
  let low = 2u * k; // counted from the first element's word
  if (low >= at + p.count) { return; }
  ${names.map((name) => `var word_of_${name} = word_${name}(((${from}p.at_${name}) >> 1u) + k);`).join("\n  ")}
  ${half("low >= at", "low - at", "0xffff0000u", 0)}
  ${half("low + 1u < at + p.count", "low + 1u - at", "0xffffu", 16)}
  ${names.map((name) => `set_word_${name}(((${from}p.at_${name}) >> 1u) + k, word_of_${name});`).join("\n  ")}
}`;
}
