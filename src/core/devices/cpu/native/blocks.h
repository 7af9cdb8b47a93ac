/**
 * Blocks of a weight, for SMT: gathering and scattering them, their gradients, and scores over a grid of blocks. Included only by kernelTable.h.
 * No (out, in) gradient ever exists: blockGradients forms the chosen rectangles, blockScores a tile at a time in a thread's scratch.
 */

inline Array arrayOf(const Matrix& m) { return Array{m.data, m.dtype}; }

inline void gatherColumns(Context& context, Matrix out, Matrix x, size_t rows, const int32_t* columns, size_t ranges) {
  parallelRange(context, rows, rowsPerTile(out.ld, 16384), [&](size_t begin, size_t end, int) {
    float buffer[stretch];
    for (size_t row = begin; row < end; row++) {
      size_t to = row * out.ld;
      for (size_t range = 0; range < ranges; range++) {
        const size_t from = row * x.ld + size_t(columns[2 * range]), count = size_t(columns[2 * range + 1]);
        overStretches(count, [&](size_t i, size_t width) {
          // Equal dtypes are copied bit for bit: a NaN keeps its payload.
          if (out.dtype == x.dtype) {
            const size_t bytes = bytesPerElement(x.dtype);
            __builtin_memcpy(static_cast<char*>(out.data) + (to + i) * bytes, static_cast<const char*>(x.data) + (from + i) * bytes, width * bytes);
          } else {
            put(arrayOf(out), to + i, width, fetch(arrayOf(x), from + i, width, buffer));
          }
        });
        to += count;
      }
    }
  });
}

inline void gatherBlocks(Context& context, float* out, Matrix weight, const Block* blocks, size_t count) {
  parallelRange(context, count, 8, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      const Block& b = blocks[i];
      for (int32_t row = 0; row < b.rowCount; row++) {
        float* to = out + b.offset + size_t(row) * b.columnCount;
        const float* from = fetch(arrayOf(weight), size_t(b.rowStart + row) * weight.ld + b.columnStart, b.columnCount, to);
        if (from != to) __builtin_memcpy(to, from, size_t(b.columnCount) * sizeof(float));
      }
    }
  });
}

inline void scatterBlocks(Context& context, Matrix weight, const float* values, const Block* blocks, size_t count) {
  parallelRange(context, count, 8, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      const Block& b = blocks[i];
      for (int32_t row = 0; row < b.rowCount; row++) {
        put(arrayOf(weight), size_t(b.rowStart + row) * weight.ld + b.columnStart, b.columnCount, values + b.offset + size_t(row) * b.columnCount);
      }
    }
  });
}

// Products with the tokens as k, both operands packed by the task itself

/** Thread scratch: strip of b, f32 tile, panels of a. */
constexpr size_t scoreRows = 256;
constexpr size_t scorePanels = (scoreRows + maxRows - 1) / maxRows;
constexpr size_t scoreTileWords = scoreRows * tileColumns;
static_assert((packedBWords + scoreTileWords + scorePanels * panelStrideA * sliceWords) * 4 <= threadScratchBytes, "block scores need more scratch than a thread has");

/** The k of both operands, cut into slices. */
struct TokenSlices {
  size_t tokens, count, perSlice;
};
inline TokenSlices sliceTokens(size_t tokens, Packing packing) {
  const size_t perWord = packing == Packing::pairs ? 2 : 1, most = sliceWords * perWord;
  const size_t count = (tokens + most - 1) / most;
  return {tokens, count, ((tokens + count - 1) / count + perWord - 1) / perWord * perWord};
}

/** c (rows × columns) = or += the product of packed panels of one a panel with a packed strip. */
inline void multiplyStrip(Packing packing, size_t words, const float* a, size_t rows, const float* strip, size_t columns, float* c, size_t ldc, bool accumulate) {
  for (size_t j = 0; j < columns; j += panelColumns) {
    const size_t width = columns - j < panelColumns ? columns - j : panelColumns;
    multiplyPanels(packing == Packing::pairs, words, a, panelStrideA, rows, strip + j * sliceWords, panelColumns, width, c + j, ldc, accumulate);
  }
}

