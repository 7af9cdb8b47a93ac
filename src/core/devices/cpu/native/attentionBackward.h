/**
 * Attention backward. For each pair of a key tile and a query tile Pᵀ is formed again from the saved logSumExp; then
 *   dV += P·dO,  dPᵀ = V·dOᵀ,  dSᵀ = Pᵀ∘(dPᵀ − Σ dO∘O)/√HS,  dQ += dS·K,  dK += dSᵀ·Q.
 * Included only by kernelTable.h.
 *
 * One task owns a key/value head and adds to dQ in f32 as it goes, in a fixed order. Where such heads are few, two passes share the work out
 * finer, one for dQ and one for dK and dV, at the price of forming P twice. Which of the two runs depends on the shape alone.
 */

struct BackwardScratch {
  float *queriesT, *queries, *dOutT, *dOut;      // the query tile: Qᵀ scaled, Q, dOᵀ, dO
  float *keysT, *keys, *valuesT, *dKeys, *dValues;  // the key tile
  float *weightsT, *dScoresT, *weights, *dScores;   // [key][query], and transposed [query][key]
  float *logSumExp, *delta;                         // a lane for each query; delta = Σ dO∘O
  float* dQueries;                                  // of the two-pass form; stands where dKeys does in the other
};

inline BackwardScratch backwardScratch(float* at, size_t headSize, size_t padded) {
  BackwardScratch s;
  const auto take = [&](size_t count) {
    float* here = at;
    at += count;
    return here;
  };
  s.queriesT = take(queryTile * headSize);
  s.queries = take(queryTile * padded);
  s.dOutT = take(queryTile * headSize);
  s.dOut = take(queryTile * padded);
  s.keysT = take(keyTile * headSize);
  s.keys = take(keyTile * padded);
  s.valuesT = take(keyTile * headSize);
  s.dKeys = take(keyTile * padded);
  s.dValues = take(keyTile * padded);
  s.weightsT = take(keyTile * queryTile);
  s.dScoresT = take(keyTile * queryTile);
  s.weights = take(keyTile * queryTile);
  s.dScores = take(keyTile * queryTile);
  s.logSumExp = take(queryTile);
  s.delta = take(queryTile);
  s.dQueries = s.dKeys;
  return s;
}
static_assert(((4 * queryTile + 5 * keyTile) * mostHeadSize + 4 * keyTile * queryTile + 2 * queryTile) * 4 <= threadScratchBytes, "attention backward needs more scratch than a thread has");

/** Everything a pair of tiles needs to know of the call. */
struct BackwardCall {
  const AttentionArguments& a;
  size_t headSize, padded, ldQ, ldK, group;  // group: query heads to a key head
  float scale;
};

inline void packQuerySide(const BackwardCall& c, const BackwardScratch& s, const QueryTile& t, size_t head) {
  const AttentionArguments& a = c.a;
  packHeadTransposed(s.queriesT, queryTile, a.q, c.ldQ, t.row, t.count, head * c.headSize, c.headSize);
  scaleAll(s.queriesT, c.headSize * queryTile, c.scale);
  packHead(s.queries, c.padded, a.q, c.ldQ, t.row, t.count, head * c.headSize, c.headSize);
  packHeadTransposed(s.dOutT, queryTile, a.dOut, c.ldQ, t.row, t.count, head * c.headSize, c.headSize);
  packHead(s.dOut, c.padded, a.dOut, c.ldQ, t.row, t.count, head * c.headSize, c.headSize);
  float buffer[mostHeadSize];
  for (size_t i = 0; i < t.padded; i++) {
    const bool real = i < t.count;
    s.logSumExp[i] = real ? a.logSumExp[(t.row + i) * a.numHeads + head] : 0.0f;
    s.delta[i] = real ? sumProducts(s.dOut + i * c.padded, fetch(a.out, (t.row + i) * c.ldQ + head * c.headSize, c.headSize, buffer), c.headSize) : 0.0f;
  }
}

inline void packKeySide(const BackwardCall& c, const BackwardScratch& s, size_t row, size_t keys, size_t keyHead) {
  packHeadTransposed(s.keysT, keyTile, c.a.k, c.ldK, row, keys, keyHead * c.headSize, c.headSize);
  packHead(s.keys, c.padded, c.a.k, c.ldK, row, keys, keyHead * c.headSize, c.headSize);
  packHeadTransposed(s.valuesT, keyTile, c.a.v, c.ldK, row, keys, keyHead * c.headSize, c.headSize);
}

