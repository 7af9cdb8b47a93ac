/**
 * Cross-entropy over a chunk of logits, row by row, in place. Included only by kernelTable.h.
 * A row's exponentials are summed in f32 within stretches and in f64 across them, in order.
 */

/** The maximum of a stretch and `before`, NaN passed over. */
inline float maximumOf(const float* x, size_t count, float before) {
  VectorF most[4];
  for (auto& part : most) part = broadcast(before);
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
#pragma GCC unroll 4
    for (size_t part = 0; part < 4; part++) most[part] = larger(load(x + i + part * lanes), most[part]);
  }
  float result = largestLane(larger(larger(most[0], most[1]), larger(most[2], most[3])));
  for (; i < count; i++) result = x[i] > result ? x[i] : result;
  return result;
}

/** Σ e^(x − maximum); the exponentials go to `out` unless it is null. `out` may be x. */
inline float exponentialSum(const float* x, size_t count, float maximum, float* out) {
  VectorF sum[2] = {};
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
#pragma GCC unroll 2
    for (size_t part = 0; part < 2; part++) {
      const VectorF e = exponential(load(x + i + part * lanes) - maximum);
      sum[part] = sum[part] + e;
      if (out) store(out + i + part * lanes, e);
    }
  }
  float total = sumLanes(sum[0] + sum[1]);
  for (; i < count; i += lanes) {
    const size_t left = count - i < lanes ? count - i : lanes;
    float last[lanes];
    store(last, exponential(loadUpTo(x + i, left) - maximum));
    for (size_t lane = 0; lane < left; lane++) {
      total += last[lane];
      if (out) out[i + lane] = last[lane];
    }
  }
  return total;
}

inline void crossEntropyRow(float* loss, Array logits, size_t row, size_t columns, int32_t target, bool writeGradient, float scale) {
  const size_t start = row * columns;
  float* gradient = writeGradient ? static_cast<float*>(logits.data) + start : nullptr;
  if (target < 0) {
    *loss = 0;
    if (gradient) __builtin_memset(gradient, 0, columns * sizeof(float));
    return;
  }
  float buffer[stretch], atTarget, maximum = -__builtin_inff();
  atTarget = *fetch(logits, start + size_t(target), 1, buffer);
  overStretches(columns, [&](size_t column, size_t width) { maximum = maximumOf(fetch(logits, start + column, width, buffer), width, maximum); });
  double sum = 0;
  overStretches(columns, [&](size_t column, size_t width) {
    sum += exponentialSum(fetch(logits, start + column, width, buffer), width, maximum, gradient ? gradient + column : nullptr);
  });
  *loss = float(double(maximum) - double(atTarget) + __builtin_log(sum));
  if (!gradient) return;
  const float factor = float(double(scale) / sum);
  for (size_t i = 0; i < columns; i++) gradient[i] *= factor;
  gradient[target] -= scale;
}

inline void crossEntropy(Context& context, float* losses, Array logits, const int32_t* targets, size_t rows, size_t columns, bool writeGradient, float scale) {
  parallelRange(context, rows, rowsPerTile(columns, 32768), [&](size_t begin, size_t end, int) {
    for (size_t row = begin; row < end; row++) crossEntropyRow(losses + row, logits, row, columns, targets[row], writeGradient, scale);
  });
}
