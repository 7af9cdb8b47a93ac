/**
 * The interface every compute device implements, and the tensors it hands out.
 *
 * Only devices do arithmetic on tensors; the model, the methods and the optimizer call what stands here and never see a device's inside.
 * The rules to keep:
 *  - Outputs come first, are allocated by the caller, and are overwritten unless the doc says "adds".
 *  - Parameter gradients accumulate (`+=`); activation gradients are fresh, except into the residual stream, where a flag says so.
 *  - Storage is f32 or bf16; arithmetic and accumulation are f32 or better. Writing into bf16 rounds to nearest, ties to even.
 *  - Operands of matmul, blockGradients and blockScores may mix f32 and bf16; the f32 one is then rounded to bf16.
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

/** Bytes of one element. */
export const bytesPerElement: Record<DType, number> = { f32: 4, bf16: 2, i32: 4 };

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

/** Bytes a tensor of this shape and dtype occupies. */
export function bytesOf(shape: readonly number[], dtype: DType): number {
  return sizeOf(shape) * bytesPerElement[dtype];
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
}