/** weightsT = Pᵀ and dScoresT = dSᵀ of the pair; zero wherever a query does not see a key. */
inline void formScores(const BackwardCall& c, const BackwardScratch& s, const QueryTile& t, size_t key, size_t keys) {
  multiplyVisible(t, key, keys, c.headSize, s.keysT, s.queriesT, s.weightsT);
  multiplyVisible(t, key, keys, c.headSize, s.valuesT, s.dOutT, s.dScoresT);
  for (size_t group = 0; group < t.padded; group += lanes) {
    const size_t visible = visibleKeys(t, group, key, keys);
    const bool all = seesAll(t, group, key, visible);
    const VectorF logSumExp = load(s.logSumExp + group), delta = load(s.delta + group);
    size_t r = 0;
    for (; r < visible; r++) {
      float* weight = s.weightsT + r * queryTile + group;
      float* score = s.dScoresT + r * queryTile + group;
      VectorF p = exponential(load(weight) - logSumExp);
      VectorF d = p * (load(score) - delta) * c.scale;
      if (!all) {
        const VectorI mask = visibleMask(t, group, int32_t(key + r));
        p = mask ? p : VectorF{};
        d = mask ? d : VectorF{};
      }
      store(weight, p);
      store(score, d);
    }
    for (; r < keys; r++) {
      store(s.weightsT + r * queryTile + group, VectorF{});
      store(s.dScoresT + r * queryTile + group, VectorF{});
    }
  }
}

/** out (keys × padded) adds weights·queriesSide, weights[query][key], from the first query that sees a panel's keys. */
inline void addToKeys(const QueryTile& t, size_t key, size_t keys, const float* weights, const float* queriesSide, size_t padded, float* out) {
  const size_t panels = (keys + maxRows - 1) / maxRows;
  for (size_t p = 0; p < panels; p++) {
    const size_t row = panelStart(keys, panels, p), rows = panelStart(keys, panels, p + 1) - row;
    const int32_t unseen = int32_t(key + row) - t.first;
    const size_t skip = unseen > 0 ? size_t(unseen) : 0;
    if (skip >= t.count) continue;
    for (size_t j = 0; j < padded; j += panelColumns) {
      const size_t width = padded - j < panelColumns ? padded - j : panelColumns;
      multiplyPanels(false, t.count - skip, weights + skip * keyTile + row, keyTile, rows, queriesSide + skip * padded + j, padded, width, out + row * padded + j, padded, true);
    }
  }
}

inline void addKeyGradients(const BackwardCall& c, const BackwardScratch& s, const QueryTile& t, size_t key, size_t keys) {
  packPanel(s.weights, keyTile, Operand{Matrix{s.weightsT, DType::f32, queryTile}, false, Packing::plain}, 0, keys, 0, t.count);
  packPanel(s.dScores, keyTile, Operand{Matrix{s.dScoresT, DType::f32, queryTile}, false, Packing::plain}, 0, keys, 0, t.count);
  addToKeys(t, key, keys, s.weights, s.dOut, c.padded, s.dValues);
  addToKeys(t, key, keys, s.dScores, s.queries, c.padded, s.dKeys);
}

/** dK and dV of one key tile, over all queries that see it; with `dQ` also adds to dQ (rows of ldQ, f32). */
inline void backwardKeyTile(const BackwardCall& c, const BackwardScratch& s, size_t batch, size_t keyHead, size_t key, float* dQ) {
  const AttentionArguments& a = c.a;
  const size_t keys = a.keyLength - key < keyTile ? a.keyLength - key : keyTile, row = batch * a.keyStride + key;
  packKeySide(c, s, row, keys, keyHead);
  __builtin_memset(s.dKeys, 0, keyTile * c.padded * sizeof(float));
  __builtin_memset(s.dValues, 0, keyTile * c.padded * sizeof(float));
  QueryTile t;
  for (size_t head = keyHead * c.group; head < (keyHead + 1) * c.group; head++) {
    for (size_t query = key / queryTile * queryTile; query < a.queryLength; query += queryTile) {
      openQueryTile(t, a, batch, query);
      if (t.lowestKey >= int32_t(key + keys)) continue;
      packQuerySide(c, s, t, head);
      formScores(c, s, t, key, keys);
      addKeyGradients(c, s, t, key, keys);
      if (dQ) addToQueries(t, key, keys, s.dScoresT, s.keys, c.padded, c.headSize, dQ + t.row * c.ldQ + head * c.headSize, c.ldQ);
    }
  }
  for (size_t i = 0; i < keys; i++) {
    put(a.dK, (row + i) * c.ldK + keyHead * c.headSize, c.headSize, s.dKeys + i * c.padded);
    put(a.dV, (row + i) * c.ldK + keyHead * c.headSize, c.headSize, s.dValues + i * c.padded);
  }
}

