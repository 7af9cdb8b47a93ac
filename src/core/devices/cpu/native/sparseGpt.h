/**
 * SparseGPT's sweep over the columns of a weight. Included only by kernelTable.h, after gemm.h. Rows do not know of each other but for the choice of
 * entries of a whole block; within a block a row runs in a thread's cache, and what is to its right is corrected by a matrix product.
 */

inline uint32_t bitsOf(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

/** The largest of the `count` lowest scores, as bits (no score is negative, so that bits are ordered as they are), and how many equal to it belong to them. */
struct Limit {
  uint32_t bits;
  size_t ties, equal;
};

/** Three rounds of counting: by the upper 11 bits, the middle 11, the lower 10. Counts do not depend on who counted. */
inline Limit lowestLimit(Context& context, const float* scores, size_t ld, size_t rows, size_t width, size_t count) {
  constexpr size_t bins = 2048;
  static_assert(bins * sizeof(uint32_t) <= threadScratchBytes, "the counts do not fit a thread's scratch");
  constexpr int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
  const size_t threads = size_t(context.pool->threads());
  Limit limit{0, count, 0};
  for (int round = 0; round < 3; round++) {
    for (size_t t = 0; t < threads; t++) __builtin_memset(context.threadScratch(int(t)), 0, bins * sizeof(uint32_t));
    const int shift = shifts[round], above = shift + widths[round];
    const uint32_t mask = (1u << widths[round]) - 1;
    parallelRange(context, rows, rowsPerTile(width, 16384), [&](size_t begin, size_t end, int thread) {
      uint32_t* counts = reinterpret_cast<uint32_t*>(context.threadScratch(thread));
      for (size_t i = begin; i < end; i++) {
        for (size_t j = 0; j < width; j++) {
          const uint32_t bits = bitsOf(scores[i * ld + j]);
          if (round == 0 || bits >> above == limit.bits) counts[bits >> shift & mask]++;
        }
      }
    });
    uint32_t bin = 0;
    for (;; bin++) {
      limit.equal = 0;
      for (size_t t = 0; t < threads; t++) limit.equal += reinterpret_cast<uint32_t*>(context.threadScratch(int(t)))[bin];
      if (limit.equal >= limit.ties || bin == mask) break;
      limit.ties -= limit.equal;
    }
    limit.bits = limit.bits << widths[round] | bin;
  }
  return limit;
}

/** Turns scores into 1 for the `count` lowest, the first of equal ones, and 0 for the others. */
inline void markLowest(Context& context, float* scores, size_t ld, size_t rows, size_t width, size_t count) {
  const Limit limit = count == 0 ? Limit{0, 0, 0} : lowestLimit(context, scores, ld, rows, width, count);
  if (limit.equal > limit.ties || count == 0) {
    size_t ties = limit.ties;
    for (size_t i = 0; i < rows; i++) {
      for (size_t j = 0; j < width; j++) {
        float& score = scores[i * ld + j];
        const uint32_t bits = bitsOf(score);
        const bool chosen = bits < limit.bits || (bits == limit.bits && ties > 0);
        if (bits == limit.bits && ties > 0) ties--;
        score = chosen ? 1.0f : 0.0f;
      }
    }
    return;
  }
  parallelRange(context, rows, rowsPerTile(width, 16384), [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      for (size_t j = 0; j < width; j++) scores[i * ld + j] = bitsOf(scores[i * ld + j]) <= limit.bits ? 1.0f : 0.0f;
    }
  });
}

/** Turns the `zeros` lowest of a group's scores into −1. */
inline void chooseInGroup(float* scores, size_t of, size_t zeros) {
  for (size_t n = 0; n < zeros; n++) {
    size_t lowest = of;
    for (size_t k = 0; k < of; k++) {
      if (scores[k] >= 0.0f && (lowest == of || scores[k] < scores[lowest])) lowest = k;
    }
    if (lowest < of) scores[lowest] = -1.0f;
  }
}

/** One block of one row: prunes it, leaves −err in `errors`, which hold the marks before where no group chooses, and returns Σ err². */
inline float sweepRow(const SweepArguments& s, size_t start, size_t width, float* w, float* errors) {
  const float* u = s.upper + start * s.columns + start;
  float scores[maxGroup];
  float loss = 0.0f;
  for (size_t j = 0; j < width; j++) {
    const float* row = u + j * s.columns;
    bool pruned;
    if (s.groupSize) {
      const size_t inGroup = j % s.groupSize;
      if (inGroup == 0) {
        for (size_t k = 0; k < s.groupSize; k++) scores[k] = __builtin_fabsf(w[j + k]) / u[(j + k) * s.columns + j + k];
        chooseInGroup(scores, s.groupSize, s.groupZeros);
      }
      pruned = scores[inGroup] < 0.0f;
    } else {
      pruned = errors[j] != 0.0f;
    }
    if (!pruned) {
      errors[j] = 0.0f;
      continue;
    }
    const float error = w[j] / row[j];
    for (size_t k = j + 1; k < width; k++) w[k] -= error * row[k];
    w[j] = 0.0f;
    errors[j] = -error;
    loss += error * error;
  }
  return loss;
}

inline void sparseGptSweep(Context& context, const SweepArguments& s) {
  const size_t stop = s.first + s.count;
  // Columns [from, to) += the errors of `width` columns from `start` · U.
  const auto correct = [&](size_t start, size_t width, size_t from, size_t to) {
    if (from >= to) return;
    MatmulArguments m{};
    m.out = Matrix{s.w + from, DType::f32, s.columns};
    m.a = Matrix{s.errors + (start - s.first), DType::f32, s.count};
    m.b = Matrix{s.upper + start * s.columns + from, DType::f32, s.columns};
    m.m = s.rows;
    m.n = to - from;
    m.k = width;
    m.accumulate = true;
    matmul(context, m);
  };
  for (size_t start = s.first; start < stop; start += s.blockSize) {
    const size_t width = smaller(s.blockSize, stop - start), at = start - s.first;
    parallelRange(context, s.rows, rowsPerTile(width, 4096), [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; i++) {
        float* w = s.w + i * s.columns + start;
        for (size_t j = 0; j < width; j++) {
          if (s.diagonal[start + j] == 0.0f) w[j] = 0.0f;
          if (!s.groupSize) s.errors[i * s.count + at + j] = __builtin_fabsf(w[j]) / s.upper[(start + j) * (s.columns + 1)];
        }
      }
    });
    if (!s.groupSize) markLowest(context, s.errors + at, s.count, s.rows, width, size_t(s.share * double(s.rows) * double(width) + 5e-7));
    parallelRange(context, s.rows, rowsPerTile(width, 4096), [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; i++) s.losses[i] += sweepRow(s, start, width, s.w + i * s.columns + start, s.errors + i * s.count + at);
    });
    correct(start, width, start + width, stop);
  }
  correct(s.first, s.count, stop, s.columns);
}
