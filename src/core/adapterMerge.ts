/**
 * The weights of a model with an adapter merged into them, for an export: formed on a device one decoder layer at a time from the base's own files, in f32,
 * so that each is rounded once, to the dtype it is stored in. Writing them is files/mergedExport.ts's.
 * Into bf16 the method itself writes them: those that form W̃ inside products dither it (devices/dither.ts), so that the file computes what the run did. All
 * others round to nearest, which can take much of a small change, so what it takes is measured.
 * The rule to keep: at most one layer's weights and one merged one, in f32 and as stored, are held, beside panels of a few rows.
 */
import type { AdapterConfig } from "../protocol/runConfig.ts";
import { putAdapter } from "./adapterRun.ts";
import type { Device, FileDType, Tensor } from "./devices/device.ts";
import type { WeightOverride } from "./files/mergedExport.ts";
import type { ModelFolder } from "./files/modelFolder.ts";
import type { StoredAdapter } from "./files/storedAdapter.ts";
import { attachAdapter } from "./methods/adapters.ts";
import { type AdapterMethod, type Linear, stageOf } from "./methods/method.ts";
import { adapterTargets, type Matrix, matricesOf, rankOf } from "./methods/targets.ts";
import { projections } from "./model/config.ts";
import { type LayerTensors, type LlamaTensors, loadTensor, readPieces } from "./model/tensors.ts";

/** Zeros of a merged weight, and those of the base that it lost. */
export interface ZeroCount {
  /** Hugging Face name with `.weight`. */
  weight: string;
  zeros: number;
  lost: number;
}

/** Rows looked at together: at most 4 MiB of them in f32. */
const panelBytes = 4 << 20;

interface OpenLayer {
  layer: number;
  method: AdapterMethod;
  tensors: Tensor[];
}

/** Merged weights of one adapter on its base, layer by layer. The layer that is open holds device memory; opening the next one frees it. */
export class AdapterMerge {
  readonly #device: Device;
  readonly #base: ModelFolder;
  readonly #adapter: StoredAdapter;
  readonly #dtype: FileDType | null;
  /** The adapted matrices by weight name, with their layers. */
  readonly #matrices = new Map<string, { matrix: Matrix; layer: number }>();
  #open: OpenLayer | null = null;
  /** Σ of squares of what was changed, and of that the part that rounding took, over the weights written so far. */
  readonly #change = { whole: 0, lost: 0 };

  /** `dtype`: what the merged weights will be stored as; null for as the base. */
  constructor(device: Device, base: ModelFolder, adapter: StoredAdapter, dtype: FileDType | null = null) {
    this.#dtype = dtype;
    this.#device = device;
    this.#base = base;
    this.#adapter = adapter;
    const all = matricesOf(base.config);
    for (const matrix of adapterTargets(adapter.config, all))
      this.#matrices.set(`${matrix.name}.weight`, { matrix, layer: Math.floor(all.indexOf(matrix) / projections.length) });
  }

