/**
 * The interface every compute device implements, and the tensors it hands out.
 *
 * Only devices do arithmetic on tensors; the model, the methods and the optimizer call what stands here and never see a device's inside.
 * The rules to keep:
 *  - Outputs come first, are allocated by the caller, and are overwritten unless the doc says "adds".
 *  - Parameter gradients accumulate (`+=`); activation gradients are fresh, except into the residual stream, where a flag says so.
 *  - Storage is f32 or bf16; arithmetic and accumulation are f32 or better. Writing into bf16 rounds to nearest, ties to even.
 *  - Operands of matmul, blockGradients and blockScores may mix f32 and bf16; the f32 one is then rounded to bf16.
 *  - Where a card multiplies bf16 operands in f16, a product may lose 2⁻²¹ of the largest that entries of these tensors could have; where it has no matrix
 *    units, four products at a time are added in f16, each with a relative error of 2⁻¹¹.
 *  - Ids, positions, targets and document starts outside their range throw; nothing is read or written out of bounds.
 *  - Every output element is summed in an order that does not depend on the number of threads.
 *
 * Letters: B batch, T sequence length, N = B·T tokens, C hidden size, H intermediate size, V vocabulary, NH query heads, NKV key/value heads,
 * HS head size, l block size, K blocks chosen.
 */
import type { MemoryClass } from "../../protocol/memory.ts";
import type { MemoryLedger } from "./memoryLedger.ts";

/** What a tensor's elements are stored as. `i32` holds token ids, targets and positions; no arithmetic is done on it. */
export type DType = "f32" | "bf16" | "i32";

/** Bytes of one element, by what it is stored as. */
export type ElementBytes = Readonly<Record<DType, number>>;

/** On a device that has each type. */
export const bytesPerElement: ElementBytes = { f32: 4, bf16: 2, i32: 4 };

/** A handle to a row-major tensor on a device. Matrices are (rows, columns); ops read a 1-D tensor as one row. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly memoryClass: MemoryClass;
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Bytes a tensor of this shape and dtype occupies; `elementBytes` is the device's, where it has not each type. */
export function bytesOf(shape: readonly number[], dtype: DType, elementBytes: ElementBytes = bytesPerElement): number {
  return sizeOf(shape) * elementBytes[dtype];
}

/** How the bytes of a file store a floating-point number. */
export type FileDType = "F32" | "F16" | "BF16";

export interface MatmulOptions {
  /** Read `a` as its transpose. */
  transposeA?: boolean;
  /** Read `b` as its transpose. */
  transposeB?: boolean;
  /** out += a·b instead of out = a·b. */
  accumulate?: boolean;
}

/** Shape of an attention call. Queries are the last `queryLength` of `keyLength` positions of each sequence. */
export interface AttentionShape {
  batchSize: number;
  queryLength: number;
  keyLength: number;
  /** Rows between the first keys of two sequences in `k` and `v`: `keyLength`, or the capacity of a cache. */
  keyStride: number;
  numHeads: number;
  numKeyValueHeads: number;
  headSize: number;
}

/**
 * Rectangles of one (out, in) weight and where each lies in a flat f32 tensor that stores them back to back, each row-major.
 * Six integers a block: rowStart, rowCount, columnStart, columnCount, offset in the flat tensor, start of its columns in the gathered slices.
 */
export type BlockTable = Int32Array;
export const blockTableStride = 6;

/** Column ranges gathered from an activation, as pairs (start, count); they stand side by side in the gathered tensor. */
export type ColumnTable = Int32Array;

/** What is averaged over each block by {@link Device.blockMeans}. */
export type BlockMean = "value" | "absolute" | "squareScaled";

/**
 * A weight W (out, in) as a method changes it: W̃, formed inside an op a panel or a strip at a time and never stored. M = (W ≠ 0), always of the frozen W.
 * With `base: false` W̃ is only what is added to W. Values are formed in f32. Where they become bf16, as an operand beside or in the place of a bf16 one or
 * in a bf16 `out`, they are dithered by their place in W (dither.ts): rounded to nearest, small changes would vanish. Levels are rounded to nearest.
 */
export type AdaptedWeight = {
  /** W (out, in), f32 or bf16. */
  weight: Tensor;
  /** s. */
  scale: number;
  base: boolean;
} & (MaskedLowRank | GroupScaled);

/** W̃ = (W + s·left·right) ∘ M. LoRS: left = A, right = B; SQFT: left = B, right = A. */
export interface MaskedLowRank {
  kind: "maskedLowRank";
  /** (out, r) f32. */
  left: Tensor;
  /** (r, in) f32. */
  right: Tensor;
  /** The first so many columns of left and rows of right count; at most r. */
  rank: number;
  /** W̃ is brought to the 16 levels of its group, a(clamp(round(W̃/a + z), 0, 15) − z), ties to even; null leaves it. Needs `base`. */
  quantization: GroupQuantization | null;
}

