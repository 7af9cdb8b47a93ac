/**
 * matmul: packs the left operand once for all threads, then hands out tiles of the result. Included only by kernelTable.h.
 *
 * The shared scratch takes as much of the left operand as fits (all of it for 512 × 2048); a tile packs its own strip of the right operand, which is
 * used by some hundred rows, so packing it costs one or two per cent. Within a tile k runs in slices that keep a panel of a in the first-level cache.
 * A bf16 result is summed in an f32 tile over all of k and rounded once.
 */

/** Rows of a tile, at most (whole panels). */
constexpr size_t tileRows = 512 / maxRows * maxRows + maxRows;
/** Thread scratch: packed strip of b, then the f32 tile, then what forming an adapted weight takes. */
constexpr size_t packedBWords = tileColumns * sliceWords;
constexpr size_t tileWords = tileRows * tileColumns;
static_assert((packedBWords + tileWords + factorWords) * 4 <= threadScratchBytes, "matmul needs more scratch than a thread has");
/** Shared scratch: packed a, and behind it the f32 result that a bf16 one is gathered in when k does not fit. */
constexpr size_t gatherWords = sharedScratchBytes / 4 / 4;
constexpr size_t packedAWords = sharedScratchBytes / 4 - gatherWords;

/** One pass of the driver: a chunk of rows and a chunk of k, packed. */
struct GemmChunk {
  Operand a, b;
  size_t row, rows, panels;           // of a
  size_t k, slices, sliceK, kEnd;     // slice s covers [k + s·sliceK, min(+ sliceK, kEnd))
  size_t columns;                     // of b
  const AdaptedArguments* adapted;    // b is formed from this, from its column `firstColumn` on; or null
  size_t firstColumn;
  size_t stridePanel;                 // words of a packed panel of a in one slice
  bool pairs;
};

inline float* packedPanel(const Context& context, const GemmChunk& g, size_t slice, size_t panel) {
  return context.shared + (slice * g.panels + panel) * g.stridePanel;
}

inline size_t sliceCount(const GemmChunk& g, size_t slice) {
  const size_t k = g.k + slice * g.sliceK;
  return k + g.sliceK < g.kEnd ? g.sliceK : g.kEnd - k;
}

/** Packs the left operand of a chunk. */
inline void packLeft(Context& context, const GemmChunk& g) {
  const size_t perTile = 4;
  parallel(context, g.slices * ((g.panels + perTile - 1) / perTile), [&](size_t tile, int) {
    const size_t groups = (g.panels + perTile - 1) / perTile;
    const size_t slice = tile / groups, first = tile % groups * perTile;
    for (size_t panel = first; panel < first + perTile && panel < g.panels; panel++) {
      const size_t start = panelStart(g.rows, g.panels, panel), end = panelStart(g.rows, g.panels, panel + 1);
      packPanel(packedPanel(context, g, slice, panel), panelStrideA, g.a, g.row + start, end - start, g.k + slice * g.sliceK, sliceCount(g, slice));
    }
  });
}

/** Packs columns [column, columnEnd) and k [k, k + count) of b, or forms them where b is an adapted weight. `packedB` stands at the thread's scratch. */
inline void packRight(const GemmChunk& g, float* packedB, size_t column, size_t columnEnd, size_t k, size_t count) {
  if (g.adapted) {
    formStrip(packedB, *g.adapted, FormPlace{g.b.kMajor, g.firstColumn + column, columnEnd - column, k, count}, g.b.packing, packedB + packedBWords + tileWords);
  } else {
    packStrip(packedB, g.b, column, columnEnd - column, k, count);
  }
}

/** Fetches part `part` of `parts` of what packRight would read. */
inline void prefetchRight(const GemmChunk& g, size_t column, size_t width, size_t slice, size_t part, size_t parts) {
  const size_t k = g.k + slice * g.sliceK, count = sliceCount(g, slice);
  prefetchPanel(g.b, column, width, k, count, part, parts);
  if (g.adapted) prefetchFactors(*g.adapted, FormPlace{g.b.kMajor, g.firstColumn + column, width, k, count}, part, parts);
}

/**
 * One tile: panels [panel, panelEnd) of a by columns [column, columnEnd), into c at the tile's first row and column. While it computes, what it or
 * the next tile (at `nextColumn`) packs next is fetched from memory: weights do not fit the caches, and packing alone would wait for them.
 */
