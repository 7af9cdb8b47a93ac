/**
 * The small pieces adapters are made of: masks, zero counts, dropout, row and column scales and dots, DoRA's gains. Included only by kernelTable.h.
 * All of it is bound by memory; bf16 passes through f32 buffers on the stack.
 */

/** Σ a·b of one stretch: lanes side by side, then those in a fixed order. */
inline float dotStretch(const float* a, const float* b, size_t count) {
  VectorF sum = {};
  for (size_t i = 0; i < count; i += lanes) sum = sum + loadUpTo(a + i, count - i) * loadUpTo(b + i, count - i);
  return sumLanes(sum);
}

/** change(offset, width, values) over `count` elements of x in place; values are those of the stretch, to be overwritten. */
template <class Change>
inline void changeInPlace(Context& context, Array x, size_t count, Change change) {
  parallelRange(context, count, 16384, [&](size_t begin, size_t end, int) {
    float buffer[stretch];
    for (size_t at = begin; at < end; at += stretch) {
      const size_t width = smaller(stretch, end - at);
      fetch(x, at, width, buffer);
      float* values = target(x, at, buffer);
      change(at, width, values);
      put(x, at, width, values);
    }
  });
}

inline void maskBy(Context& context, Array x, Array weight, size_t count) {
  changeInPlace(context, x, count, [&](size_t at, size_t width, float* values) {
    float buffer[stretch];
    const float* w = fetch(weight, at, width, buffer);
    for (size_t i = 0; i < width; i++) values[i] = w[i] != 0.0f ? values[i] : 0.0f;
  });
}

inline void countZeros(Context& context, uint32_t* counts, Array x, size_t count) {
  parallelRange(context, count, sumChunk, [&](size_t begin, size_t end, int) {
    uint32_t zeros = 0;
    float buffer[stretch];
    for (size_t at = begin; at < end; at += stretch) {
      const size_t width = smaller(stretch, end - at);
      const float* values = fetch(x, at, width, buffer);
      for (size_t i = 0; i < width; i++) zeros += values[i] == 0.0f;
    }
    counts[begin / sumChunk] = zeros;
  });
}

/** Whether an element is kept depends on the seed and its index alone. */
inline uint32_t dropoutBits(uint32_t seed, uint32_t index) { return mixBits(seed ^ index); }

inline void dropout(Context& context, Array out, Array x, size_t count, const DropoutArguments& d) {
  parallelRange(context, count, 16384, [&](size_t begin, size_t end, int) {
    float buffer[stretch], old[stretch], values[stretch];
    for (size_t at = begin; at < end; at += stretch) {
      const size_t width = smaller(stretch, end - at);
      const float* from = fetch(x, at, width, buffer);
      const float* before = d.accumulate ? fetch(out, at, width, old) : nullptr;
      for (size_t i = 0; i < width; i++) values[i] = dropoutBits(d.seed, uint32_t(at + i)) >= d.threshold ? from[i] * d.scale : 0.0f;
      if (before) for (size_t i = 0; i < width; i++) values[i] += before[i];
      put(out, at, width, values);
    }
  });
}

inline void scaleColumns(Context& context, Array out, Array x, const float* scale, size_t rows, size_t columns, bool accumulate) {
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float buffer[stretch], old[stretch], values[stretch];
    for (size_t row = begin; row < end; row++) {
      overStretches(columns, [&](size_t column, size_t width) {
        const size_t at = row * columns + column;
        const float* from = fetch(x, at, width, buffer);
        const float* before = accumulate ? fetch(out, at, width, old) : nullptr;
        for (size_t i = 0; i < width; i++) values[i] = from[i] * scale[column + i];
        if (before) for (size_t i = 0; i < width; i++) values[i] += before[i];
        put(out, at, width, values);
      });
    }
  });
}

inline void scaleRows(Context& context, Array out, Array x, const float* scale, size_t rows, size_t columns) {
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float buffer[stretch], values[stretch];
    for (size_t row = begin; row < end; row++) {
      overStretches(columns, [&](size_t column, size_t width) {
        const size_t at = row * columns + column;
        const float* from = fetch(x, at, width, buffer);
        for (size_t i = 0; i < width; i++) values[i] = from[i] * scale[row];
        put(out, at, width, values);
      });
    }
  });
}

inline void rowDots(Context& context, float* out, Array a, Array b, size_t rows, size_t columns) {
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float left[stretch], right[stretch];
    for (size_t row = begin; row < end; row++) {
      double total = 0;
      overStretches(columns, [&](size_t column, size_t width) {
        const size_t at = row * columns + column;
        total += dotStretch(fetch(a, at, width, left), fetch(b, at, width, right), width);
      });
      out[row] = float(total);
    }
  });
}

inline void columnDots(Context& context, float* out, Array a, Array b, size_t rows, size_t columns) {
  parallelColumns(context, columns, [&](size_t column, size_t width) {
    float sum[columnStripe] = {}, left[columnStripe], right[columnStripe];
    for (size_t row = 0; row < rows; row++) {
      const size_t at = row * columns + column;
      const float* x = fetch(a, at, width, left);
      const float* y = fetch(b, at, width, right);
      for (size_t i = 0; i < width; i++) sum[i] += x[i] * y[i];
    }
    for (size_t i = 0; i < width; i++) out[column + i] += sum[i];
  });
}

/** Norms in f64, so that rounding alone cannot make a square negative; the gain uses the norm as it is stored, so that x / x is 1. */
inline void doraGains(Context& context, const DoraArguments& d) {
  parallelRange(context, d.count, 4096, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) {
      const double square = double(d.squares[i]) + 2 * d.scale * d.cross[i] + d.scale * d.scale * d.gram[i];
      const float norm = float(__builtin_sqrt(square > 0 ? square : square == square ? 0.0 : square));
      d.norm[i] = norm;
      d.gain[i] = norm == 0.0f ? 0.0f : d.magnitude[i] / norm;
    }
  });
}