  /** The merged weights, to be written; each is formed when its turn comes. */
  overrides(): Map<string, WeightOverride> {
    return new Map([...this.#matrices.keys()].map((weight) => [weight, { floats: () => this.#floats(weight) }]));
  }

  /** Zeros of every merged weight, in f32, which is nearest to what the method computes: no rounding makes a zero another number. */
  async countZeros(signal?: AbortSignal): Promise<ZeroCount[]> {
    const counts: ZeroCount[] = [];
    for (const weight of this.#matrices.keys()) {
      signal?.throwIfAborted();
      const { merged, linear } = await this.#merge(weight);
      const [zeros] = await this.#device.countZeros([merged]);
      this.#device.maskBy(merged, linear.weight);
      const [either] = await this.#device.countZeros([merged]);
      this.#device.free(merged);
      counts.push({ weight, zeros, lost: either - zeros });
    }
    return counts;
  }

  /** Whether the method means to keep zeros. */
  async keepsZeros(): Promise<boolean> {
    const [first] = this.#matrices.values();
    return (await this.#layer(first.layer)).keepsZeros;
  }

  /** Whether weights that are stored in bf16 are dithered, as the method computes with them; levels of a 4-bit base are not. */
  get dithers(): boolean {
    const { config } = this.#adapter;
    const formed = config.name === "lors" || config.name === "spp" || (config.name === "sqft" && config.quantize === null);
    return formed && [...this.#matrices.keys()].some((weight) => (this.#dtype ?? this.#base.tensor(weight).dtype) === "BF16");
  }

  /** Share of the adapter's change that rounding took from the weights written so far: 1 where every weight is the base's again. */
  get lostToRounding(): number {
    const { whole, lost } = this.#change;
    return whole === 0 ? 0 : Math.max(0, lost / whole);
  }

  /** With c the change and e what bringing it to bf16 adds: −⟨e, c⟩ of ⟨c, c⟩ is taken from the change in its own direction. */
  async #measureRounding(merged: Tensor, stored: Tensor, base: Tensor): Promise<void> {
    const d = this.#device;
    const [rows, columns] = merged.shape;
    const panelRows = Math.min(rows, Math.max(1, Math.floor(panelBytes / (4 * columns))));
    const [error, change] = [0, 0].map(() => d.allocate([panelRows, columns], "f32", "workspace"));
    const [dots, minus] = [panelRows, columns].map((length) => d.allocate([length], "f32", "workspace"));
    d.fill(minus, -1);
    for (let first = 0; first < rows; first += panelRows) {
      const count = Math.min(panelRows, rows - first);
      const [e, c, sums] = [error, change, dots].map((tensor) => d.rows(tensor, 0, count));
      const panel = d.rows(merged, first, count);
      d.copy(e, d.rows(stored, first, count));
      d.scaleColumns(e, panel, minus, true);
      d.copy(c, d.rows(base, first, count));
      d.scaleColumns(c, panel, minus, true); // with its sign turned
      d.rowDots(sums, e, c);
      this.#change.lost += await total(d, sums);
      d.rowDots(sums, c, c);
      this.#change.whole += await total(d, sums);
    }
    for (const tensor of [error, change, dots, minus]) d.free(tensor);
  }

  async *#floats(weight: string): AsyncGenerator<Float32Array> {
    const { merged, linear, method } = await this.#merge(weight);
    const narrow = (this.#dtype ?? this.#base.tensor(weight).dtype) === "BF16";
    const stored = narrow ? this.#device.allocate(merged.shape, "bf16", "workspace") : null;
    try {
      if (stored) {
        method.mergedWeight(stored, linear);
        await this.#measureRounding(merged, stored, linear.weight);
      }
      yield* readPieces(this.#device, stored ?? merged);
    } finally {
      for (const tensor of [merged, stored]) if (tensor) this.#device.free(tensor);
    }
  }

  async #merge(weight: string): Promise<{ merged: Tensor; linear: Linear; method: AdapterMethod }> {
    const { matrix, layer } = this.#matrices.get(weight) as { matrix: Matrix; layer: number };
    const method = await this.#layer(layer);
    const linear = method.linears.find(({ name }) => name === matrix.name) as Linear;
    const merged = this.#device.allocate(matrix.weight.shape, "f32", "workspace");
    method.mergedWeight(merged, linear);
    return { merged, linear, method };
  }

  /** The method attached to one layer's adapted maps alone; weights of a file stand layer by layer, so that each is mostly loaded once. */
  async #layer(layer: number): Promise<AdapterMethod> {
    if (this.#open?.layer === layer) return this.#open.method;
    this.#closeLayer();
    const matrices = [...this.#matrices.values()].filter((place) => place.layer === layer).map(({ matrix }) => matrix);
    const { config } = this.#adapter;
    const tensors: Tensor[] = [];
    const allocate = (shape: readonly number[], dtype: "f32" | "bf16") => {
      const tensor = this.#device.allocate(shape, dtype, "weights");
      tensors.push(tensor);
      return tensor;
    };
    // A 4-bit base was quantised from the weights as the run held them.
    const quantized = config.name === "sqft" && config.quantize !== null;
    const precision = quantized ? (this.#adapter.precision ?? "f32") : "f32";
    const weights = new Map<string, Tensor>();
    for (const { name, weight } of matrices) {
      const tensor = allocate(weight.shape, precision);
      await loadTensor(this.#device, tensor, this.#base, `${name}.weight`);
      weights.set(name, tensor);
    }
    const oneLayer = layerOf(matrices, layer, weights, allocate([1], "f32"));
    const method = attachAdapter(this.#device, oneLayer, partOf(config, matrices), 0);
    await putAdapter(this.#device, method, this.#adapter);
    this.#open = { layer, method, tensors };
    return method;
  }

  #closeLayer(): void {
    this.#open?.method.release();
    for (const tensor of this.#open?.tensors ?? []) this.#device.free(tensor);
    this.#open = null;
  }
}

async function total(device: Device, sums: Tensor): Promise<number> {
  return ((await device.read(sums)) as Float32Array).reduce((sum, value) => sum + value, 0);
}

/** A model of one layer, as far as adapters look at one; what has no adapter stands there without its weight, which nobody reads. */
function layerOf(matrices: readonly Matrix[], layer: number, weights: ReadonlyMap<string, Tensor>, nothing: Tensor): LlamaTensors {
  const linears = Object.fromEntries(
    projections.map((projection) => {
      const name = matrices.find((matrix) => matrix.projection === projection)?.name ?? "";
      const weight = weights.get(name) ?? nothing;
      return [projection, { name, layer, projection, stage: 4 * layer + stageOf[projection], weight, bias: null }];
    }),
  ) as LayerTensors["linears"];
  const norms = { inputNorm: nothing, postAttentionNorm: nothing, queryNorm: null, keyNorm: null };
  return { byName: new Map(), embedding: nothing, head: nothing, headName: "", finalNorm: nothing, layers: [{ ...norms, linears }] };
}

/** The same adapter of these matrices alone. */
function partOf(config: AdapterConfig, matrices: readonly Matrix[]): AdapterConfig {
  const part = { ...config, targets: matrices.map(({ name }) => name) };
  if (part.name === "lora" || part.name === "dora") part.ranks = Object.fromEntries(matrices.map((matrix) => [matrix.name, rankOf(config, matrix)]));
  return part;
}