inline void blockGradients(Context& context, float* dBlocks, Matrix dOut, Matrix slices, size_t tokens, const Block* blocks, const int32_t* order, const int32_t* groups, size_t groupCount) {
  const Packing packing = packingFor(context, dOut.dtype, slices.dtype);
  const Operand a{dOut, true, packing}, b{slices, true, packing};
  const TokenSlices k = sliceTokens(tokens, packing);
  int32_t widest = 0;
  for (size_t group = 0; group < groupCount; group++) {
    const int32_t width = blocks[order[groups[group]]].columnCount;
    widest = width > widest ? width : widest;
  }
  const size_t strips = (size_t(widest) + tileColumns - 1) / tileColumns;
  parallel(context, groupCount * strips, [&](size_t task, int thread) {
    const size_t group = task / strips, column = task % strips * tileColumns;
    const Block& first = blocks[order[groups[group]]];
    if (column >= size_t(first.columnCount)) return;
    const size_t columns = size_t(first.columnCount) - column < tileColumns ? size_t(first.columnCount) - column : tileColumns;
    float* strip = context.threadScratch(thread);
    float* panel = strip + packedBWords;
    for (size_t slice = 0; slice < k.count; slice++) {
      const size_t from = slice * k.perSlice, count = from + k.perSlice < tokens ? k.perSlice : tokens - from;
      packStrip(strip, b, size_t(first.sliceStart) + column, columns, from, count);
      for (int32_t i = groups[group]; i < groups[group + 1]; i++) {
        const Block& block = blocks[order[i]];
        const size_t most = columns <= lanes ? maxRowsNarrow : maxRows, panels = (size_t(block.rowCount) + most - 1) / most;
        for (size_t p = 0; p < panels; p++) {
          const size_t row = panelStart(block.rowCount, panels, p), rows = panelStart(block.rowCount, panels, p + 1) - row;
          packPanel(panel, panelStrideA, a, size_t(block.rowStart) + row, rows, from, count);
          multiplyStrip(packing, wordsOf(packing, count), panel, rows, strip, columns, dBlocks + block.offset + row * block.columnCount + column, block.columnCount, true);
        }
      }
    }
  });
}

/** Σ x or Σ |x| over rows × columns of a tile, f32 in lanes for sixteen rows at a time, then f64. */
inline double sumRectangle(const float* x, size_t ld, size_t rows, size_t columns, bool isSigned) {
  double total = 0;
  for (size_t row = 0; row < rows; row += 16) {
    VectorF sum = {};
    for (size_t i = row; i < rows && i < row + 16; i++) {
      const float* from = x + i * ld;
      for (size_t j = 0; j < columns; j += lanes) {
        const VectorF value = loadUpTo(from + j, columns - j);
        sum = sum + (isSigned ? value : (VectorF)((VectorU)value & 0x7fffffffu));
      }
    }
    total += sumLanes(sum);
  }
  return total;
}

/** What blockScores works on. */
struct ScoreCall {
  Operand a, b;
  TokenSlices k;
  Packing packing;
  size_t blockSize, blockColumns;
  bool isSigned;
  float* scores;
};

/** Forms g for rows × columns into the thread's tile (tileColumns from row to row). */
inline void formGradientTile(const ScoreCall& c, float* scratch, size_t row, size_t rows, size_t column, size_t columns) {
  float* strip = scratch;
  float* tile = scratch + packedBWords;
  float* panel = tile + scoreTileWords;
  const size_t panels = (rows + maxRows - 1) / maxRows;
  for (size_t slice = 0; slice < c.k.count; slice++) {
    const size_t from = slice * c.k.perSlice, count = from + c.k.perSlice < c.k.tokens ? c.k.perSlice : c.k.tokens - from;
    packStrip(strip, c.b, column, columns, from, count);
    for (size_t p = 0; p < panels; p++) {
      const size_t start = panelStart(rows, panels, p), end = panelStart(rows, panels, p + 1);
      packPanel(panel, panelStrideA, c.a, row + start, end - start, from, count);
      multiplyStrip(c.packing, wordsOf(c.packing, count), panel, end - start, strip, columns, tile + start * tileColumns, tileColumns, slice > 0);
    }
  }
}

