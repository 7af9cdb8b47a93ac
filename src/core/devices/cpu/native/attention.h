/**
 * What forward and backward attention share: tiles of queries and keys, packed in a thread's scratch. Included only by kernelTable.h.
 *
 * Scores are formed transposed, Sᵀ[key][query]: softmax then runs down the keys with a query in each lane, without sums across lanes, and Sᵀ lies
 * just as the tile kernels want their left operand for P·V. All arithmetic is f32; bf16 is widened while packing. Key tiles that no query
 * of a tile may see (later ones, other documents) are skipped, and within a tile panels are trimmed to what is visible.
 */

constexpr size_t queryTile = 64;
constexpr size_t keyTile = 128;
/** Largest head size; the scratch is laid out for it. */
constexpr size_t mostHeadSize = 256;

inline float minusInfinity() { return -__builtin_inff(); }

/** Positions and document starts of a tile's queries; lanes beyond the last query see nothing. */
struct QueryTile {
  size_t count;      // queries
  size_t padded;     // rounded up to whole vectors
  size_t row;        // of the first query in q and out
  int32_t first;     // position of the first query
  int32_t lowestKey; // of all queries
  alignas(64) int32_t position[queryTile];
  alignas(64) int32_t start[queryTile];

  int32_t lastPosition() const { return first + int32_t(count) - 1; }
};

inline void openQueryTile(QueryTile& t, const AttentionArguments& a, size_t batch, size_t query) {
  t.count = a.queryLength - query < queryTile ? a.queryLength - query : queryTile;
  t.padded = (t.count + lanes - 1) / lanes * lanes;
  t.row = batch * a.queryLength + query;
  t.first = int32_t(a.keyLength - a.queryLength + query);
  t.lowestKey = t.first;
  for (size_t i = 0; i < t.padded; i++) {
    t.position[i] = i < t.count ? t.first + int32_t(i) : -1;
    t.start[i] = i < t.count ? a.documentStart[t.row + i] : 0;
    if (i < t.count && t.start[i] < t.lowestKey) t.lowestKey = t.start[i];
  }
}

/** Keys [0, result) of the tile starting at `key` that the vector of queries at `group` may see; later ones none of them sees. */
inline size_t visibleKeys(const QueryTile& t, size_t group, size_t key, size_t keys) {
  const size_t last = group + lanes < t.count ? group + lanes - 1 : t.count - 1;
  const int32_t end = t.position[last] + 1 - int32_t(key);
  return end <= 0 ? 0 : size_t(end) < keys ? size_t(end) : keys;
}

/** Whether every query of the vector sees all of those keys. */
inline bool seesAll(const QueryTile& t, size_t group, size_t key, size_t visible) {
  if (group + lanes > t.count || t.position[group] < int32_t(key + visible) - 1) return false;
  for (size_t i = group; i < group + lanes; i++) {
    if (t.start[i] > int32_t(key)) return false;
  }
  return true;
}

inline VectorI visibleMask(const QueryTile& t, size_t group, int32_t key) {
  return (loadInt(t.position + group) >= key) & (loadInt(t.start + group) <= key);
}

/** A head's columns of `rows` rows, transposed: out[i][row], `stride` from i to i. */
inline void packHeadTransposed(float* out, size_t stride, Array x, size_t ld, size_t row, size_t rows, size_t column, size_t headSize) {
  packPanel(out, stride, Operand{Matrix{x.data, x.dtype, ld}, false, Packing::plain}, row, rows, column, headSize);
}

/** A head's columns of `rows` rows as they stand: out[row][i], padded with zeros to `padded`. */
inline void packHead(float* out, size_t padded, Array x, size_t ld, size_t row, size_t rows, size_t column, size_t headSize) {
  packPanel(out, padded, Operand{Matrix{x.data, x.dtype, ld}, true, Packing::plain}, column, headSize, row, rows);
}

inline void scaleAll(float* x, size_t count, float factor) {
  for (size_t i = 0; i < count; i++) x[i] *= factor;
}

/** out[key][query] = left[·][key] · right[·][query] over the head, for the panels some query may see. */
inline void multiplyVisible(const QueryTile& t, size_t key, size_t keys, size_t headSize, const float* left, const float* right, float* out) {
  const size_t panels = (keys + maxRows - 1) / maxRows;
  for (size_t p = 0; p < panels; p++) {
    const size_t row = panelStart(keys, panels, p), rows = panelStart(keys, panels, p + 1) - row;
    for (size_t j = 0; j < t.padded; j += panelColumns) {
      const size_t width = t.padded - j < panelColumns ? t.padded - j : panelColumns;
      const size_t last = j + width < t.count ? j + width - 1 : t.count - 1;
      if (int32_t(key + row) > t.position[last]) continue;
      multiplyPanels(false, headSize, left + row, keyTile, rows, right + j, queryTile, width, out + row * queryTile + j, queryTile, false);
    }
  }
}

/** out (queries × columns) adds weightsᵀ·keysSide, weights[key][query], trimmed to the keys a panel of queries may see. */
inline void addToQueries(const QueryTile& t, size_t key, size_t keys, const float* weights, const float* keysSide, size_t padded, size_t columns, float* out, size_t ldc) {
  const size_t panels = (t.count + maxRows - 1) / maxRows;
  for (size_t p = 0; p < panels; p++) {
    const size_t row = panelStart(t.count, panels, p), end = panelStart(t.count, panels, p + 1);
    const int32_t visible = t.position[end - 1] + 1 - int32_t(key);
    if (visible <= 0) continue;
    const size_t words = size_t(visible) < keys ? size_t(visible) : keys;
    for (size_t j = 0; j < columns; j += panelColumns) {
      const size_t width = columns - j < panelColumns ? columns - j : panelColumns;
      multiplyPanels(false, words, weights + row, queryTile, end - row, keysSide + j, padded, width, out + row * ldc + j, ldc, true);
    }
  }
}