inline void multiplyTile(Context& context, const GemmChunk& g, size_t panel, size_t panelEnd, size_t column, size_t columnEnd, size_t nextColumn, float* packedB, float* c, size_t ldc, bool accumulate) {
  const size_t firstRow = panelStart(g.rows, g.panels, panel);
  for (size_t slice = 0; slice < g.slices; slice++) {
    const size_t count = sliceCount(g, slice);
    const size_t words = wordsOf(g.b.packing, count);
    packRight(g, packedB, column, columnEnd, g.k + slice * g.sliceK, count);
    const bool last = slice + 1 == g.slices;
    const size_t nextSlice = last ? 0 : slice + 1, nextStart = last ? nextColumn : column;
    const size_t nextWidth = nextStart >= g.columns ? 0 : g.columns - nextStart < columnEnd - column ? g.columns - nextStart : columnEnd - column;
    for (size_t p = panel; p < panelEnd; p++) {
      const size_t row = panelStart(g.rows, g.panels, p), rows = panelStart(g.rows, g.panels, p + 1) - row;
      if (nextWidth) prefetchRight(g, nextStart, nextWidth, nextSlice, p - panel, panelEnd - panel);
      const float* packedA = packedPanel(context, g, slice, p);
      for (size_t j = column; j < columnEnd; j += panelColumns) {
        const size_t width = columnEnd - j < panelColumns ? columnEnd - j : panelColumns;
        multiplyPanels(g.pairs, words, packedA, panelStrideA, rows, packedB + (j - column) * sliceWords, panelColumns, width,
                       c + (row - firstRow) * ldc + (j - column), ldc, accumulate || slice > 0);
      }
    }
  }
}

/** How a chunk's result is cut into tiles: large enough to pay for packing, many enough that no thread waits long. */
struct TileCut {
  size_t rowTiles, columnPanels;
};
inline TileCut cutTiles(const Context& context, const GemmChunk& g) {
  const size_t panelsB = (g.columns + panelColumns - 1) / panelColumns;
  const size_t wanted = size_t(context.pool->threads()) * 8;
  constexpr size_t mostPanels = tileRows / maxRows;
  size_t rowTiles = (g.panels + mostPanels - 1) / mostPanels;
  size_t columnPanels = tilePanels;
  // An adapted weight is formed once per row tile, its factors packed once per strip: below some hundred rows or a few columns that would show.
  const size_t leastPanels = g.adapted ? 2 : 1;
  while (columnPanels > leastPanels && rowTiles * ((panelsB + columnPanels - 1) / columnPanels) < wanted) columnPanels /= 2;
  const size_t tileK = g.kEnd - g.k;
  const size_t mostRowTiles = g.adapted ? g.panels / (mostPanels / 2) : g.panels;
  while (rowTiles * 2 <= mostRowTiles && rowTiles * panelsB < wanted && g.rows / rowTiles * panelColumns * tileK > (size_t(1) << 21)) rowTiles *= 2;
  return {rowTiles, columnPanels};
}

/** out = or += f32 sums, rounded once. The sums are changed. */
inline void putSums(const Matrix& out, size_t offset, size_t count, float* sums, bool accumulate) {
  const Array to{out.data, out.dtype};
  overStretches(count, [&](size_t at, size_t width) {
    float buffer[stretch];
    if (accumulate) {
      const float* old = fetch(to, offset + at, width, buffer);
      for (size_t i = 0; i < width; i++) sums[at + i] += old[i];
    }
    put(to, offset + at, width, sums + at);
  });
}

/** out += or = the chunk's product; out is the whole result. */
inline void multiplyChunk(Context& context, const GemmChunk& g, const Matrix& out, bool accumulate) {
  const TileCut cut = cutTiles(context, g);
  const size_t stripColumns = cut.columnPanels * panelColumns;
  const size_t strips = (g.columns + stripColumns - 1) / stripColumns;
  parallel(context, strips * cut.rowTiles, [&](size_t tile, int thread) {
    const size_t rowTile = tile % cut.rowTiles, column = tile / cut.rowTiles * stripColumns;
    const size_t columnEnd = column + stripColumns < g.columns ? column + stripColumns : g.columns;
    const size_t panel = g.panels * rowTile / cut.rowTiles, panelEnd = g.panels * (rowTile + 1) / cut.rowTiles;
    const size_t row = panelStart(g.rows, g.panels, panel), rowEnd = panelStart(g.rows, g.panels, panelEnd);
    const size_t nextColumn = (tile + size_t(context.pool->threads())) / cut.rowTiles * stripColumns;
    float* packedB = context.threadScratch(thread);
    if (out.dtype == DType::f32) {
      multiplyTile(context, g, panel, panelEnd, column, columnEnd, nextColumn, packedB, static_cast<float*>(out.data) + (g.row + row) * out.ld + column, out.ld, accumulate);
      return;
    }
    float* sums = packedB + packedBWords;
    multiplyTile(context, g, panel, panelEnd, column, columnEnd, nextColumn, packedB, sums, tileColumns, false);
    for (size_t i = row; i < rowEnd; i++) putSums(out, (g.row + i) * out.ld + column, columnEnd - column, sums + (i - row) * tileColumns, accumulate);
  });
}