/** Group-wise INT4: scales a and zero points z (out, in / groupSize) f32, z integers in [0, 15], a > 0. */
export interface GroupQuantization {
  scales: Tensor;
  zeros: Tensor;
  groupSize: number;
}

/** SPP: W̃_ij = W_ij(1 + s·beta_i·alpha_gj), row i in group g = ⌊groups·i/out⌋. Zeros stay, so it needs no mask. */
export interface GroupScaled {
  kind: "groupScaled";
  /** (groups, in) f32; groups divides out. */
  alpha: Tensor;
  /** (out) f32. */
  beta: Tensor;
}

/** Which entries are dropped: a function of seed and index alone, so that forward, backward and any number of threads agree. */
export interface DropoutOptions {
  /** Probability of zero; what stays is divided by 1 − p. */
  probability: number;
  /** 32 bits. */
  seed: number;
  /** out += instead of out =. */
  accumulate?: boolean;
}

/** Which entries a pruning zeroes: a share of a stretch of entries, rounded down, or `zeros` of every `of` neighbouring columns of a row. */
export type SparsityPattern = { kind: "share"; share: number } | { kind: "groups"; zeros: number; of: number };

/** A part of {@link Device.sparseGptSweep}: columns [first, first + count). Blocks count from column 0: first is at the start of one, the end is at the end of one. */
export interface SweepOptions {
  pattern: SparsityPattern;
  blockSize: number;
  first: number;
  count: number;
}

export interface AdamWOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** 1 for the first update; bias corrections are 1 − βᵗ. */
  step: number;
  /** Multiplies the gradient first; gradient clipping arrives here. */
  gradientScale: number;
}

export interface Device {
  readonly name: "cpu" | "webgpu" | "tensorflow" | "reference" | "meta";
  /** One line for people: what computes, with which instruction set, how many threads. Part of a checkpoint's fingerprint. */
  readonly description: string;
  readonly ledger: MemoryLedger;

  // Memory

