/**
 * The WebGPU device: the ops of device.ts as compute kernels, one file an op (or an op and its backward) under kernels/; the
 * products among them share product.wgsl.ts. Here is what every op checks, which form of a kernel it takes,
 * and how it is cut where a result passes through the workspace. Storage is f32 or packed bf16, arithmetic f32 but for products of bf16.
 * The rules to keep: ids are checked on the host before they index; a bf16 result is written by whole words, else through the workspace.
 */
import * as adapterShapes from "../adapterShapes.ts";
import * as blockShapes from "../blockShapes.ts";
import {
  type AdamWOptions,
  type AdaptedWeight,
  type AttentionShape,
  type BlockMean,
  type BlockTable,
  type ColumnTable,
  type Device,
  type DropoutOptions,
  type GroupQuantization,
  type MatmulOptions,
  type SweepOptions,
  sizeOf,
  type Tensor,
} from "../device.ts";
import * as pruningShapes from "../pruningShapes.ts";
import * as shapes from "../shapes.ts";
import { UnsupportedError } from "../unsupported.ts";
import { type GpuOptions, openGpu } from "./gpu.ts";
import { factorOnHost } from "./hostFactor.ts";
import { adamwStep } from "./kernels/adamwStep.wgsl.ts";
import { addGroupGradients, addLowRankGradients } from "./kernels/adaptedGradients.wgsl.ts";
import * as attention from "./kernels/attention.wgsl.ts";
import { addBias, biasBackward } from "./kernels/bias.wgsl.ts";
import { blockGradients } from "./kernels/blockGradients.wgsl.ts";
import { blockMeans } from "./kernels/blockMeans.wgsl.ts";
import { columnDots } from "./kernels/columnDots.wgsl.ts";
import { columnSumSquares } from "./kernels/columnSumSquares.wgsl.ts";
import { copy } from "./kernels/copy.wgsl.ts";
import { zerosOfParts } from "./kernels/countZeros.wgsl.ts";
import { crossEntropy } from "./kernels/crossEntropy.wgsl.ts";
import { doraGains } from "./kernels/doraGains.wgsl.ts";
import { dropout } from "./kernels/dropout.wgsl.ts";
import { embeddingBackward, embeddingForward, tokensById } from "./kernels/embedding.wgsl.ts";
import { fitQuantization } from "./kernels/fitQuantization.wgsl.ts";
import { formAdapted } from "./kernels/formAdapted.wgsl.ts";
import { gatherBlocks } from "./kernels/gatherBlocks.wgsl.ts";
import { gatherColumns } from "./kernels/gatherColumns.wgsl.ts";
import { blockColumns, factor, invert } from "./kernels/inverseCholesky.wgsl.ts";
import { countsLength } from "./kernels/markLowest.wgsl.ts";
import { maskBy } from "./kernels/maskBy.wgsl.ts";
import { matmul } from "./kernels/matmul.wgsl.ts";
import { mirrorLower } from "./kernels/mirrorLower.wgsl.ts";
import { partElements, rowSums } from "./kernels/reduce.wgsl.ts";
import { rmsNormBackward, rmsNormForward } from "./kernels/rmsNorm.wgsl.ts";
import { rotate } from "./kernels/rope.wgsl.ts";
import { rowDots } from "./kernels/rowDots.wgsl.ts";
import { scaleColumns } from "./kernels/scaleColumns.wgsl.ts";
import { scaleRows } from "./kernels/scaleRows.wgsl.ts";
import { scatterBlock, scatterBlocks } from "./kernels/scatterBlocks.wgsl.ts";
import { sparseGptSweep } from "./kernels/sparseGptSweep.wgsl.ts";
import { squaresOfParts, squareWords } from "./kernels/sumSquares.wgsl.ts";
import { swigluBackward, swigluForward } from "./kernels/swiglu.wgsl.ts";
import { WebgpuMemory, workspaceElements } from "./memory.ts";
import { productProblem } from "./productProblem.ts";

export { webgpuWorkspaceBytes } from "./memory.ts";