/** The whole product for operands as given; `out` f32, or bf16 with all of k in one chunk. */
inline void multiplyAll(Context& context, const MatmulArguments& m, Packing packing, size_t row, size_t rows, size_t column, size_t columns, const Matrix& out, size_t chunkSlices, bool accumulate) {
  GemmChunk g;
  g.a = Operand{m.a, m.transposeA, packing};
  g.b = Operand{m.b, !m.transposeB, packing};
  const size_t bytes = bytesPerElement(m.b.dtype);
  g.b.matrix.data = static_cast<char*>(m.b.data) + (m.transposeB ? column * m.b.ld : column) * bytes;
  const size_t perWord = packing == Packing::pairs ? 2 : 1;
  const size_t slices = (m.k + sliceWords * perWord - 1) / (sliceWords * perWord);
  g.sliceK = ((m.k + slices - 1) / slices + perWord - 1) / perWord * perWord;
  g.stridePanel = wordsOf(packing, g.sliceK) * panelStrideA;
  g.pairs = packing == Packing::pairs;
  g.columns = columns;
  g.adapted = m.adapted;
  g.firstColumn = column;
  g.row = row;
  g.rows = rows;
  g.panels = (rows + maxRows - 1) / maxRows;
  for (size_t slice = 0; slice < slices; slice += chunkSlices) {
    g.k = slice * g.sliceK;
    if (g.k >= m.k) break;
    g.kEnd = g.k + chunkSlices * g.sliceK < m.k ? g.k + chunkSlices * g.sliceK : m.k;
    g.slices = (g.kEnd - g.k + g.sliceK - 1) / g.sliceK;
    packLeft(context, g);
    multiplyChunk(context, g, out, accumulate || slice > 0);
  }
}

/** How many rows and slices of k the shared scratch takes at a time: rows down to one tile's first, then k. */
struct ChunkCut {
  size_t rowChunks, slices, slicesPerChunk;
};
inline ChunkCut cutChunks(const MatmulArguments& m, Packing packing) {
  const size_t perWord = packing == Packing::pairs ? 2 : 1;
  const size_t slices = (m.k + sliceWords * perWord - 1) / (sliceWords * perWord);
  const size_t panelWords = wordsOf(packing, (m.k + slices - 1) / slices + perWord) * panelStrideA;  // of one slice
  const size_t panels = (m.m + maxRows - 1) / maxRows;
  const size_t slicesPerChunk = smaller(slices, packedAWords / (smaller(panels, tileRows / maxRows) * panelWords));
  const size_t panelsPerChunk = smaller(panels, packedAWords / (slicesPerChunk * panelWords));
  return {(panels + panelsPerChunk - 1) / panelsPerChunk, slices, slicesPerChunk};
}

/** A bf16 result whose k comes in several chunks: strips of columns are gathered in f32 in the shared scratch and rounded once. */
inline void multiplyGathered(Context& context, const MatmulArguments& m, Packing packing, size_t row, size_t rows, size_t slicesPerChunk) {
  const size_t stripColumns = gatherWords / rows / panelColumns * panelColumns;
  float* gathered = context.shared + packedAWords;
  for (size_t column = 0; column < m.n; column += stripColumns) {
    const size_t columns = smaller(stripColumns, m.n - column);
    const Matrix strip{gathered - row * columns, DType::f32, columns};
    multiplyAll(context, m, packing, row, rows, column, columns, strip, slicesPerChunk, false);
    parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; i++) putSums(m.out, (row + i) * m.out.ld + column, columns, gathered + i * columns, m.accumulate);
    });
  }
}

inline void multiplyGeneral(Context& context, const MatmulArguments& m, Packing packing) {
  const ChunkCut cut = cutChunks(m, packing);
  for (size_t chunk = 0; chunk < cut.rowChunks; chunk++) {
    const size_t row = m.m * chunk / cut.rowChunks, rows = m.m * (chunk + 1) / cut.rowChunks - row;
    if (m.out.dtype == DType::f32 || cut.slicesPerChunk == cut.slices) multiplyAll(context, m, packing, row, rows, 0, m.n, m.out, cut.slicesPerChunk, m.accumulate);
    else multiplyGathered(context, m, packing, row, rows, cut.slicesPerChunk);
  }
}
