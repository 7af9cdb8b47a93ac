/**
 * Factoring a Hessian for SparseGPT, in f32 or f64 by the same code. Included only by kernelTable.h.
 *
 * H = R·Rᵀ with R upper triangular, from the last columns to the first; then U = R⁻¹, for which H⁻¹ = Uᵀ·U. Two thirds of C³ operations, where inverting
 * and factoring again would take two C³. Only the upper triangle is read and written. The triangle of each diagonal block is handled in f64 by one thread;
 * all else are products of rows of the matrix, which lie as they are wanted, with a block's columns, which are packed into the shared scratch.
 * The rule to keep: what is summed in which order depends on C alone.
 */

/** Vectors of T, and columns of a packed panel. */
template <class T>
struct Wide {
  static constexpr size_t lanes = SIMD_BYTES / sizeof(T);
  static constexpr size_t panel = 2 * lanes;
  typedef T Vector __attribute__((vector_size(SIMD_BYTES)));
  static Vector load(const T* p) {
    Vector x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static void store(T* p, Vector x) { __builtin_memcpy(p, &x, sizeof x); }
};

/** c (MR × panel) = or += a (MR rows, `ld` apart, of `count` elements) · packed (count × panel). */
template <class T, int MR>
void rowsTimesPanel(size_t count, const T* a, size_t ld, const T* packed, T* c, bool accumulate) {
  using W = Wide<T>;
  typename W::Vector sum[MR][2];
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    sum[i][0] = accumulate ? W::load(c + i * W::panel) : typename W::Vector{};
    sum[i][1] = accumulate ? W::load(c + i * W::panel + W::lanes) : typename W::Vector{};
  }
  for (size_t k = 0; k < count; k++) {
    const typename W::Vector low = W::load(packed + k * W::panel), high = W::load(packed + k * W::panel + W::lanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      typename W::Vector x = a[i * ld + k] - typename W::Vector{};
#ifdef SIMD_REGISTER_CONSTRAINT
      asm("" : SIMD_REGISTER_CONSTRAINT(x));  // one broadcast for both products
#endif
      sum[i][0] = sum[i][0] + x * low;
      sum[i][1] = sum[i][1] + x * high;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    W::store(c + i * W::panel, sum[i][0]);
    W::store(c + i * W::panel + W::lanes, sum[i][1]);
  }
}

template <class T>
struct RowKernels {
  using Kernel = void (*)(size_t count, const T* a, size_t ld, const T* packed, T* c, bool accumulate);
  Kernel forRows[maxRows + 1] = {};
  template <int MR>
  constexpr void fill() {
    forRows[MR] = rowsTimesPanel<T, MR>;
    if constexpr (MR > 1) fill<MR - 1>();
  }
  constexpr RowKernels() { fill<maxRows>(); }
};

/** One matrix that is being factored. */
template <class T>
struct Factorization {
  static constexpr size_t panel = Wide<T>::panel;
  static constexpr RowKernels<T> kernels{};
  /** Rows of a task; whole panels, so that a task may pack its own rows. */
  static constexpr size_t taskRows = 128, mostBlock = 128;
  static_assert(taskRows % panel == 0 && mostBlock % panel == 0, "a panel is a whole part of a task");
  static_assert(taskRows * taskRows * sizeof(T) <= threadScratchBytes, "a task needs more scratch than a thread has");

  Context& context;
  T* a;
  size_t C, block;
  /** The block's triangle, block × block, packed by panels of columns; then the packed columns. */
  T *triangle, *columns;

  Factorization(Context& context, T* a, size_t C) : context(context), a(a), C(C), block(blockFor(C)) {
    triangle = reinterpret_cast<T*>(context.shared);
    columns = triangle + block * roundUp(block);
  }

  static size_t roundUp(size_t n) { return (n + panel - 1) / panel * panel; }
  /** The widest block whose packed columns fit the shared scratch; 0 when none does. */
  static size_t blockFor(size_t C) {
    size_t block = mostBlock;
    while (block > 0 && (block * roundUp(block) + roundUp(C) * block + block * block) * sizeof(T) > sharedScratchBytes) block -= panel;
    return block;
  }

  /** body(row, MR, tile) for rows [begin, end) in kernel-sized groups. */
  template <class Body>
  static void overRows(size_t begin, size_t end, Body body) {
    const size_t groups = (end - begin + maxRows - 1) / maxRows;
    for (size_t g = 0; g < groups; g++) {
      const size_t from = begin + (end - begin) * g / groups, to = begin + (end - begin) * (g + 1) / groups;
      body(from, to - from);
    }
  }