/** Opens the graphics card. Throws UserError `device/no-webgpu` or `device/no-gpu`. */
export async function openWebgpuDevice(options: GpuOptions = {}): Promise<Device> {
  const device = new WebgpuDevice(await openGpu(options));
  await device.proveUnits();
  return device;
}

export class WebgpuDevice extends WebgpuMemory implements Device {
  readonly name = "webgpu";
  /** Elements in f32 that methods' products take of the workspace at a time: all, unless a kernel can bind no more than a part of it. */
  protected get stripElements(): number {
    return this.programs.elementsTogether(this.workspace);
  }

  get description(): string {
    return `webgpu: ${this.title} (${this.kernels.description})`;
  }

  /** The card's own units for products must show on small ones, in every tile, that they compute rightly, before a run relies on their driver. */
  proveUnits(): Promise<void> {
    return this.kernels.prove((dtype, forms) => productProblem(this, dtype, forms));
  }

  // Dense algebra

  matmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): void {
    const { M, N, K } = shapes.checkMatmul(out, a, b, options);
    this.#product(out, M, N, options.accumulate, (part, first, rows, accumulate) =>
      matmul(this.programs, this.kernels, part, a, b, { ...options, accumulate }, { N, K, first, rows }),
    );
  }

  /** Runs a product over rows of out: straight into it, or in parts through the workspace where its words are not its own. */
  #product(
    out: Tensor,
    M: number,
    N: number,
    accumulate = false,
    run: (part: Tensor, first: number, rows: number, accumulate: boolean) => void,
  ): void {
    if (out.dtype === "f32" || this.#ownsWords(out, N)) {
      run(out, 0, M, accumulate);
      return;
    }
    const most = Math.floor(workspaceElements / N);
    for (let first = 0; first < M; first += most) {
      const rows = Math.min(most, M - first);
      const room = this.room(rows, N);
      run(room, first, rows, false);
      copy(this.programs, this.rows(out, first, rows), room, accumulate);
    }
  }

  #ownsWords(out: Tensor, columns: number): boolean {
    return columns % 2 === 0 && this.data(out).at % 2 === 0;
  }

  addBias(out: Tensor, bias: Tensor): void {
    const { C } = shapes.checkAddBias(out, bias);
    addBias(this.programs, out, bias, C);
  }

  biasBackward(dBias: Tensor, dOut: Tensor): void {
    const { N, C } = shapes.checkBiasBackward(dBias, dOut);
    biasBackward(this.programs, dBias, dOut, N, C);
  }

  // Layers

  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingForward(out, table, ids);
    checkIndices("embeddingForward", "id", this.ints(ids), V);
    embeddingForward(this.programs, out, table, ids, C);
  }

  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void {
    const { C, V } = shapes.checkEmbeddingBackward(dTable, dOut, ids);
    checkIndices("embeddingBackward", "id", this.ints(ids), V);
    const { ranges, tokens } = tokensById(this.ints(ids));
    this.withTables([ranges, tokens], ([rangeTable, tokenTable]) => embeddingBackward(this.programs, dTable, dOut, rangeTable, tokenTable, C));
  }

  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void {
    const { R, C } = shapes.checkRmsNormForward(out, rstd, x, weight);
    rmsNormForward(this.programs, out, rstd, x, weight, epsilon, R, C);
  }

  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void {
    const { R, C } = shapes.checkRmsNormBackward(dX, dWeight, dOut, x, weight, rstd, accumulate);
    rmsNormBackward(this.programs, { dX, dWeight, dOut, x, weight, rstd, dots: this.#vector("rmsNormBackward", R) }, accumulate, R, C);
  }

  #vector(op: string, length: number): Tensor {
    if (length > workspaceElements) throw new UnsupportedError(op, `${length} rows`);
    return this.room(length);
  }

  /** Turned into the workspace some rows at a time and brought back. */
  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void {
    const { N, P, heads } = shapes.checkRope(x, cos, sin, positions, headSize);
    checkIndices("rope", "position", this.ints(positions), P);
    const C = heads * headSize;
    const most = Math.floor(workspaceElements / C);
    for (let first = 0; first < N; first += most) {
      const rows = Math.min(most, N - first);
      const part = this.rows(x, first, rows);
      const room = this.room(rows, C);
      rotate(this.programs, room, part, cos, sin, this.rows(positions, first, rows), headSize, inverse);
      copy(this.programs, part, room, false);
    }
  }

  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void {
    shapes.checkAttentionForward(out, logSumExp, q, k, v, documentStart, shape);
    this.#checkStarts("attentionForward", documentStart, shape);
    this.#bySequence([out, logSumExp, q, k, v, documentStart], shape, ([y, lse, ...given], part) =>
      this.#throughF32([y], shape.headSize, ([rows]) =>
        attention.attentionForward(this.programs, rows, lse, given[0], given[1], given[2], given[3], part),
      ),
    );
  }

  attentionBackward(
    dQ: Tensor,
    dK: Tensor,
    dV: Tensor,
    dOut: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logSumExp: Tensor,
    documentStart: Tensor,
    shape: AttentionShape,
  ): void {
    shapes.checkAttentionBackward(dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart, shape);
    this.#checkStarts("attentionBackward", documentStart, shape);
    this.#bySequence([dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart], shape, (tensors, part) => this.#attentionGradients(tensors, part));
  }

  /** Tensors in the order of the interface. */
  #attentionGradients([dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart]: Tensor[], shape: AttentionShape): void {
    const { numHeads, headSize, batchSize, queryLength } = shape;
    const rows = batchSize * queryLength * numHeads;
    const dots = this.#vector("attentionBackward", rows);
    const wgsl = () => `fn term(row: u32, column: u32) -> f32 { let i = row * p.columns + column; return dOut(i) * y(i); }
fn result(row: u32, sum: f32) -> f32 { return sum; }`;
    rowSums(this.programs, { name: "attentionBackward", out: dots, tensors: { dOut, y: out }, wgsl }, rows, headSize);
    const given = { dOut, q, k, v, logSumExp, dots, documentStart };
    this.#throughF32([dQ], headSize, ([part]) => attention.attentionBackwardQuery(this.programs, { dQ: part, ...given }, shape));
    this.#throughF32([dK, dV], headSize, ([dKey, dValue]) =>
      attention.attentionBackwardKey(this.programs, { dK: dKey, dV: dValue, ...given }, shape),
    );
  }

  /** All sequences at once; one after the other where tensors lie in parts, of which a kernel may bind but a few. */
  #bySequence(tensors: Tensor[], shape: AttentionShape, run: (tensors: Tensor[], shape: AttentionShape) => void): void {
    const calls = tensors.some((tensor) => this.programs.isSplit(tensor)) ? shape.batchSize : 1;
    for (let call = 0; call < calls; call++) {
      const own = tensors.map((tensor) => {
        const size = sizeOf(tensor.shape) / calls;
        return calls === 1 ? tensor : this.elements(tensor, call * size, size);
      });
      run(own, { ...shape, batchSize: shape.batchSize / calls });
    }
  }

  #checkStarts(op: string, documentStart: Tensor, { queryLength, keyLength }: AttentionShape): void {
    for (const [t, start] of this.ints(documentStart).entries())
      checkIndex(op, "documentStart", start, keyLength - queryLength + (t % queryLength) + 1);
  }

  /** Gives a kernel that writes rows of a head f32 results where bf16 ones have words that are not their own. */
  #throughF32(outs: Tensor[], headSize: number, run: (parts: Tensor[]) => void): void {
    if (outs.every((out) => out.dtype === "f32" || this.#ownsWords(out, headSize))) {
      run(outs);
      return;
    }
    const parts = outs.map(({ shape }) => this.allocate(shape, "f32", "workspace"));
    run(parts);
    for (const [i, out] of outs.entries()) {
      copy(this.programs, out, parts[i], false);
      this.free(parts[i]);
    }
  }

  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluForward(out, gate, up);
    swigluForward(this.programs, out, gate, up);
  }

  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
    shapes.checkSwigluBackward(dGate, dUp, dOut, gate, up);
    swigluBackward(this.programs, dGate, dUp, dOut, gate, up);
  }

  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void {
    const { n, V } = shapes.checkCrossEntropy(losses, logits, targets, scale);
    for (const target of this.ints(targets)) if (target >= 0) checkIndex("crossEntropy", "target", target, V);
    crossEntropy(this.programs, losses, logits, targets, this.#vector("crossEntropy", 2 * n), scale, n, V);
  }

  // Optimizer

  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
    shapes.checkAdamwStep(value, gradient, firstMoment, secondMoment, options);
    adamwStep(this.programs, value, gradient, firstMoment, secondMoment, options);
  }

  /** Sums of parts from the card, added in f64 here. */
  async sumSquares(tensors: readonly Tensor[]): Promise<Float64Array> {
    shapes.checkSumSquares(tensors);
    const parts = await this.#ofParts(tensors, squareWords, squaresOfParts);
    return Float64Array.from(parts, (part) => {
      let sum = 0;
      for (let i = 0; i < part.length; i += squareWords) sum += Number.isFinite(part[i]) ? (part[i] + part[i + 1]) * 4 ** part[i + 2] : part[i];
      return sum;
    });
  }

  /** What a kernel leaves of each part of each tensor; one wait for all. */
  async #ofParts(tensors: readonly Tensor[], words: number, run: typeof zerosOfParts): Promise<Float32Array[]> {
    if (tensors.length === 0) {
      await this.commands.done();
      return [];
    }
    const lengths = tensors.map(({ shape }) => words * Math.ceil(sizeOf(shape) / partElements));
    const room = this.#vector(
      "sumSquares",
      lengths.reduce((sum, length) => sum + length, 0),
    );
    let first = 0;
    for (const [i, tensor] of tensors.entries()) {
      const size = sizeOf(tensor.shape);
      const stretch = Math.max(partElements, this.programs.elementsTogether(tensor));
      for (let begin = 0; begin < size; begin += stretch) {
        const count = Math.min(stretch, size - begin);
        run(this.programs, room, this.elements(tensor, begin, count), count, first + (words * begin) / partElements);
      }
      first += lengths[i];
    }
    const all = (await this.read(room)) as Float32Array;
    let end = 0;
    return lengths.map((length) => {
      end += length;
      return all.subarray(end - length, end);
    });
  }

  // Blocks of a weight (SMT)

  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void {
    const { N, C, gathered } = blockShapes.checkGatherColumns(out, x, columns);
    gatherColumns(this.programs, out, x, this.table(columns, sourceColumns), N, C, gathered);
  }

  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkGatherBlocks(out, weight, blocks);
    const largest = Math.max(0, ...checked.map(({ rowCount, columnCount }) => rowCount * columnCount));
    gatherBlocks(this.programs, out, weight, this.table(blocks), checked.length, largest, shapes.columnsOf(weight));
  }

  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void {
    const checked = blockShapes.checkScatterBlocks(weight, values, blocks);
    const width = shapes.columnsOf(weight);
    const even = this.#ownsWords(weight, width) && checked.every(({ columnStart, columnCount }) => columnStart % 2 === 0 && columnCount % 2 === 0);
    if (weight.dtype === "f32" || even) {
      const largest = Math.max(0, ...checked.map(({ rowCount, columnCount }) => rowCount * columnCount));
      scatterBlocks(this.programs, weight, values, this.table(blocks), checked.length, largest, width);
      return;
    }
    for (const { rowStart, rowCount, columnStart, columnCount, offset } of checked)
      scatterBlock(this.programs, this.rows(weight, rowStart, rowCount), values, width, { rowCount, columnStart, columnCount, offset });
  }

  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void {
    const { N, blocks: checked } = blockShapes.checkBlockGradients(dBlocks, dOut, slices, blocks);
    blockGradients(this.programs, this.kernels, dBlocks, dOut, slices, this.table(blocks), checked, N);
  }

  /** So many whole blocks of the gradient at a time as the workspace holds. */
  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void {
    const { N, out, in: C } = blockShapes.checkBlockScores(scores, dOut, x, blockSize);
    const wholeBlocks = (room: number, most: number) => Math.min(most, room - (room % blockSize) || blockSize);
    const across = wholeBlocks(Math.floor(this.stripElements / Math.min(blockSize, out)), C);
    const down = wholeBlocks(Math.floor(this.stripElements / across), out);
    if (across * down > this.stripElements) throw new UnsupportedError("blockScores", `blocks of ${blockSize}`);
    for (let first = 0; first < out; first += down)
      for (let column = 0; column < C; column += across) {
        const [rows, columns] = [Math.min(down, out - first), Math.min(across, C - column)];
        const tile = this.room(rows, columns);
        const part = { N: columns, K: N, first, rows, from: { first: column, stride: C } };
        matmul(this.programs, this.kernels, tile, dOut, x, { transposeA: true }, part);
        const width = shapes.columnsOf(scores);
        const to = { first: (first / blockSize) * width + column / blockSize, across: width, accumulate: true };
        blockMeans(this.programs, scores, tile, blockSize, signed ? "value" : "absolute", null, rows, columns, to);
      }
  }

  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void {
    const { rows, columns } = blockShapes.checkBlockMeans(scores, x, blockSize, mean, columnScale);
    blockMeans(this.programs, scores, x, blockSize, mean, columnScale, rows, columns);
  }

  columnSumSquares(sums: Tensor, x: Tensor): void {
    const { N, C } = blockShapes.checkColumnSumSquares(sums, x);
    columnSumSquares(this.programs, sums, x, N, C);
  }

  // Adapted weights (LoRS, SQFT, SPP)

  /** W̃ is formed in the workspace, as many of the result's columns at a time as fit, so that every kernel of products serves here. */
  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options: { transposeB?: boolean; accumulate?: boolean } = {}): void {
    const { M, N, K } = adapterShapes.checkAdaptedMatmul(out, a, adapted, options);
    const { transposeB = false, accumulate = false } = options;
    const direct = out.dtype === "f32" || this.#ownsWords(out, N);
    const product = direct ? out : this.allocate([M, N], "f32", "workspace");
    const bf16 = a.dtype === "bf16" || adapted.weight.dtype === "bf16";
    const room = Math.floor(((bf16 ? 2 : 1) * this.stripElements) / K);
    const most = room < N ? Math.max(2, room - (room % 8)) : N; // words are of two columns, and at a multiple of 8 eight are read at once
    for (let first = 0; first < N; first += most) {
      const columns = Math.min(most, N - first);
      const strip = this.strip(bf16 ? "bf16" : "f32", transposeB ? columns : K, transposeB ? K : columns);
      formAdapted(this.programs, strip, adapted, transposeB ? { row: first } : { column: first });
      const part = { N: columns, K, first: 0, rows: M, to: { first, stride: N } };
      matmul(this.programs, this.kernels, product, a, strip, { transposeB, accumulate: direct && accumulate }, part);
    }
    if (direct) return;
    copy(this.programs, out, product, accumulate);
    this.free(product);
  }

  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void {
    const { out, in: wide } = adapterShapes.checkAdaptedGradients(dFirst, dSecond, dOut, x, adapted);
    const groupRows = adapted.kind === "groupScaled" ? out / shapes.rowsOf(adapted.alpha) : out;
    const most = Math.min(groupRows, Math.floor(this.stripElements / wide));
    for (let group = 0; group < out / groupRows; group++)
      for (let first = group * groupRows; first < (group + 1) * groupRows; first += most) {
        const rows = Math.min(most, (group + 1) * groupRows - first);
        const tile = this.room(rows, wide);
        matmul(this.programs, this.kernels, tile, dOut, x, { transposeA: true }, { N: wide, K: shapes.rowsOf(x), first, rows });
        if (adapted.kind === "maskedLowRank") addLowRankGradients(this.programs, { dLeft: dFirst, dRight: dSecond, tile }, adapted, first, rows);
        else
          addGroupGradients(
            this.programs,
            { dAlpha: this.rows(dFirst, group, 1), dBeta: this.rows(dSecond, first, rows), tile },
            adapted,
            group,
            first,
            rows,
          );
      }
  }

  formAdapted(out: Tensor, adapted: AdaptedWeight): void {
    adapterShapes.checkFormAdapted(out, adapted);
    formAdapted(this.programs, out, adapted);
  }

  fitQuantization(quantization: GroupQuantization, weight: Tensor): void {
    adapterShapes.checkFitQuantization(quantization, weight);
    fitQuantization(this.programs, quantization, weight);
  }

  maskBy(x: Tensor, weight: Tensor): void {
    adapterShapes.checkMaskBy(x, weight);
    maskBy(this.programs, x, weight);
  }

  async countZeros(tensors: readonly Tensor[]): Promise<Float64Array> {
    adapterShapes.checkCountZeros(tensors);
    const parts = await this.#ofParts(tensors, 1, zerosOfParts);
    return Float64Array.from(parts, (part) => part.reduce((sum, zeros) => sum + zeros, 0));
  }

  // Small pieces of adapters (LoRA, DoRA)

  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void {
    const { seed, threshold, scale } = adapterShapes.checkDropout(out, x, options);
    dropout(this.programs, out, x, seed, threshold, scale, options.accumulate ?? false);
  }

  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void {
    const { C } = adapterShapes.checkScaleColumns(out, x, scale);
    scaleColumns(this.programs, out, x, scale, C, accumulate);
  }

  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void {
    const { C } = adapterShapes.checkScaleRows(out, x, scale);
    scaleRows(this.programs, out, x, scale, C);
  }

  rowDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { R, C } = adapterShapes.checkRowDots(out, a, b);
    rowDots(this.programs, out, a, b, R, C);
  }

  columnDots(out: Tensor, a: Tensor, b: Tensor): void {
    const { N, C } = adapterShapes.checkColumnDots(out, a, b);
    columnDots(this.programs, out, a, b, N, C);
  }

  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void {
    adapterShapes.checkDoraGains(norm, gain, magnitude, squares, cross, gram, scale);
    doraGains(this.programs, norm, gain, magnitude, squares, cross, gram, scale);
  }

  // Pruning (SparseGPT)

  /** In f32 on the card; in float64, which cards lack, on the processor. */
  async inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean> {
    const { C } = pruningShapes.checkInverseCholesky(h, diagonal, damping, wide);
    if (wide) return factorOnHost(this, h, diagonal, damping);
    const [pivots, failed, room] = this.#rooms("inverseCholesky", C, 1, C * blockColumns);
    factor(this.programs, { h, diagonal, pivots, failed, room }, damping, C);
    const [bad] = await this.read(failed);
    if (bad) mirrorLower(this.programs, h, diagonal, C);
    else invert(this.programs, { h, room }, C);
    return !bad;
  }

  /** Vectors side by side in the workspace. */
  #rooms(op: string, ...lengths: number[]): Tensor[] {
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total > workspaceElements) throw new UnsupportedError(op, `${total} elements at once`);
    let end = 0;
    return lengths.map((length) => {
      end += length;
      return this.rows(this.workspace, end - length, length);
    });
  }

  mirrorLower(h: Tensor, diagonal: Tensor): void {
    const { C } = pruningShapes.checkMirrorLower(h, diagonal);
    mirrorLower(this.programs, h, diagonal, C);
  }

  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void {
    const { out, in: C } = pruningShapes.checkSparseGptSweep(w, losses, errors, upper, diagonal, options);
    sparseGptSweep(this.programs, { w, losses, errors, upper, diagonal }, options, [out, C], (entries) => {
      const [marks, counts, limit] = this.#rooms("sparseGptSweep", entries, countsLength(entries), 3);
      return { marks, counts, limit };
    });
  }
}

function checkIndices(op: string, name: string, indices: Int32Array, limit: number): void {
  for (const index of indices) checkIndex(op, name, index, limit);
}

function checkIndex(op: string, name: string, index: number, limit: number): void {
  if (index < 0 || index >= limit) throw new Error(`${op}: ${name} ${index} is not below ${limit}`);
}

/** Of each gathered column the column of x it comes from. */
function sourceColumns(columns: ColumnTable): Int32Array {
  const source: number[] = [];
  for (let i = 0; i < columns.length; i += 2) for (let column = 0; column < columns[i + 1]; column++) source.push(columns[i] + column);
  return Int32Array.from(source);
}
