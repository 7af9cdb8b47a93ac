/**
 * What one instruction set offers: a table of ops over raw memory. Compiled once per instruction set (kernels*.cc), chosen at run time by isa.cc.
 *
 * Everything here was validated by the bindings; no kernel checks sizes, allocates or throws. Formulas and shapes are those of device.ts.
 * Files that are compiled for an instruction set include no header of the C++ library: an inline function of it compiled with AVX-512 could
 * be the copy the linker keeps for everybody.
 */
#pragma once
#include <cstddef>
#include <cstdint>

#include "threadPool.h"

namespace sparse_tuner {

enum class DType : int { f32 = 0, bf16 = 1, i32 = 2 };

inline size_t bytesPerElement(DType dtype) { return dtype == DType::bf16 ? 2 : 4; }

/** Elements somewhere in a tensor. */
struct Array {
  void* data;
  DType dtype;
};

/** A row-major matrix, `ld` elements from row to row. */
struct Matrix {
  void* data;
  DType dtype;
  size_t ld;
};

/** Scratch all threads share (packed left operands). */
constexpr size_t sharedScratchBytes = size_t(8) << 20;
/** Scratch of one thread: packed panels and tiles that stay in its second-level cache. */
constexpr size_t threadScratchBytes = size_t(5) << 18;

/** What every op runs with. */
struct Context {
  ThreadPool* pool;
  float* shared;
  float* scratch;  // threadScratchBytes for each thread
  /** The processor multiplies bf16 pairs itself (AVX512_BF16). */
  bool dotBf16;

  float* threadScratch(int thread) const { return scratch + size_t(thread) * (threadScratchBytes / sizeof(float)); }
};

/** W̃, a weight as an adapter changes it (AdaptedWeight of device.ts). Low rank where `left` is given, else scaled by groups of rows. */
struct AdaptedArguments {
  Matrix weight;
  size_t out, in;
  float scale;
  bool base;
  /** (out, ranks) and (ranks, in), of which the first `rank` columns and rows count. */
  float *left, *right;
  size_t ranks, rank;
  /** Steps and zero points (out, in / groupSize) of the levels W̃ is brought to, or null. */
  const float *steps, *zeros;
  size_t groupSize;
  /** (out / groupRows, in) and (out). */
  const float *alpha, *beta;
  size_t groupRows;
};

struct MatmulArguments {
  Matrix out, a, b;
  size_t m, n, k;
  bool transposeA, transposeB, accumulate;
  /** b is this weight as it is changed; b's fields are those of the weight. */
  const AdaptedArguments* adapted = nullptr;
};

struct AttentionArguments {
  Array out, q, k, v;  // in backward: out is the saved output
  Array dOut, dQ, dK, dV;
  float* logSumExp;
  const int32_t* documentStart;
  size_t batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize;
};

/** One rectangle of a weight; the layout of a block table in device.ts. */
struct Block {
  int32_t rowStart, rowCount, columnStart, columnCount, offset, sliceStart;
};

struct AdamWArguments {
  float *value, *firstMoment, *secondMoment;
  const float* gradient;
  size_t count;
  double learningRate, beta1, beta2, epsilon, weightDecay, gradientScale;
  double step;
};

/** Element i is kept if its mixed bits reach the threshold; see dropoutHash in adapterShapes.ts. */
struct DropoutArguments {
  uint32_t seed, threshold;
  float scale;
  bool accumulate;
};

struct DoraArguments {
  float *norm, *gain;
  const float *magnitude, *squares, *cross, *gram;
  size_t count;
  double scale;
};

/** Columns of a group of an n:m pattern, at most. */
constexpr size_t maxGroup = 128;

/** {@link sparseGptSweep} of device.ts; groupSize 0 stands for a share. */
struct SweepArguments {
  float *w, *losses, *errors, *upper;
  const float* diagonal;
  size_t rows, columns, groupZeros, groupSize, blockSize, first, count;
  double share;
};

enum class StoredAs : int { f32 = 0, f16 = 1, bf16 = 2 };
enum class BlockMean : int { value = 0, absolute = 1, squareScaled = 2 };

/** Elements summed together by sumSquares before the sums are added in order; fixed, so that no thread count shows. */
constexpr size_t sumChunk = 16384;
/** Elements one tile of `load` converts. */
constexpr size_t loadChunk = 65536;

struct Kernels {
  const char* name;
  void (*fill)(Context&, Array out, size_t count, float value);
  void (*copy)(Context&, Array out, Array x, size_t count);
  /** Converts file bytes; badIndex[chunk] = first element of the chunk that is not finite, or SIZE_MAX. */
  void (*load)(Context&, Array out, const uint8_t* bytes, StoredAs stored, size_t count, size_t* badIndex);

