/**
 * Attention forward: one task per (sequence, head, tile of queries), online softmax over tiles of keys. Included only by kernelTable.h.
 */

/** A task's state in the thread's scratch. */
struct ForwardScratch {
  float *queries, *keys, *values, *weights, *sums;  // Qᵀ scaled, Kᵀ, V, Sᵀ then Pᵀ, Σ p·v
  float *maximum, *total, *rescale;                 // a lane for each query
};

inline ForwardScratch forwardScratch(float* at, size_t headSize, size_t padded) {
  ForwardScratch s;
  s.queries = at;
  s.keys = s.queries + headSize * queryTile;
  s.values = s.keys + headSize * keyTile;
  s.weights = s.values + keyTile * padded;
  s.sums = s.weights + keyTile * queryTile;
  s.maximum = s.sums + queryTile * padded;
  s.total = s.maximum + queryTile;
  s.rescale = s.total + queryTile;
  return s;
}
static_assert(((3 * queryTile + 3 * keyTile) * mostHeadSize + keyTile * queryTile + 3 * queryTile) * 4 <= threadScratchBytes, "attention needs more scratch than a thread has");

/** Sᵀ becomes Pᵀ = e^(S − m) for the running maximum m; sums and earlier results are rescaled. */
inline void softmaxTile(const QueryTile& t, const ForwardScratch& s, size_t key, size_t keys, size_t padded) {
  bool rescale = false;
  for (size_t group = 0; group < t.padded; group += lanes) {
    float* column = s.weights + group;
    const size_t visible = visibleKeys(t, group, key, keys);
    const VectorF before = load(s.maximum + group);
    VectorF most = before, other = before;
    if (!seesAll(t, group, key, visible)) {
      for (size_t r = 0; r < visible; r++) {
        float* at = column + r * queryTile;
        store(at, visibleMask(t, group, int32_t(key + r)) ? load(at) : broadcast(minusInfinity()));
      }
    }
    size_t r = 0;
    for (; r + 2 <= visible; r += 2) {
      most = larger(load(column + r * queryTile), most);
      other = larger(load(column + (r + 1) * queryTile), other);
    }
    if (r < visible) most = larger(load(column + r * queryTile), most);
    most = larger(most, other);
    store(s.maximum + group, most);
    // A query that has seen no key yet has the maximum −inf; 0 in its place keeps −inf − (−inf) away.
    const VectorF safe = most == minusInfinity() ? VectorF{} : most;
    const VectorF shrink = exponential(before - safe);
    VectorF sum = {};
    for (r = 0; r < visible; r++) {
      float* at = column + r * queryTile;
      const VectorF p = exponential(load(at) - safe);
      store(at, p);
      sum = sum + p;
    }
    for (; r < keys; r++) store(column + r * queryTile, VectorF{});
    store(s.total + group, load(s.total + group) * shrink + sum);
    store(s.rescale + group, shrink);
  }
  for (size_t i = 0; i < t.count; i++) rescale |= s.rescale[i] != 1.0f;
  if (!rescale) return;
  for (size_t i = 0; i < t.count; i++) scaleAll(s.sums + i * padded, padded, s.rescale[i]);
}

inline void attentionForwardTask(Context& context, const AttentionArguments& a, size_t batch, size_t head, size_t query, int thread) {
  const size_t headSize = a.headSize, padded = (headSize + lanes - 1) / lanes * lanes;
  const size_t keyHead = head / (a.numHeads / a.numKeyValueHeads);
  const size_t ldQ = a.numHeads * headSize, ldK = a.numKeyValueHeads * headSize;
  const ForwardScratch s = forwardScratch(context.threadScratch(thread), headSize, padded);
  QueryTile t;
  openQueryTile(t, a, batch, query);
  packHeadTransposed(s.queries, queryTile, a.q, ldQ, t.row, t.count, head * headSize, headSize);
  scaleAll(s.queries, headSize * queryTile, 1.0f / __builtin_sqrtf(float(headSize)));
  for (size_t i = 0; i < queryTile; i++) s.maximum[i] = minusInfinity();
  __builtin_memset(s.total, 0, queryTile * sizeof(float));
  __builtin_memset(s.sums, 0, queryTile * padded * sizeof(float));

  const size_t end = size_t(t.lastPosition()) + 1;
  for (size_t key = size_t(t.lowestKey) / keyTile * keyTile; key < end; key += keyTile) {
    const size_t keys = end - key < keyTile ? end - key : keyTile, row = batch * a.keyStride + key;
    packHeadTransposed(s.keys, keyTile, a.k, ldK, row, keys, keyHead * headSize, headSize);
    packHead(s.values, padded, a.v, ldK, row, keys, keyHead * headSize, headSize);
    multiplyVisible(t, key, keys, headSize, s.keys, s.queries, s.weights);
    softmaxTile(t, s, key, keys, padded);
    addToQueries(t, key, keys, s.weights, s.values, padded, padded, s.sums, padded);
  }
  for (size_t i = 0; i < t.count; i++) {
    scaleAll(s.sums + i * padded, headSize, 1.0f / s.total[i]);
    put(a.out, (t.row + i) * ldQ + head * headSize, headSize, s.sums + i * padded);
    a.logSumExp[(t.row + i) * a.numHeads + head] = s.maximum[i] + __builtin_logf(s.total[i]);
  }
}

inline void attentionForward(Context& context, const AttentionArguments& a) {
  const size_t tiles = (a.queryLength + queryTile - 1) / queryTile;
  parallel(context, a.batchSize * a.numHeads * tiles, [&](size_t task, int thread) {
    // Later tiles see more keys; they go first, so that the last tasks are short.
    const size_t tile = tiles - 1 - task / (a.batchSize * a.numHeads), rest = task % (a.batchSize * a.numHeads);
    attentionForwardTask(context, a, rest / a.numHeads, rest % a.numHeads, tile * queryTile, thread);
  });
}
