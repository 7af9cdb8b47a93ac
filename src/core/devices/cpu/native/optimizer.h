/**
 * AdamW and the sum of squares its clipping needs. Included only by kernelTable.h.
 */

inline void adamwStep(Context& context, const AdamWArguments& a) {
  const float beta1 = float(a.beta1), beta2 = float(a.beta2), rest1 = float(1.0 - a.beta1), rest2 = float(1.0 - a.beta2);
  const float scale = float(a.gradientScale), epsilon = float(a.epsilon), weightDecay = float(a.weightDecay), rate = float(a.learningRate);
  const float correction1 = float(1.0 / (1.0 - __builtin_pow(a.beta1, a.step))), correction2 = float(1.0 / (1.0 - __builtin_pow(a.beta2, a.step)));
  parallelRange(context, a.count, 16384, [&](size_t begin, size_t end, int) {
    float* __restrict value = a.value;
    float* __restrict first = a.firstMoment;
    float* __restrict second = a.secondMoment;
    const float* __restrict gradient = a.gradient;
    for (size_t i = begin; i < end; i++) {
      const float g = gradient[i] * scale;
      const float m = beta1 * first[i] + rest1 * g;
      const float v = beta2 * second[i] + rest2 * (g * g);
      first[i] = m;
      second[i] = v;
      value[i] -= rate * (m * correction1 / (__builtin_sqrtf(v * correction2) + epsilon) + weightDecay * value[i]);
    }
  });
}

typedef double VectorD __attribute__((vector_size(SIMD_BYTES)));
typedef float HalfF __attribute__((vector_size(SIMD_BYTES / 2), aligned(4), may_alias));
constexpr size_t lanesD = lanes / 2;

/** Σx² of one chunk in f64: eight sums side by side, then those in order. */
inline double sumSquaresSpan(const float* x, size_t count) {
  VectorD sum[4] = {};
  size_t i = 0;
  for (; i + 4 * lanesD <= count; i += 4 * lanesD) {
#pragma GCC unroll 4
    for (size_t part = 0; part < 4; part++) {
      const VectorD wide = __builtin_convertvector(*reinterpret_cast<const HalfF*>(x + i + part * lanesD), VectorD);
      sum[part] = sum[part] + wide * wide;
    }
  }
  const VectorD all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  double total = 0;
  for (size_t lane = 0; lane < lanesD; lane++) total += all[lane];
  for (; i < count; i++) total += double(x[i]) * double(x[i]);
  return total;
}

inline void sumSquares(Context& context, double* sums, Array x, size_t count) {
  parallelRange(context, count, sumChunk, [&](size_t begin, size_t end, int) {
    double total = 0;
    float buffer[stretch];
    if (x.dtype == DType::f32) {
      total = sumSquaresSpan(static_cast<const float*>(x.data) + begin, end - begin);
    } else {
      for (size_t at = begin; at < end; at += stretch) {
        const size_t width = end - at < stretch ? end - at : stretch;
        total += sumSquaresSpan(fetch(x, at, width, buffer), width);
      }
    }
    sums[begin / sumChunk] = total;
  });
}
