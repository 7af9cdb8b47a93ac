/**
 * Where LoRS starts: B = the top right singular vectors of the mean gradient G of each map, which make ‖G − G·BᵀB‖ least, unit rows, each row's largest
 * entry positive. A is zero, so the first update is G's main part, and the model is still the base, to the bit.
 * G (out, in) is never formed: subspace iteration with q = 4r vectors, 4 rounds, wants only G·Rᵀ and L·G, and those are sums of dOutᵀ(x·Rᵀ) and (L·dOutᵀ)x
 * over tokens. One pass over the batches gives them for all maps at once, so what is held is q(out + in) a map; it costs eight passes.
 */
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { UserError } from "../../protocol/userError.ts";
import type { Batch } from "../data/batch.ts";
import type { Device, Tensor } from "../devices/device.ts";
import { type Llama, runBatch } from "../model/llama.ts";
import { Random } from "../random.ts";
import { nameHash } from "./adapter.ts";
import { Frozen } from "./frozen.ts";
import type { LoRS } from "./lors.ts";
import type { Linear, TuningMethod } from "./method.ts";
import { iterateSubspaces, orthonormaliseRows, type Subspace, startSubspace } from "./subspace.ts";

const rounds = 4;

export interface LorsInitOptions {
  /** Null while planning: then nothing is drawn or computed on the host. */
  seed: number | null;
  onProgress(done: number, of: number): void;
  /** Asked before every batch; true ends it. */
  stopped(): Promise<boolean>;
}

/**
 * Sets every B of the method to the top right singular vectors of the mean over `batches` of each batch's gradient. A must be zero. False when it was
 * stopped: then every B is as it was.
 */
export async function initialiseLors(model: Llama, method: LoRS, batches: readonly Batch[], options: LorsInitOptions): Promise<boolean> {
  const { device } = model;
  const counted = batches.filter(({ unmaskedTokens }) => unmaskedTokens > 0);
  const adapters = method.all();
  const subspaces = new Map(
    adapters.map(({ linear, b }) => [linear.name, startSubspaceOf(device, linear.weight.shape, b.value.shape[0], options.seed, linear.name)]),
  );
  let done = 0;
  const pass = async (side: "left" | "right") => {
    for (const subspace of subspaces.values()) device.fill(subspace[side], 0);
    const products = new GradientProducts(device, subspaces, side, method);
    for (const batch of counted) {
      if (await options.stopped()) return false;
      await runBatch(model, products, batch, 1 / (counted.length * batch.unmaskedTokens));
      options.onProgress(++done, 2 * rounds * counted.length);
    }
    return true;
  };
  const finished = await iterateSubspaces(device, [...subspaces.values()], rounds, pass);
  for (const { linear, b } of adapters) {
    const subspace = subspaces.get(linear.name) as Subspace;
    if (finished) await writeDirections(device, b.value, subspace, randomOf(options.seed, `${linear.name} spare`));
    device.free(subspace.left);
    device.free(subspace.right);
  }
  return finished;
}

/** As {@link initialiseLors} finds them, of a gradient (out, in) that is at hand: writes its top right singular vectors into b (r, in). */
export async function principalDirections(device: Device, b: Tensor, gradient: Tensor, seed: number): Promise<void> {
  const subspace = startSubspaceOf(device, gradient.shape, b.shape[0], seed, "");
  const { left, right } = subspace;
  await iterateSubspaces(device, [subspace], rounds, (side) => {
    if (side === "left") device.matmul(left, right, gradient, { transposeB: true });
    else device.matmul(right, left, gradient);
    return true;
  });
  await writeDirections(device, b, subspace, randomOf(seed, " spare"));
  device.free(left);
  device.free(right);
}

/** The same by an exact singular value decomposition in float64: what the iteration approximates. (rank, columns) row-major. */
export function exactDirections(gradient: Float64Array, rows: number, columns: number, rank: number): Float64Array {
  const matrix = Matrix.from1DArray(rows, columns, gradient);
  const { rightSingularVectors, diagonal } = new SingularValueDecomposition(matrix, { autoTranspose: true });
  const order = diagonal.map((_, i) => i).sort((a, b) => diagonal[b] - diagonal[a]);
  const directions = Float64Array.from({ length: rank * columns }, (_, i) => rightSingularVectors.get(i % columns, order[Math.floor(i / columns)]));
  fixSigns(directions, columns);
  return directions;
}

function startSubspaceOf(device: Device, [out, width]: readonly number[], rank: number, seed: number | null, name: string): Subspace {
  return startSubspace(device, out, width, Math.min(4 * rank, out, width), randomOf(seed, `${name} subspace`));
}

const randomOf = (seed: number | null, name: string) => (seed === null ? null : new Random(seed, nameHash(name)));

/** Stands in for a method: the frozen model, whose backward adds each map's left = right·Gᵀ or right = left·G. */
class GradientProducts extends Frozen implements TuningMethod {
  override readonly lowestStage: number;
  readonly #device: Device;
  readonly #subspaces: ReadonlyMap<string, Subspace>;
  readonly #side: "left" | "right";
  readonly #method: LoRS;

