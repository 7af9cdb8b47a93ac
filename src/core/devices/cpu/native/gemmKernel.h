/**
 * The innermost part of every matrix product: a tile of MR × (NV vectors) of the result, kept in registers over the whole k loop.
 * Included only by kernelTable.h.
 *
 * Operands are packed k-major: a[k][row], b[k][column], with strides given, so that attention can pass tiles that lie this way already.
 * `Pairs`: a "word" holds two bf16 values of neighbouring k (AVX512_BF16), else one float. Each element of the result is summed over k
 * in order, whatever the tile: no choice of tile shows in the bits.
 */

#if SIMD_BYTES == 64
constexpr int maxRows = 14;  // 28 accumulators, two of b, one broadcast: 31 of 32 registers
#elif SIMD_BYTES == 32
constexpr int maxRows = 6;  // 12 + 2 + 1 of 16
#elif defined(__aarch64__)
constexpr int maxRows = 12;  // 24 + 2 + 1 of 32
#else
constexpr int maxRows = 6;
#endif
constexpr int maxVectors = 2;
/** Rows a tile of one vector may have; more than maxRows where registers allow, for products of narrow blocks. */
constexpr int maxRowsNarrow = SIMD_BYTES == 64 ? 16 : maxRows;
/** Columns of a packed panel of b, and words from k to k in a packed panel of a. */
constexpr size_t panelColumns = maxVectors * lanes;
constexpr size_t panelStrideA = (maxRows + lanes - 1) / lanes * lanes;

template <bool Pairs>
inline VectorF multiplyAdd(VectorF sum, VectorF a, VectorF b) {
#if SIMD_BYTES == 64
  if constexpr (Pairs) {
    // Inline assembly: some compilers reject the casts that the intrinsic needs.
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
#endif
  return sum + a * b;
}

template <int MR, int NV, bool Pairs>
void tileKernel(size_t words, const float* __restrict a, size_t strideA, const float* __restrict b, size_t strideB, float* __restrict c, size_t ldc, bool accumulate) {
  VectorF sum[MR][NV] = {};
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) __builtin_prefetch(c + i * ldc, 1);
  for (size_t k = 0; k < words; k++) {
    VectorF column[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) column[v] = load(b + v * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      VectorF row = broadcast(a[i]);
#ifdef SIMD_REGISTER_CONSTRAINT
      asm("" : SIMD_REGISTER_CONSTRAINT(row));  // one broadcast for all NV products, not a memory operand in each
#endif
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) sum[i][v] = multiplyAdd<Pairs>(sum[i][v], row, column[v]);
    }
    a += strideA;
    b += strideB;
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) {
      float* to = c + i * ldc + v * lanes;
      store(to, accumulate ? load(to) + sum[i][v] : sum[i][v]);
    }
  }
}

using TileKernel = void (*)(size_t words, const float* a, size_t strideA, const float* b, size_t strideB, float* c, size_t ldc, bool accumulate);

/** The kernels of 1 … most rows. */
template <bool Pairs, int NV>
struct TileKernels {
  static constexpr int most = NV == 1 ? maxRowsNarrow : maxRows;
  TileKernel forRows[most + 1] = {};
  template <int MR>
  constexpr void fill() {
    forRows[MR] = tileKernel<MR, NV, Pairs>;
    if constexpr (MR > 1) fill<MR - 1>();
  }
  constexpr TileKernels() { fill<most>(); }
};

inline TileKernel tileKernelFor(bool pairs, size_t vectors, size_t rows) {
  static constexpr TileKernels<false, 1> one;
  static constexpr TileKernels<false, 2> two;
#if SIMD_BYTES == 64
  static constexpr TileKernels<true, 1> onePairs;
  static constexpr TileKernels<true, 2> twoPairs;
  if (pairs) return vectors == 1 ? onePairs.forRows[rows] : twoPairs.forRows[rows];
#endif
  (void)pairs;
  return vectors == 1 ? one.forRows[rows] : two.forRows[rows];
}

/**
 * c (rows × columns) = or += aᵀ·b for one panel of a (≤ maxRows, or maxRowsNarrow for one vector of columns) and one of b (≤ panelColumns). Where the columns do not fill whole vectors the
 * tile is formed aside: b is padded with zeros, c is not.
 */
inline void multiplyPanels(bool pairs, size_t words, const float* a, size_t strideA, size_t rows, const float* b, size_t strideB, size_t columns, float* c, size_t ldc, bool accumulate) {
  const size_t vectors = (columns + lanes - 1) / lanes;
  const TileKernel kernel = tileKernelFor(pairs, vectors, rows);
  if (columns % lanes == 0) {
    kernel(words, a, strideA, b, strideB, c, ldc, accumulate);
    return;
  }
  float tile[maxRowsNarrow * panelColumns];
  kernel(words, a, strideA, b, strideB, tile, panelColumns, false);
  for (size_t i = 0; i < rows; i++) {
    for (size_t j = 0; j < columns; j++) c[i * ldc + j] = (accumulate ? c[i * ldc + j] : 0.0f) + tile[i * panelColumns + j];
  }
}
