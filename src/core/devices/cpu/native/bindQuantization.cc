/** Fitting the levels of group-wise INT4 to a weight: one look at each entry when a run begins, so one thread and no kernels of their own. */
#include <algorithm>
#include <cmath>
#include <cstring>

#include "arguments.h"

namespace sparse_tuner {

namespace {

inline float valueOf(float x) { return x; }
inline float valueOf(uint16_t bf16) {
  const uint32_t bits = uint32_t(bf16) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

template <class T>
void fit(float* scales, float* zeros, const T* weight, size_t groups, size_t groupSize) {
  for (size_t group = 0; group < groups; group++) {
    const T* entries = weight + group * groupSize;
    // Eight running extremes, so that one comparison need not wait for the last.
    float lows[8] = {}, highs[8] = {};
    for (size_t i = 0; i < groupSize; i++) {
      const float x = valueOf(entries[i]);
      lows[i % 8] = x < lows[i % 8] ? x : lows[i % 8];
      highs[i % 8] = x > highs[i % 8] ? x : highs[i % 8];
    }
    const double low = *std::min_element(lows, lows + 8), high = *std::max_element(highs, highs + 8);
    scales[group] = high > low ? float((high - low) / 15) : 1;
    zeros[group] = high > low ? float(std::nearbyint(-15 * low / (high - low)) + 0.0) : 0;  // + 0: never −0
  }
}

/** fitQuantization(device, rows, groups, groupSize, scales, zeros, weight) */
void fitQuantization(Arguments& a) {
  a.device();
  const size_t rows = a.size(), groupsInRow = a.size(), groupSize = a.size();
  const size_t groups = Arguments::product(rows, groupsInRow);
  float *scales = a.f32(groups), *zeros = a.f32(groups);
  const Array weight = a.floats(Arguments::product(groups, groupSize));
  if (weight.dtype == DType::f32) fit(scales, zeros, static_cast<const float*>(weight.data), groups, groupSize);
  else fit(scales, zeros, static_cast<const uint16_t*>(weight.data), groups, groupSize);
}

}  // namespace

void exportQuantization(napi_env env, napi_value exports) { exportFunction(env, exports, "fitQuantization", call<fitQuantization>); }

}  // namespace sparse_tuner
