/**
 * The layers around the matrix products: bias, embedding, rmsnorm, rope, swiglu. Included only by kernelTable.h.
 *
 * Rows are independent and are shared out; sums over rows (parameter gradients) are shared out by columns instead, so that every sum runs
 * down the rows in order. bf16 passes through f32 buffers on the stack.
 */

/** Columns one task sums down: eight cache lines of f32. */
constexpr size_t columnStripe = 128;

/** body(column, width) for stripes of the columns. */
template <class Body>
inline void parallelColumns(Context& context, size_t columns, Body body) {
  parallelRange(context, columns, columnStripe, [&](size_t begin, size_t end, int) { body(begin, end - begin); });
}

// Bias

inline void addBias(Context& context, Array out, Array bias, size_t rows, size_t columns) {
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float sums[stretch], biases[stretch];
    overStretches(columns, [&](size_t column, size_t width) {
      const float* b = fetch(bias, column, width, biases);
      for (size_t row = begin; row < end; row++) {
        const size_t at = row * columns + column;
        const float* from = fetch(out, at, width, sums);
        float* to = target(out, at, sums);
        for (size_t i = 0; i < width; i++) to[i] = from[i] + b[i];
        put(out, at, width, to);
      }
    });
  });
}

inline void biasBackward(Context& context, float* dBias, Array dOut, size_t rows, size_t columns) {
  parallelColumns(context, columns, [&](size_t column, size_t width) {
    float sum[columnStripe] = {}, buffer[columnStripe];
    for (size_t row = 0; row < rows; row++) {
      const float* d = fetch(dOut, row * columns + column, width, buffer);
      for (size_t i = 0; i < width; i++) sum[i] += d[i];
    }
    for (size_t i = 0; i < width; i++) dBias[column + i] += sum[i];
  });
}

inline void columnSumSquares(Context& context, float* sums, Array x, size_t rows, size_t columns) {
  parallelColumns(context, columns, [&](size_t column, size_t width) {
    float sum[columnStripe] = {}, buffer[columnStripe];
    for (size_t row = 0; row < rows; row++) {
      const float* from = fetch(x, row * columns + column, width, buffer);
      for (size_t i = 0; i < width; i++) sum[i] += from[i] * from[i];
    }
    for (size_t i = 0; i < width; i++) sums[column + i] += sum[i];
  });
}

// Embedding

inline void embeddingForward(Context& context, Array out, Array table, const int32_t* ids, size_t rows, size_t columns) {
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float buffer[stretch];
    for (size_t row = begin; row < end; row++) {
      overStretches(columns, [&](size_t column, size_t width) {
        put(out, row * columns + column, width, fetch(table, size_t(ids[row]) * columns + column, width, buffer));
      });
    }
  });
}

inline void embeddingBackward(Context& context, float* dTable, Array dOut, const int32_t* ids, size_t rows, size_t columns) {
  parallelColumns(context, columns, [&](size_t column, size_t width) {
    float buffer[columnStripe];
    for (size_t row = 0; row < rows; row++) {
      const float* d = fetch(dOut, row * columns + column, width, buffer);
      float* to = dTable + size_t(ids[row]) * columns + column;
      for (size_t i = 0; i < width; i++) to[i] += d[i];
    }
  });
}

// RMSNorm

/** Sums `term(i)` over [0, count) vectors of a stretch into lanes; the tail stands zero-padded in the buffers. */
inline float sumProducts(const float* x, const float* y, size_t count) {
  VectorF sum[4] = {};
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
#pragma GCC unroll 4
    for (size_t part = 0; part < 4; part++) sum[part] = sum[part] + load(x + i + part * lanes) * load(y + i + part * lanes);
  }
  float total = sumLanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < count; i++) total += x[i] * y[i];
  return total;
}