  constructor(device: Device, subspaces: ReadonlyMap<string, Subspace>, side: "left" | "right", method: LoRS) {
    super(device);
    this.#device = device;
    this.#subspaces = subspaces;
    this.#side = side;
    this.#method = method;
    this.lowestStage = method.lowestStage;
  }

  override saveInput(stage: number, x: Tensor): Tensor | null {
    return this.#method.saveInput(stage, x);
  }

  override linearBackward(dX: Tensor | null, linear: Linear, dOut: Tensor, saved: Tensor | null, accumulate: boolean): void {
    const subspace = this.#subspaces.get(linear.name);
    if (subspace) this.#addProduct(subspace, dOut, saved as Tensor);
    super.linearBackward(dX, linear, dOut, saved, accumulate);
  }

  #addProduct({ left, right }: Subspace, dOut: Tensor, x: Tensor): void {
    const d = this.#device;
    const [sum, from, vectors, other] = this.#side === "left" ? [left, x, right, dOut] : [right, dOut, left, x];
    const projected = d.allocate([from.shape[0], vectors.shape[0]], "f32", "activations");
    d.matmul(projected, from, vectors, { transposeB: true });
    d.matmul(sum, projected, other, { transposeA: true, accumulate: true });
    d.free(projected);
  }
}

/**
 * b (r, in) = the top right singular vectors of right = left·G. In an orthonormal basis Q of its rows right is C·Q, so they are Vᵀ·Q with V those of the
 * small C (q, q), which loses no digits to squaring. `spare` supplies directions where the gradient has fewer than r.
 */
async function writeDirections(device: Device, b: Tensor, { right }: Subspace, spare: Pick<Random, "normal"> | null): Promise<void> {
  const [rank, columns] = b.shape;
  const q = right.shape[0];
  const basis = device.allocate(right.shape, "f32", "workspace");
  const coordinates = device.allocate([q, q], "f32", "workspace");
  device.copy(basis, right);
  await orthonormaliseRows(device, basis);
  device.matmul(coordinates, right, basis, { transposeB: true });
  const values = withoutDust((await device.read(coordinates)) as Float32Array);
  const turn = device.allocate([rank, q], "f32", "workspace");
  if (spare) {
    device.write(turn, Float32Array.from(exactDirections(values, q, q, rank)));
    device.matmul(b, turn, basis);
    const directions = Float64Array.from((await device.read(b)) as Float32Array);
    orthonormalise(directions, columns, spare);
    fixSigns(directions, columns);
    device.write(b, Float32Array.from(directions));
  }
  for (const tensor of [basis, coordinates, turn]) device.free(tensor);
}

/**
 * Coordinates over their largest, and 0 where nothing but rounding is left: the decomposition never ends on entries near the smallest numbers there are,
 * which a gradient of low rank leaves, nor on NaN. Directions mean the same at any scale.
 */
function withoutDust(values: Float32Array): Float64Array {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (!Number.isFinite(largest))
    throw new UserError(
      "method/gradient-not-finite",
      "The gradient that LoRS starts from holds NaN or infinity.",
      "Look at the training rows with preview, or set method.init to kaiming.",
      { badInput: false },
    );
  if (largest === 0) return new Float64Array(values.length);
  return Float64Array.from(values, (value) => (Math.abs(value) < 1e-12 * largest ? 0 : value / largest));
}

/** Gram and Schmidt, twice: what was orthonormal to the iteration's rounding becomes so to float64's; rows without direction get one. */
function orthonormalise(rows: Float64Array, columns: number, spare: Pick<Random, "normal">): void {
  for (let at = 0; at < rows.length; at += columns) {
    const row = rows.subarray(at, at + columns);
    // The basis has unit rows or, of a gradient that is zero, none.
    if (!(length(row) > 0.5)) for (let j = 0; j < columns; j++) row[j] = spare.normal();
    for (let twice = 0; twice < 2; twice++) {
      for (let before = 0; before < at; before += columns) {
        const other = rows.subarray(before, before + columns);
        const along = dot(row, other);
        for (let j = 0; j < columns; j++) row[j] -= along * other[j];
      }
      const scale = 1 / length(row);
      for (let j = 0; j < columns; j++) row[j] *= scale;
    }
  }
}

/** Turns each row so that its largest entry is positive: the directions mean the same, and files come out the same. */
function fixSigns(rows: Float64Array, columns: number): void {
  for (let at = 0; at < rows.length; at += columns) {
    let largest = at;
    for (let j = at; j < at + columns; j++) if (Math.abs(rows[j]) > Math.abs(rows[largest])) largest = j;
    if (rows[largest] < 0) for (let j = at; j < at + columns; j++) rows[j] = -rows[j];
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const length = (row: Float64Array) => Math.sqrt(dot(row, row));