  /** A new tensor; its contents are undefined. Throws UserError when the memory cannot be had, before anything changed. */
  allocate(shape: readonly number[], dtype: DType, memoryClass: MemoryClass): Tensor;
  /** Gives a tensor's memory back. Freeing a view or freeing twice throws. */
  free(tensor: Tensor): void;
  /** Rows [first, first + count) of a matrix, sharing its memory; never freed by itself. For a 1-D tensor: elements. */
  rows(tensor: Tensor, first: number, count: number): Tensor;
  /** Overwrites the tensor from the start, or from element `offset`. f32 data into a bf16 tensor is rounded. i32 tensors take Int32Array only. */
  write(tensor: Tensor, data: Float32Array | Int32Array, offset?: number): void;
  /**
   * Converts little-endian file bytes into the tensor's dtype from element `offset` on.
   * Returns the index, within these bytes, of the first element that is NaN or infinite, or −1.
   */
  load(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number;
  /** Elements [offset, offset + count) as f32 (f32, bf16) or i32. Defaults to the whole tensor. Waits for queued work. */
  read(tensor: Tensor, offset?: number, count?: number): Promise<Float32Array | Int32Array>;
  fill(tensor: Tensor, value: number): void;
  /** out = x, converting between f32 and bf16. Same number of elements. */
  copy(out: Tensor, x: Tensor): void;
  /** Lets the host's event loop run once and hands queued work to the hardware. Called between layers. */
  turn(): Promise<void>;
  /** Ends worker threads and gives all memory back. */
  close(): void;

  // Dense algebra

  /**
   * out (M, N) = a·b, or += with `accumulate`. a (M, K) or, transposed, (K, M); b (K, N) or, transposed, (N, K). out f32 or bf16.
   * Operands may mix f32 and bf16: if either is bf16, the other is rounded to bf16 while it is packed; products are summed in f32.
   */
  matmul(out: Tensor, a: Tensor, b: Tensor, options?: MatmulOptions): void;
  /** out (N, C) adds bias (C) to every row. */
  addBias(out: Tensor, bias: Tensor): void;
  /** dBias (C) f32 adds the column sums of dOut (N, C). */
  biasBackward(dBias: Tensor, dOut: Tensor): void;

  // Layers

  /** out (N, C) = table (V, C) at ids (N) i32. */
  embeddingForward(out: Tensor, table: Tensor, ids: Tensor): void;
  /** dTable (V, C) f32 adds dOut (N, C) at ids (N). */
  embeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): void;
  /**
   * out (R, C) = weight ∘ x·rstd, rstd (R) f32 = 1 / √(mean(x²) + epsilon), kept for backward. weight (C) f32.
   * C is the weight's length; x and out are read as (elements / C, C), so that q (N, NH·HS) can be normalised head by head.
   */
  rmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor, epsilon: number): void;
  /**
   * dX (R, C) = rstd (w∘dOut − x̂ mean(w∘dOut∘x̂)), x̂ = x·rstd; adds to dX with `accumulate`. dX may be dOut.
   * dWeight (C) f32, when given, adds Σ dOut∘x̂; dX null forms dWeight only.
   */
  rmsNormBackward(dX: Tensor | null, dWeight: Tensor | null, dOut: Tensor, x: Tensor, weight: Tensor, rstd: Tensor, accumulate: boolean): void;
  /**
   * Rotates x (N, heads·HS) in place: pairs (i, i + HS/2) of every head by the angle of positions[n]; `inverse` turns back (backward).
   * cos, sin (P, HS/2) f32; positions (N) i32 < P.
   */
  rope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number, inverse: boolean): void;
  /**
   * Causal softmax attention within documents. out, q (B·queryLength, NH·HS); k, v (B·keyStride, NKV·HS); logSumExp (B·queryLength, NH) f32.
   * Query t sees keys s with documentStart[t] ≤ s ≤ its own position, scores scaled by 1/√HS. documentStart (B·queryLength) i32 counts from its sequence's start.
   * Never holds queryLength × keyLength.
   */
  attentionForward(out: Tensor, logSumExp: Tensor, q: Tensor, k: Tensor, v: Tensor, documentStart: Tensor, shape: AttentionShape): void;
  /** Gradients of {@link attentionForward} with queryLength = keyLength = keyStride; dQ, dK, dV are overwritten. */
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
  ): void;
  /** out (N, H) = silu(gate) ∘ up. */
  swigluForward(out: Tensor, gate: Tensor, up: Tensor): void;
  /** dGate = dOut∘up∘silu′(gate), dUp = dOut∘silu(gate). dGate may be gate and dUp may be up. */
  swigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void;
  /**
   * losses (n) f32 = logSumExp(logits) − logits[target]; 0 where target < 0. With a scale, logits (n, V) f32 become scale·(softmax − onehot), 0 where
   * target < 0; with null they are left alone. targets (n) i32.
   */
  crossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): void;

  // Optimizer

  /** Decoupled AdamW in place; all f32, same size: m, v moments; value −= lr·(m̂/(√v̂ + ε) + weightDecay·value). */
  adamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void;
  /** Σx² of each tensor, summed in f64 over fixed chunks; NaN and infinity come through. One wait for all. */
  sumSquares(tensors: readonly Tensor[]): Promise<Float64Array>;

  // Blocks of a weight (SMT)

  /** out (N, Σcounts) = the listed column ranges of x (N, C). */
  gatherColumns(out: Tensor, x: Tensor, columns: ColumnTable): void;
  /** out (flat f32) = the blocks of weight (out, in). */
  gatherBlocks(out: Tensor, weight: Tensor, blocks: BlockTable): void;
  /** Writes flat f32 blocks into weight (out, in), rounding to its dtype; nothing else changes. */
  scatterBlocks(weight: Tensor, values: Tensor, blocks: BlockTable): void;
  /** dBlocks (flat f32) adds, block by block, dOut[:, rows]ᵀ · slices[:, its columns]; dOut (N, out), slices (N, gathered). No (out, in) gradient exists. */
  blockGradients(dBlocks: Tensor, dOut: Tensor, slices: Tensor, blocks: BlockTable): void;
  /**
   * scores (⌈out/l⌉, ⌈in/l⌉) f32 adds the mean over each l × l block of |g|, or of g when `signed`, where g = dOutᵀ·x is formed tile by tile and dropped.
   * Edge blocks average over their own entries.
   */
  blockScores(scores: Tensor, dOut: Tensor, x: Tensor, blockSize: number, signed: boolean): void;
  /** scores (⌈rows/l⌉, ⌈columns/l⌉) f32 = mean over each block of x, |x|, or x²·columnScale (columns, f32) for `squareScaled`. */
  blockMeans(scores: Tensor, x: Tensor, blockSize: number, mean: BlockMean, columnScale: Tensor | null): void;
  /** sums (C) f32 adds Σ over rows of x², x (N, C). */
  columnSumSquares(sums: Tensor, x: Tensor): void;

  // Adapted weights (LoRS, SQFT, SPP)

  /**
   * out (M, out) = a·W̃ᵀ with `transposeB`, else out (M, in) = a·W̃; adds with `accumulate`. W̃ is formed while operands are packed. out and a f32 or
   * bf16; dtypes mix as in {@link matmul}, W's being W̃'s.
   */
  adaptedMatmul(out: Tensor, a: Tensor, adapted: AdaptedWeight, options?: { transposeB?: boolean; accumulate?: boolean }): void;
  /**
   * Adds the exact gradients of the adapter's two f32 tensors, with G = dOutᵀ·x formed in tiles of rows and dropped; dOut (N, out), x (N, in).
   * maskedLowRank: dFirst (out, r) += s (M∘G)·rightᵀ, dSecond (r, in) += s leftᵀ·(M∘G); columns and rows beyond `rank` are left alone; quantization is
   * passed straight through. groupScaled, E = W∘G: dFirst = dAlpha (groups, in) += s Σ_{i∈g} beta_i E_ij, dSecond = dBeta (out) += s Σ_j alpha_gj E_ij.
   */
  adaptedGradients(dFirst: Tensor, dSecond: Tensor, dOut: Tensor, x: Tensor, adapted: AdaptedWeight): void;
  /** out (out, in) = W̃, brought once to out's dtype and not to W's. For merging; out may be the weight itself. */
  formAdapted(out: Tensor, adapted: AdaptedWeight): void;
  /**
   * Sets scales and zero points so that the 16 levels of each group cover its entries of weight (out, in) and 0, which is a level itself: a = (high − low)/15,
   * 1 where all are 0, z = round(−15·low/(high − low)) with low ≤ 0 ≤ high, ties to even, in float64 before it is stored.
   */
  fitQuantization(quantization: GroupQuantization, weight: Tensor): void;
  /** x = 0, whatever it was, where weight is 0 (of either sign); same shape, any float dtypes. */
  maskBy(x: Tensor, weight: Tensor): void;
  /** Number of zero entries (of either sign) of each tensor. One wait for all. */
  countZeros(tensors: readonly Tensor[]): Promise<Float64Array>;

  // Small pieces of adapters (LoRA, DoRA)

  /** out (N, C) = x ∘ mask/(1 − p), or adds it; the same options drop the same entries. out may be x without `accumulate`. */
  dropout(out: Tensor, x: Tensor, options: DropoutOptions): void;
  /** out (N, C) = x ∘ scale (C) f32 for every row, or adds it. out may be x. */
  scaleColumns(out: Tensor, x: Tensor, scale: Tensor, accumulate: boolean): void;
  /** out (R, C) = x ∘ scale (R) f32 for every column. out may be x. */
  scaleRows(out: Tensor, x: Tensor, scale: Tensor): void;
  /** out (R) f32 = Σ_c a_rc·b_rc; a, b (R, C). Squared row norms where a is b. */
  rowDots(out: Tensor, a: Tensor, b: Tensor): void;
  /** out (C) f32 adds Σ_n a_nc·b_nc; a, b (N, C). */
  columnDots(out: Tensor, a: Tensor, b: Tensor): void;
  /**
   * DoRA's row norms and gains, all (R) f32: norm = √(squares + 2s·cross + s²·gram), gain = magnitude / norm, 0 where the norm is 0; what
   * rounding brought below 0 counts as 0. With cross = gram = 0 and magnitude = √squares (the norm that this op then gives) every gain is exactly 1.
   */
  doraGains(norm: Tensor, gain: Tensor, magnitude: Tensor, squares: Tensor, cross: Tensor, gram: Tensor, scale: number): void;

  // Pruning (SparseGPT)

  /**
   * Factors h (C, C) f32, symmetric, in its own memory. H is h with 1 on the diagonal where h has 0, and damping·mean(diagonal) added to the diagonal.
   * Above the diagonal and on it, h becomes U, the upper triangular matrix with a positive diagonal and H⁻¹ = Uᵀ·U; below it h stays; diagonal (C) f32 is h's
   * as it was: {@link mirrorLower} brings h back. With `wide` (C, 2C) f32 that memory serves to compute in float64.
   * False, and h as it was, when H is not positive definite in this precision: a pivot lost all digits that count.
   */
  inverseCholesky(h: Tensor, diagonal: Tensor, damping: number, wide: Tensor | null): Promise<boolean>;
  /** h (C, C) f32: what is below the diagonal stands above it too, and `diagonal` (C) f32 on it. */
  mirrorLower(h: Tensor, diagonal: Tensor): void;
  /**
   * Prunes some columns of w (out, in) f32 in place and makes up for it in all columns to their right. U is the upper triangle of `upper` (in, in);
   * columns where `diagonal` (in) is 0 become 0 first. In each block of columns the lowest |w_ij|/U_jj are chosen: share: ⌊share·out·width⌋ of the block,
   * groups: in each row and group when the sweep gets there; equal ones by row, then column. Then column by column err = w_ij/U_jj where chosen, else 0, and
   * w_ik −= err·U_jk for k ≥ j. errors (out, count) f32 is overwritten by −err; losses (out) f32 adds Σ err².
   */
  sparseGptSweep(w: Tensor, losses: Tensor, errors: Tensor, upper: Tensor, diagonal: Tensor, options: SweepOptions): void;
}