inline void rmsNormForward(Context& context, Array out, float* rstd, Array x, Array weight, size_t rows, size_t columns, float epsilon) {
  parallelRange(context, rows, rowsPerTile(columns, 8192), [&](size_t begin, size_t end, int) {
    float bufferX[stretch], bufferW[stretch], result[stretch];
    for (size_t row = begin; row < end; row++) {
      double sum = 0;
      overStretches(columns, [&](size_t column, size_t width) {
        const float* from = fetch(x, row * columns + column, width, bufferX);
        sum += sumProducts(from, from, width);
      });
      const float scale = float(1.0 / __builtin_sqrt(sum / double(columns) + double(epsilon)));
      rstd[row] = scale;
      overStretches(columns, [&](size_t column, size_t width) {
        const size_t at = row * columns + column;
        const float* from = fetch(x, at, width, bufferX);
        const float* w = fetch(weight, column, width, bufferW);
        float* to = target(out, at, result);
        for (size_t i = 0; i < width; i++) to[i] = w[i] * (from[i] * scale);
        put(out, at, width, to);
      });
    }
  });
}

/** Σ over rows of dOut∘x̂, by stripes of columns. Runs before dX is written, which may be dOut. */
inline void rmsNormWeightGradient(Context& context, float* dWeight, Array dOut, Array x, const float* rstd, size_t rows, size_t columns) {
  parallelColumns(context, columns, [&](size_t column, size_t width) {
    float sum[columnStripe] = {}, bufferD[columnStripe], bufferX[columnStripe];
    for (size_t row = 0; row < rows; row++) {
      const float* d = fetch(dOut, row * columns + column, width, bufferD);
      const float* from = fetch(x, row * columns + column, width, bufferX);
      const float scale = rstd[row];
      for (size_t i = 0; i < width; i++) sum[i] += d[i] * (from[i] * scale);
    }
    for (size_t i = 0; i < width; i++) dWeight[column + i] += sum[i];
  });
}

inline void rmsNormBackward(Context& context, Array dX, float* dWeight, Array dOut, Array x, Array weight, const float* rstd, size_t rows, size_t columns, bool accumulate) {
  if (dWeight) rmsNormWeightGradient(context, dWeight, dOut, x, rstd, rows, columns);
  if (!dX.data) return;
  parallelRange(context, rows, rowsPerTile(columns, 8192), [&](size_t begin, size_t end, int) {
    float bufferD[stretch], bufferX[stretch], bufferW[stretch], old[stretch], scaled[stretch], result[stretch];
    for (size_t row = begin; row < end; row++) {
      const float scale = rstd[row];
      double sum = 0;
      overStretches(columns, [&](size_t column, size_t width) {
        const float* d = fetch(dOut, row * columns + column, width, bufferD);
        const float* from = fetch(x, row * columns + column, width, bufferX);
        const float* w = fetch(weight, column, width, bufferW);
        for (size_t i = 0; i < width; i++) scaled[i] = w[i] * d[i];
        sum += sumProducts(scaled, from, width);
      });
      // mean(w∘dOut∘x̂) with x̂ = x·rstd
      const float mean = float(sum * double(scale) / double(columns));
      overStretches(columns, [&](size_t column, size_t width) {
        const size_t at = row * columns + column;
        const float* d = fetch(dOut, at, width, bufferD);
        const float* from = fetch(x, at, width, bufferX);
        const float* w = fetch(weight, column, width, bufferW);
        for (size_t i = 0; i < width; i++) result[i] = scale * (w[i] * d[i] - (from[i] * scale) * mean);
        if (accumulate) {
          const float* before = fetch(dX, at, width, old);
          for (size_t i = 0; i < width; i++) result[i] += before[i];
        }
        put(dX, at, width, result);
      });
    }
  });
}

// Rotary positions