/** dQ of one query tile of one head. */
inline void backwardQueryTile(const BackwardCall& c, const BackwardScratch& s, size_t batch, size_t head, size_t query) {
  const AttentionArguments& a = c.a;
  QueryTile t;
  openQueryTile(t, a, batch, query);
  packQuerySide(c, s, t, head);
  __builtin_memset(s.dQueries, 0, queryTile * c.padded * sizeof(float));
  const size_t end = size_t(t.lastPosition()) + 1;
  for (size_t key = size_t(t.lowestKey) / keyTile * keyTile; key < end; key += keyTile) {
    const size_t keys = end - key < keyTile ? end - key : keyTile;
    packKeySide(c, s, batch * a.keyStride + key, keys, head / c.group);
    formScores(c, s, t, key, keys);
    addToQueries(t, key, keys, s.dScoresT, s.keys, c.padded, c.padded, s.dQueries, c.padded);
  }
  for (size_t i = 0; i < t.count; i++) put(a.dQ, (t.row + i) * c.ldQ + head * c.headSize, c.headSize, s.dQueries + i * c.padded);
}

/** One pass: a task per key/value head; dQ gathers in f32 where it stands, or in the shared scratch if it is bf16. */
inline void backwardOnePass(Context& context, const BackwardCall& c) {
  const AttentionArguments& a = c.a;
  const size_t queries = a.batchSize * a.queryLength * c.ldQ;
  const bool direct = a.dQ.dtype == DType::f32;
  float* dQ = direct ? static_cast<float*>(a.dQ.data) : context.shared;
  fill(context, Array{dQ, DType::f32}, queries, 0.0f);
  parallel(context, a.batchSize * a.numKeyValueHeads, [&](size_t task, int thread) {
    const BackwardScratch s = backwardScratch(context.threadScratch(thread), c.headSize, c.padded);
    for (size_t key = 0; key < a.keyLength; key += keyTile) backwardKeyTile(c, s, task / a.numKeyValueHeads, task % a.numKeyValueHeads, key, dQ);
  });
  if (!direct) copy(context, a.dQ, Array{dQ, DType::f32}, queries);
}

inline void backwardTwoPasses(Context& context, const BackwardCall& c) {
  const AttentionArguments& a = c.a;
  const size_t queryTiles = (a.queryLength + queryTile - 1) / queryTile, keyTiles = (a.keyLength + keyTile - 1) / keyTile;
  parallel(context, a.batchSize * a.numKeyValueHeads * keyTiles, [&](size_t task, int thread) {
    const BackwardScratch s = backwardScratch(context.threadScratch(thread), c.headSize, c.padded);
    const size_t tile = task / (a.batchSize * a.numKeyValueHeads), rest = task % (a.batchSize * a.numKeyValueHeads);
    backwardKeyTile(c, s, rest / a.numKeyValueHeads, rest % a.numKeyValueHeads, tile * keyTile, nullptr);
  });
  parallel(context, a.batchSize * a.numHeads * queryTiles, [&](size_t task, int thread) {
    const BackwardScratch s = backwardScratch(context.threadScratch(thread), c.headSize, c.padded);
    const size_t tile = queryTiles - 1 - task / (a.batchSize * a.numHeads), rest = task % (a.batchSize * a.numHeads);
    backwardQueryTile(c, s, rest / a.numHeads, rest % a.numHeads, tile * queryTile);
  });
}

/** Key/value heads from which on one pass has enough tasks to keep the threads of a desktop busy. */
constexpr size_t onePassHeads = 8;

inline void attentionBackward(Context& context, const AttentionArguments& a) {
  const BackwardCall c{a, a.headSize, (a.headSize + lanes - 1) / lanes * lanes, a.numHeads * a.headSize, a.numKeyValueHeads * a.headSize,
                       a.numHeads / a.numKeyValueHeads, 1.0f / __builtin_sqrtf(float(a.headSize))};
  const bool gathers = a.dQ.dtype == DType::f32 || a.batchSize * a.queryLength * c.ldQ * sizeof(float) <= sharedScratchBytes;
  if (gathers && a.batchSize * a.numKeyValueHeads >= onePassHeads) backwardOnePass(context, c);
  else backwardTwoPasses(context, c);
}