  bool factor(const double* pivots, double least) {
    for (size_t end = C; end > 0;) {
      const size_t start = (end - 1) / block * block;
      if (!factorTriangle(start, end, pivots, least)) return false;
      solveRows(start, end);
      updateRest(start, end);
      end = start;
    }
    return true;
  }

  /**
   * Factors the block on the diagonal and leaves its inverse V, in the matrix and, transposed, in `triangle` for the rows above. In f64, transposed, so
   * that the inner loops run along memory: b[j][i] is element (i, j), i ≤ j.
   */
  bool factorTriangle(size_t start, size_t end, const double* pivots, double least) {
    const size_t width = end - start;
    double* b = reinterpret_cast<double*>(context.scratch);  // the first thread's
    double* inverse = b + width * width;
    static_assert(2 * mostBlock * mostBlock * sizeof(double) <= threadScratchBytes, "the triangles do not fit a thread's scratch");
    for (size_t j = 0; j < width; j++) {
      for (size_t i = 0; i <= j; i++) b[j * width + i] = double(a[(start + i) * C + start + j]);
    }
    for (size_t j = width; j-- > 0;) {
      double* column = b + j * width;
      if (!(column[j] > least * pivots[start + j])) return false;
      const double root = __builtin_sqrt(column[j]);
      column[j] = root;
      for (size_t i = 0; i < j; i++) column[i] /= root;
      for (size_t i = 0; i < j; i++) {
        const double factor = column[i];
        double* to = b + i * width;
        for (size_t k = 0; k <= i; k++) to[k] -= factor * column[k];
      }
    }
    for (size_t j = 0; j < width; j++) {
      double* x = inverse + j * width;  // column j of the inverse
      for (size_t i = 0; i < width; i++) x[i] = i == j ? 1.0 : 0.0;
      for (size_t k = j + 1; k-- > 0;) {
        const double* column = b + k * width;
        x[k] /= column[k];
        const double factor = x[k];
        for (size_t i = 0; i < k; i++) x[i] -= column[i] * factor;
      }
    }
    for (size_t j = 0; j < width; j++) {
      for (size_t i = 0; i <= j; i++) a[(start + i) * C + start + j] = T(inverse[j * width + i]);
    }
    // Element (k, c) of Vᵀ is V[c][k] = inverse[k][c].
    packTriangle(width, [&](size_t k, size_t c) { return c < width ? T(inverse[k * width + c]) : T(0); });
    return true;
  }

  template <class Element>
  void packTriangle(size_t width, Element element) {
    for (size_t c = 0; c < roundUp(width); c++) {
      T* to = triangle + c / panel * panel * width + c % panel;
      for (size_t k = 0; k < width; k++) to[k * panel] = element(k, c);
    }
  }

  /** Rows above the block: a ← a·Vᵀ, which is a·R⁻ᵀ; and packed, transposed, for what follows. */
  void solveRows(size_t start, size_t end) {
    const size_t width = end - start;
    parallelRange(context, start, taskRows, [&](size_t begin, size_t stop, int) {
      overRows(begin, stop, [&](size_t row, size_t rows) {
        T tile[maxRows * mostBlock];
        T* x = a + row * C + start;
        for (size_t c = 0; c < width; c += panel) kernels.forRows[rows](width, x, C, triangle + c * width, tile + c * maxRows, false);
        for (size_t i = 0; i < rows; i++) {
          for (size_t c = 0; c < width; c++) x[i * C + c] = tile[c / panel * panel * maxRows + i * panel + c % panel];
        }
      });
      for (size_t row = begin; row < roundUp(stop); row++) {
        T* to = columns + row / panel * panel * width + row % panel;
        for (size_t k = 0; k < width; k++) to[k * panel] = row < stop ? a[row * C + start + k] : T(0);
      }
    });
  }

  /** The upper triangle of what is left −= the block's columns times their transpose. */
  void updateRest(size_t start, size_t end) {
    const size_t width = end - start;
    const size_t tiles = (start + taskRows - 1) / taskRows;
    parallel(context, tiles * tiles, [&](size_t task, int) {
      const size_t begin = task % tiles * taskRows, column = task / tiles * taskRows;
      if (begin > column) return;
      const size_t stop = smaller(begin + taskRows, start), columnEnd = smaller(column + taskRows, start);
      for (size_t c = column; c < columnEnd; c += panel) {
        overRows(begin, stop, [&](size_t row, size_t rows) {
          T tile[maxRows * panel];
          kernels.forRows[rows](width, a + row * C + start, C, columns + c * width, tile, false);
          const size_t last = smaller(c + panel, columnEnd);
          for (size_t i = 0; i < rows; i++) {
            T* to = a + (row + i) * C;
            for (size_t j = c > row + i ? c : row + i; j < last; j++) to[j] -= tile[i * panel + (j - c)];
          }
        });
      }
    });
  }