  void (*matmul)(Context&, const MatmulArguments&);
  void (*addBias)(Context&, Array out, Array bias, size_t rows, size_t columns);
  void (*biasBackward)(Context&, float* dBias, Array dOut, size_t rows, size_t columns);

  void (*embeddingForward)(Context&, Array out, Array table, const int32_t* ids, size_t rows, size_t columns);
  void (*embeddingBackward)(Context&, float* dTable, Array dOut, const int32_t* ids, size_t rows, size_t columns);
  void (*rmsNormForward)(Context&, Array out, float* rstd, Array x, Array weight, size_t rows, size_t columns, float epsilon);
  void (*rmsNormBackward)(Context&, Array dX, float* dWeight, Array dOut, Array x, Array weight, const float* rstd, size_t rows, size_t columns, bool accumulate);
  void (*rope)(Context&, Array x, const float* cos, const float* sin, const int32_t* positions, size_t rows, size_t columns, size_t headSize, bool inverse);
  void (*attentionForward)(Context&, const AttentionArguments&);
  void (*attentionBackward)(Context&, const AttentionArguments&);
  void (*swigluForward)(Context&, Array out, Array gate, Array up, size_t count);
  void (*swigluBackward)(Context&, Array dGate, Array dUp, Array dOut, Array gate, Array up, size_t count);
  void (*crossEntropy)(Context&, float* losses, Array logits, const int32_t* targets, size_t rows, size_t columns, bool writeGradient, float scale);

  void (*adamwStep)(Context&, const AdamWArguments&);
  /** sums[chunk] for each chunk of sumChunk elements. */
  void (*sumSquares)(Context&, double* sums, Array x, size_t count);

  /** columns: pairs (start, count). */
  void (*gatherColumns)(Context&, Matrix out, Matrix x, size_t rows, const int32_t* columns, size_t ranges);
  void (*gatherBlocks)(Context&, float* out, Matrix weight, const Block* blocks, size_t count);
  void (*scatterBlocks)(Context&, Matrix weight, const float* values, const Block* blocks, size_t count);
  /** order: the blocks sorted so that those of one slice stand together; groups: its starts, and the end. */
  void (*blockGradients)(Context&, float* dBlocks, Matrix dOut, Matrix slices, size_t tokens, const Block* blocks, const int32_t* order, const int32_t* groups, size_t groupCount);
  void (*blockScores)(Context&, float* scores, Matrix dOut, Matrix x, size_t tokens, size_t rows, size_t columns, size_t blockSize, bool isSigned);
  void (*blockMeans)(Context&, float* scores, Matrix x, size_t rows, size_t columns, size_t blockSize, BlockMean mean, const float* columnScale);
  void (*columnSumSquares)(Context&, float* sums, Array x, size_t rows, size_t columns);

  void (*adaptedGradients)(Context&, float* dFirst, float* dSecond, Matrix dOut, Matrix x, size_t tokens, const AdaptedArguments&);
  void (*formAdapted)(Context&, Array out, const AdaptedArguments&);
  void (*maskBy)(Context&, Array x, Array weight, size_t count);
  /** counts[chunk] for each chunk of sumChunk elements. */
  void (*countZeros)(Context&, uint32_t* counts, Array x, size_t count);
  void (*dropout)(Context&, Array out, Array x, size_t count, const DropoutArguments&);
  void (*scaleColumns)(Context&, Array out, Array x, const float* scale, size_t rows, size_t columns, bool accumulate);
  void (*scaleRows)(Context&, Array out, Array x, const float* scale, size_t rows, size_t columns);
  void (*rowDots)(Context&, float* out, Array a, Array b, size_t rows, size_t columns);
  void (*columnDots)(Context&, float* out, Array a, Array b, size_t rows, size_t columns);
  void (*doraGains)(Context&, const DoraArguments&);

  /** Whether the scratch takes a matrix of this size, to be factored in f64 if `wide`. */
  bool (*canFactor)(size_t columns, bool wide);
  bool (*inverseCholesky)(Context&, float* h, const float* diagonal, const double* pivots, size_t columns, double* wide);
  void (*mirrorLower)(Context&, float* h, const float* diagonal, size_t columns);
  void (*sparseGptSweep)(Context&, const SweepArguments&);
};

const Kernels* portableKernels();
#if defined(__x86_64__)
const Kernels* avx2Kernels();
const Kernels* avx512Kernels();
#endif
#if defined(__aarch64__)
const Kernels* neonKernels();
#endif

}  // namespace sparse_tuner
