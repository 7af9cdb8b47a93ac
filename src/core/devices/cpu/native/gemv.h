/**
 * matmul for a few rows against a transposed right operand (out = a·bᵀ, at most `fewRows` rows): generation reads each weight once, so
 * nothing is packed and the speed is the memory's. Included only by kernelTable.h.
 */

constexpr size_t fewRows = 8;

/** Dot products of R rows of f32 a (lda apart) with four rows of b; lanes are added pairwise at the end. */
template <class T, bool Round, int R>
inline void dotFour(const float* a, size_t lda, const T* b, size_t ldb, size_t columns, size_t k, float (&out)[R][4]) {
  VectorF sum[R][4] = {};
  size_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    VectorF row[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) row[r] = load(a + r * lda + i);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      const VectorF weight = maybeRound<Round>(load(b + (size_t(c) < columns ? c : 0) * ldb + i));
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) sum[r][c] = sum[r][c] + row[r] * weight;
    }
  }
  for (int c = 0; c < 4; c++) {
    const T* column = b + (size_t(c) < columns ? c : 0) * ldb;
    for (int r = 0; r < R; r++) {
      float total = sumLanes(sum[r][c]);
      for (size_t j = i; j < k; j++) {
        const float weight = Round ? fromBf16(toBf16(toFloat(column[j]))) : toFloat(column[j]);
        total += a[r * lda + j] * weight;
      }
      out[r][c] = total;
    }
  }
}

/** R rows of the result from `row` on, at most four columns from `column` on, whose weights start at b. */
template <class T, bool Round, int R>
inline void dotRows(const MatmulArguments& m, const float* a, size_t row, const T* b, size_t column, size_t columns) {
  float dots[R][4];
  dotFour<T, Round, R>(a + row * m.k, m.k, b, m.b.ld, columns, m.k, dots);
  for (int r = 0; r < R; r++) {
    for (size_t c = 0; c < columns; c++) {
      const size_t at = (row + r) * m.out.ld + column + c;
      Array out{m.out.data, m.out.dtype};
      float buffer;
      const float old = m.accumulate ? *fetch(out, at, 1, &buffer) : 0.0f;
      const float value = old + dots[r][c];
      put(out, at, 1, &value);
    }
  }
}

/** All rows of the result, columns [begin, end); b holds their weights. */
template <class T, bool Round>
inline void multiplyColumns(const MatmulArguments& m, const float* a, const T* b, size_t begin, size_t end) {
  for (size_t column = begin; column < end; column += 4) {
    const size_t columns = end - column < 4 ? end - column : 4;
    const T* weights = b + (column - begin) * m.b.ld;
    size_t row = 0;
    for (; row + 4 <= m.m; row += 4) dotRows<T, Round, 4>(m, a, row, weights, column, columns);
    for (; row + 2 <= m.m; row += 2) dotRows<T, Round, 2>(m, a, row, weights, column, columns);
    if (row < m.m) dotRows<T, Round, 1>(m, a, row, weights, column, columns);
  }
}

template <class T, bool Round>
inline void multiplyFew(Context& context, const MatmulArguments& m, const float* a) {
  const size_t grain = (size_t(1) << 16) / m.k / 4 * 4 + 4;
  parallelRange(context, m.n, grain, [&](size_t begin, size_t end, int) {
    multiplyColumns<T, Round>(m, a, static_cast<const T*>(m.b.data) + begin * m.b.ld, begin, end);
  });
}

/** Rows of an adapted weight formed at a time, whole fours; 0 where not even four fit a thread's scratch. */
inline size_t formedRows(const MatmulArguments& m) {
  constexpr size_t most = 12;
  return smaller(most, (threadScratchBytes / sizeof(float) - factorWords) / m.k / 4 * 4);
}

/** The same sums over an adapted weight: some rows of it are formed in the thread's scratch, then used and forgotten. */
inline void multiplyFewAdapted(Context& context, const MatmulArguments& m, const float* a) {
  const bool round = m.a.dtype == DType::bf16 || m.b.dtype == DType::bf16;
  parallelRange(context, m.n, formedRows(m), [&](size_t begin, size_t end, int thread) {
    float* factors = context.threadScratch(thread);
    float* rows = factors + factorWords;
    formRowsOf(rows, *m.adapted, begin, end - begin, round, factors);
    multiplyColumns<float, false>(m, a, rows, begin, end);
  });
}

/** Brings the few rows of a to f32 in the shared scratch, rounded if b is bf16. */
inline void multiplyFewRows(Context& context, const MatmulArguments& m) {
  float* a = context.shared;
  for (size_t row = 0; row < m.m; row++) {
    float* to = a + row * m.k;
    const float* from = fetch(Array{m.a.data, m.a.dtype}, row * m.a.ld, m.k, to);
    if (from != to) __builtin_memcpy(to, from, m.k * sizeof(float));
    if (m.a.dtype == DType::f32 && m.b.dtype == DType::bf16) {
      for (size_t i = 0; i < m.k; i++) to[i] = fromBf16(toBf16(to[i]));
    }
  }
  if (m.adapted) multiplyFewAdapted(context, m, a);
  else if (m.b.dtype == DType::bf16) multiplyFew<uint16_t, false>(context, m, a);
  else if (m.a.dtype == DType::bf16) multiplyFew<float, true>(context, m, a);
  else multiplyFew<float, false>(context, m, a);
}

inline void matmul(Context& context, const MatmulArguments& m) {
  if (m.m <= fewRows && m.transposeB && !m.transposeA && m.m * m.k * sizeof(float) <= sharedScratchBytes && (!m.adapted || formedRows(m) > 0)) multiplyFewRows(context, m);
  else multiplyGeneral(context, m, packingFor(context, m.a.dtype, m.b.dtype));
}