  /** U, block column by block column; the diagonal blocks hold it already. */
  void invert() {
    for (size_t start = block; start < C; start += block) {
      const size_t end = smaller(start + block, C), width = end - start;
      packTriangle(width, [&](size_t k, size_t c) { return k <= c && c < width ? -a[(start + k) * C + start + c] : T(0); });
      // The block's columns of R times −U of its triangle: packed by columns, k being the rows above.
      parallelRange(context, start, taskRows, [&](size_t begin, size_t stop, int) {
        overRows(begin, stop, [&](size_t row, size_t rows) {
          for (size_t c = 0; c < width; c += panel) {
            kernels.forRows[rows](width, a + row * C + start, C, triangle + c * width, columns + c * start + row * panel, false);
          }
        });
      });
      parallelRange(context, start, taskRows, [&](size_t begin, size_t stop, int thread) { multiplyUpper(start, width, begin, stop, thread); });
    }
  }

  /** Rows [begin, stop) of the block's columns = the same rows of U · the packed columns. */
  void multiplyUpper(size_t start, size_t width, size_t begin, size_t stop, int thread) {
    // Where the rows meet the diagonal, what is below it is not U's: a copy with zeros there.
    const size_t size = stop - begin;
    T* corner = reinterpret_cast<T*>(context.threadScratch(thread));
    for (size_t i = 0; i < size; i++) {
      for (size_t k = 0; k < size; k++) corner[i * size + k] = k < i ? T(0) : a[(begin + i) * C + begin + k];
    }
    overRows(begin, stop, [&](size_t row, size_t rows) {
      for (size_t c = 0; c < width; c += panel) {
        T tile[maxRows * panel];
        const T* packed = columns + c * start;
        kernels.forRows[rows](size, corner + (row - begin) * size, size, packed + begin * panel, tile, false);
        if (stop < start) kernels.forRows[rows](start - stop, a + row * C + stop, C, packed + stop * panel, tile, true);
        const size_t count = smaller(panel, width - c);
        for (size_t i = 0; i < rows; i++) {
          for (size_t j = 0; j < count; j++) a[(row + i) * C + start + c + j] = tile[i * panel + j];
        }
      }
    });
  }
};

inline void mirrorLower(Context& context, float* h, const float* diagonal, size_t C) {
  constexpr size_t square = 64;  // squares of both triangles stay in the cache
  const size_t across = (C + square - 1) / square;
  parallel(context, across * across, [&](size_t task, int) {
    const size_t row = task / across * square, column = task % across * square;
    if (column < row) return;
    const size_t rowEnd = smaller(row + square, C), columnEnd = smaller(column + square, C);
    for (size_t i = row; i < rowEnd; i++) {
      for (size_t j = column > i ? column : i + 1; j < columnEnd; j++) h[i * C + j] = h[j * C + i];
    }
  });
  for (size_t j = 0; j < C; j++) h[j * C + j] = diagonal[j];
}

template <class T>
inline bool factorAll(Context& context, T* a, size_t C, const double* pivots, double least) {
  Factorization<T> f(context, a, C);
  for (size_t j = 0; j < C; j++) a[j * C + j] = T(pivots[j]);
  if (!f.factor(pivots, least)) return false;
  f.invert();
  return true;
}

/** `pivots`: the diagonal as it is factored. False, and h as it was, when a pivot lost all digits. */
inline bool inverseCholesky(Context& context, float* h, const float* diagonal, const double* pivots, size_t C, double* wide) {
  if (!wide) {
    if (factorAll(context, h, C, pivots, 1e-4)) return true;
    mirrorLower(context, h, diagonal, C);
    return false;
  }
  const size_t rows = rowsPerTile(C, 65536);
  parallelRange(context, C, rows, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      for (size_t j = i; j < C; j++) wide[i * C + j] = double(h[i * C + j]);
    }
  });
  if (!factorAll(context, wide, C, pivots, 1e-13)) return false;
  parallelRange(context, C, rows, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      for (size_t j = i; j < C; j++) h[i * C + j] = float(wide[i * C + j]);
    }
  });
  return true;
}

/** Whether the scratch takes the narrowest block. */
inline bool canFactor(size_t C, bool wide) { return (wide ? Factorization<double>::blockFor(C) : Factorization<float>::blockFor(C)) > 0; }