/** Turns the pairs (low[i], high[i]) by the angles; `sign` −1 turns back. */
inline void rotatePairs(float* low, float* high, const float* cos, const float* sin, float sign, size_t half) {
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const VectorF a = load(low + i), b = load(high + i), c = load(cos + i), s = load(sin + i) * sign;
    store(low + i, a * c - b * s);
    store(high + i, b * c + a * s);
  }
  for (; i < half; i++) {
    const float a = low[i], b = high[i], s = sin[i] * sign;
    low[i] = a * cos[i] - b * s;
    high[i] = b * cos[i] + a * s;
  }
}

inline void rope(Context& context, Array x, const float* cos, const float* sin, const int32_t* positions, size_t rows, size_t columns, size_t headSize, bool inverse) {
  const size_t half = headSize / 2;
  const float sign = inverse ? -1.0f : 1.0f;
  parallelRange(context, rows, rowsPerTile(columns, 16384), [&](size_t begin, size_t end, int) {
    float low[stretch], high[stretch];
    for (size_t row = begin; row < end; row++) {
      const float* c = cos + size_t(positions[row]) * half;
      const float* s = sin + size_t(positions[row]) * half;
      for (size_t head = 0; head < columns; head += headSize) {
        for (size_t i = 0; i < half; i += stretch) {
          const size_t width = half - i < stretch ? half - i : stretch, at = row * columns + head + i;
          // The halves never overlap, so both may be turned where they stand.
          float* a = const_cast<float*>(fetch(x, at, width, low));
          float* b = const_cast<float*>(fetch(x, at + half, width, high));
          rotatePairs(a, b, c + i, s + i, sign, width);
          put(x, at, width, a);
          put(x, at + half, width, b);
        }
      }
    }
  });
}

// SwiGLU

/** 1 / (1 + e^−x). */
inline VectorF sigmoid(VectorF x) { return 1.0f / (1.0f + exponential(-x)); }

/** body(i, x…) by vectors; a last vector reads and writes past `count` within buffers of a whole stretch, so callers pass padded copies. */
inline void swigluForward(Context& context, Array out, Array gate, Array up, size_t count) {
  parallelRange(context, count, 8192, [&](size_t begin, size_t end, int) {
    float bufferG[stretch], bufferU[stretch], result[stretch];
    for (size_t at = begin; at < end; at += stretch) {
      const size_t width = end - at < stretch ? end - at : stretch;
      const float* g = fetch(gate, at, width, bufferG);
      const float* u = fetch(up, at, width, bufferU);
      float* to = target(out, at, result);
      size_t i = 0;
      for (; i + lanes <= width; i += lanes) store(to + i, load(g + i) * sigmoid(load(g + i)) * load(u + i));
      if (i < width) {
        const VectorF gLast = loadFirst(g + i, width - i), uLast = loadFirst(u + i, width - i);
        float last[lanes];
        store(last, gLast * sigmoid(gLast) * uLast);
        for (size_t lane = 0; i < width; i++, lane++) to[i] = last[lane];
      }
      put(out, at, width, to);
    }
  });
}

inline void swigluBackward(Context& context, Array dGate, Array dUp, Array dOut, Array gate, Array up, size_t count) {
  parallelRange(context, count, 8192, [&](size_t begin, size_t end, int) {
    float bufferD[stretch], bufferG[stretch], bufferU[stretch], resultG[stretch], resultU[stretch];
    for (size_t at = begin; at < end; at += stretch) {
      const size_t width = end - at < stretch ? end - at : stretch;
      const float* d = fetch(dOut, at, width, bufferD);
      const float* g = fetch(gate, at, width, bufferG);
      const float* u = fetch(up, at, width, bufferU);
      for (size_t i = 0; i < width; i += lanes) {
        const size_t left = width - i;
        const VectorF dv = loadUpTo(d + i, left), gv = loadUpTo(g + i, left), uv = loadUpTo(u + i, left);
        const VectorF s = sigmoid(gv);
        const VectorF silu = gv * s;
        store(resultU + i, dv * silu);
        store(resultG + i, dv * uv * (s + silu * (1.0f - s)));
      }
      put(dGate, at, width, resultG);
      put(dUp, at, width, resultU);
    }
  });
}
