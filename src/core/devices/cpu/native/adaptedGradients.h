/**
 * The exact gradients of an adapter's two tensors: G = dOutᵀ·x is formed a tile at a time in the shared scratch, masked or multiplied by W there,
 * contracted with the adapter, and dropped. Included only by kernelTable.h.
 *
 * Memory is that of one tile whatever the weight's size. Tiles are visited in order, and each sum runs in an order that the number of threads does
 * not show in.
 */

/** Rows of a tile of G: enough that packing x for each of them costs little. Its columns fill the scratch where bf16 results are gathered. */
constexpr size_t gradientRows = 512;

struct GradientTile {
  float* values;
  size_t row, rows, column, columns;
};

inline Matrix partOf(const Matrix& m, size_t column) { return Matrix{static_cast<char*>(m.data) + column * bytesPerElement(m.dtype), m.dtype, m.ld}; }
inline Matrix partOf(float* data, size_t row, size_t column, size_t ld) { return Matrix{data + row * ld + column, DType::f32, ld}; }

/** values = s·G where W is not zero and 0 elsewhere, whatever G is there; with group scales W·G. */
inline void maskTile(Context& context, const GradientTile& tile, const AdaptedArguments& w) {
  const VectorF scale = broadcast(w.scale);
  parallelRange(context, tile.rows, rowsPerTile(tile.columns, 16384), [&](size_t begin, size_t end, int) {
    float buffer[stretch];
    for (size_t i = begin; i < end; i++) {
      float* values = tile.values + i * tile.columns;
      overStretches(tile.columns, [&](size_t at, size_t width) {
        const float* weights = fetch(Array{w.weight.data, w.weight.dtype}, (tile.row + i) * w.in + tile.column + at, width, buffer);
        for (size_t j = 0; j < width; j += lanes) {
          const size_t left = width - j;
          const VectorF weight = loadUpTo(weights + j, left), g = loadUpTo(values + at + j, left);
          const VectorF masked = !w.left ? g * weight : weight != VectorF{} ? g * scale : VectorF{};
          if (left >= lanes) store(values + at + j, masked);
          else for (size_t lane = 0; lane < left; lane++) values[at + j + lane] = masked[lane];
        }
      });
    }
  });
}

/** dLeft += tile·rightᵀ, dRight += leftᵀ·tile. */
inline void contractLowRank(Context& context, float* dLeft, float* dRight, const GradientTile& tile, const AdaptedArguments& w) {
  const Matrix g{tile.values, DType::f32, tile.columns};
  MatmulArguments m;
  m.out = partOf(dLeft, tile.row, 0, w.ranks), m.a = g, m.b = partOf(w.right, 0, tile.column, w.in);
  m.m = tile.rows, m.n = w.rank, m.k = tile.columns;
  m.transposeA = false, m.transposeB = true, m.accumulate = true;
  multiplyGeneral(context, m, Packing::plain);
  m.out = partOf(dRight, 0, tile.column, w.in), m.a = partOf(w.left, tile.row, 0, w.ranks), m.b = g;
  m.m = w.rank, m.n = tile.columns, m.k = tile.rows;
  m.transposeA = true, m.transposeB = false;
  multiplyGeneral(context, m, Packing::plain);
}

/** dBeta += s Σ_j alpha·tile, row by row; dAlpha += s Σ_i beta·tile, column by column, one sum for each group. */
inline void contractGroups(Context& context, float* dAlpha, float* dBeta, const GradientTile& tile, const AdaptedArguments& w) {
  parallelRange(context, tile.rows, rowsPerTile(tile.columns, 16384), [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      const float* values = tile.values + i * tile.columns;
      const float* alpha = w.alpha + (tile.row + i) / w.groupRows * w.in + tile.column;
      double total = 0;
      overStretches(tile.columns, [&](size_t at, size_t width) { total += dotStretch(values + at, alpha + at, width); });
      dBeta[tile.row + i] += float(w.scale * total);
    }
  });
  parallelColumns(context, tile.columns, [&](size_t column, size_t width) {
    for (size_t i = 0; i < tile.rows;) {
      const size_t group = (tile.row + i) / w.groupRows, end = smaller(tile.rows, (group + 1) * w.groupRows - tile.row);
      float sum[columnStripe] = {};
      for (; i < end; i++) {
        const float* values = tile.values + i * tile.columns + column;
        const float beta = w.beta[tile.row + i];
        for (size_t j = 0; j < width; j++) sum[j] += beta * values[j];
      }
      float* to = dAlpha + group * w.in + tile.column + column;
      for (size_t j = 0; j < width; j++) to[j] += w.scale * sum[j];
    }
  });
}

inline void adaptedGradients(Context& context, float* dFirst, float* dSecond, Matrix dOut, Matrix x, size_t tokens, const AdaptedArguments& w) {
  const Packing packing = packingFor(context, dOut.dtype, x.dtype);
  const size_t mostRows = smaller(gradientRows, w.out), mostColumns = gatherWords / mostRows / panelColumns * panelColumns;
  GradientTile tile;
  tile.values = context.shared + packedAWords;
  for (tile.row = 0; tile.row < w.out; tile.row += tile.rows) {
    tile.rows = smaller(mostRows, w.out - tile.row);
    for (tile.column = 0; tile.column < w.in; tile.column += tile.columns) {
      tile.columns = smaller(mostColumns, w.in - tile.column);
      MatmulArguments m;
      m.out = Matrix{tile.values, DType::f32, tile.columns};
      m.a = partOf(dOut, tile.row), m.b = partOf(x, tile.column);
      m.m = tile.rows, m.n = tile.columns, m.k = tokens;
      m.transposeA = true, m.transposeB = false, m.accumulate = false;
      multiplyGeneral(context, m, packing);
      maskTile(context, tile, w);
      if (w.left) contractLowRank(context, dFirst, dSecond, tile, w);
      else contractGroups(context, dFirst, dSecond, tile, w);
    }
  }
}