/** Scores of the blocks within one region: many small blocks inside a tile, or one block of several tiles. */
inline void scoreRegion(const ScoreCall& c, float* scratch, size_t row, size_t rows, size_t column, size_t columns) {
  const float* tile = scratch + packedBWords;
  const size_t l = c.blockSize;
  if (rows <= scoreRows && columns <= tileColumns) {
    formGradientTile(c, scratch, row, rows, column, columns);
    for (size_t r = 0; r < rows; r += l) {
      for (size_t j = 0; j < columns; j += l) {
        const size_t height = smaller(l, rows - r), width = smaller(l, columns - j);
        const double sum = sumRectangle(tile + r * tileColumns + j, tileColumns, height, width, c.isSigned);
        c.scores[(row + r) / l * c.blockColumns + (column + j) / l] += float(sum / double(height * width));
      }
    }
    return;
  }
  double sum = 0;
  for (size_t r = 0; r < rows; r += scoreRows) {
    for (size_t j = 0; j < columns; j += tileColumns) {
      const size_t height = smaller(scoreRows, rows - r), width = smaller(tileColumns, columns - j);
      formGradientTile(c, scratch, row + r, height, column + j, width);
      sum += sumRectangle(tile, tileColumns, height, width, c.isSigned);
    }
  }
  c.scores[row / l * c.blockColumns + column / l] += float(sum / (double(rows) * double(columns)));
}

inline void blockScores(Context& context, float* scores, Matrix dOut, Matrix x, size_t tokens, size_t rows, size_t columns, size_t blockSize, bool isSigned) {
  const Packing packing = packingFor(context, dOut.dtype, x.dtype);
  const ScoreCall c{Operand{dOut, true, packing}, Operand{x, true, packing}, sliceTokens(tokens, packing), packing, blockSize, (columns + blockSize - 1) / blockSize, isSigned, scores};
  // A region never holds more than one block unless all its blocks fit one tile.
  const bool several = blockSize <= tileColumns;
  const size_t regionRows = several ? scoreRows / blockSize * blockSize : blockSize, regionColumns = several ? tileColumns / blockSize * blockSize : blockSize;
  const size_t down = (rows + regionRows - 1) / regionRows, across = (columns + regionColumns - 1) / regionColumns;
  parallel(context, down * across, [&](size_t task, int thread) {
    const size_t row = task / across * regionRows, column = task % across * regionColumns;
    scoreRegion(c, context.threadScratch(thread), row, smaller(regionRows, rows - row), column, smaller(regionColumns, columns - column));
  });
}

/** Σ of a stretch of one row, as `mean` asks. */
inline double sumStretch(const float* x, const float* scale, size_t count, BlockMean mean) {
  VectorF sum = {};
  for (size_t i = 0; i < count; i += lanes) {
    VectorF value = loadUpTo(x + i, count - i);
    if (mean == BlockMean::absolute) value = (VectorF)((VectorU)value & 0x7fffffffu);
    if (mean == BlockMean::squareScaled) value = value * value * loadUpTo(scale + i, count - i);
    sum = sum + value;
  }
  return sumLanes(sum);
}

inline void blockMeans(Context& context, float* scores, Matrix x, size_t rows, size_t columns, size_t blockSize, BlockMean mean, const float* columnScale) {
  const size_t blockColumns = (columns + blockSize - 1) / blockSize;
  parallel(context, (rows + blockSize - 1) / blockSize, [&](size_t blockRow, int thread) {
    double* sums = reinterpret_cast<double*>(context.threadScratch(thread));
    __builtin_memset(sums, 0, blockColumns * sizeof(double));
    const size_t row = blockRow * blockSize, height = smaller(blockSize, rows - row);
    float buffer[stretch];
    for (size_t i = row; i < row + height; i++) {
      for (size_t block = 0; block < blockColumns; block++) {
        const size_t start = block * blockSize, width = smaller(blockSize, columns - start);
        overStretches(width, [&](size_t j, size_t count) {
          sums[block] += sumStretch(fetch(arrayOf(x), i * x.ld + start + j, count, buffer), columnScale ? columnScale + start + j : nullptr, count, mean);
        });
      }
    }
    for (size_t block = 0; block < blockColumns; block++) {
      scores[blockRow * blockColumns + block] = float(sums[block] / double(height * smaller(blockSize, columns - block * blockSize)));
    }
  });
}
