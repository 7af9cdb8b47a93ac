/** Adapted weights and the small pieces of adapters. Each function states its JavaScript arguments; a tensor is two (id, start). */
#include <cstdint>
#include <vector>

#include "arguments.h"

namespace sparse_tuner {

namespace {

/**
 * An adapted weight: rows, columns, weight, scale, base, then with group scales `true`, groups, alpha, beta; with low rank `false`, ranks, rank, left,
 * right, groupSize and, unless that is 0, steps and zeros.
 */
AdaptedArguments readAdapted(Arguments& a) {
  AdaptedArguments w{};
  w.out = a.size(), w.in = a.size();
  w.weight = a.matrix(w.out, w.in);
  w.scale = float(a.number());
  w.base = a.flag();
  if (a.flag()) {
    const size_t groups = a.size();
    if (groups == 0 || w.out % groups != 0) throw ArgumentError("groups must divide the weight's rows");
    w.groupRows = w.out / groups;
    w.alpha = a.f32(Arguments::product(groups, w.in));
    w.beta = a.f32(w.out);
    return w;
  }
  w.ranks = a.size(), w.rank = a.size();
  if (w.rank == 0 || w.rank > w.ranks) throw ArgumentError("the rank must be between 1 and that of the factors");
  w.left = a.f32(Arguments::product(w.out, w.ranks));
  w.right = a.f32(Arguments::product(w.ranks, w.in));
  w.groupSize = a.size();
  if (w.groupSize == 0) return w;
  if (!w.base || w.in % w.groupSize != 0) throw ArgumentError("groups of columns must divide the weight's and need its base");
  const size_t groups = Arguments::product(w.out, w.in / w.groupSize);
  w.steps = a.f32(groups);
  w.zeros = a.f32(groups);
  return w;
}

/** adaptedMatmul(device, m, transposeB, accumulate, …adapted, out, a) */
void adaptedMatmul(Arguments& a) {
  Device& device = a.device();
  MatmulArguments m;
  m.m = a.size();
  m.transposeA = false, m.transposeB = a.flag(), m.accumulate = a.flag();
  const AdaptedArguments w = readAdapted(a);
  m.n = m.transposeB ? w.out : w.in, m.k = m.transposeB ? w.in : w.out;
  m.out = a.matrix(m.m, m.n);
  m.a = a.matrix(m.m, m.k);
  m.b = w.weight;
  m.adapted = &w;
  const size_t outBytes = m.m * m.n * bytesPerElement(m.out.dtype);
  if (overlaps(m.out.data, outBytes, m.a.data, m.m * m.k * bytesPerElement(m.a.dtype)) || overlaps(m.out.data, outBytes, m.b.data, w.out * w.in * bytesPerElement(m.b.dtype))) {
    throw ArgumentError("adaptedMatmul: out may not be an operand");
  }
  if (m.m == 0 || m.n == 0) return;
  if (m.k == 0) {
    if (!m.accumulate) device.kernels().fill(device.context, Array{m.out.data, m.out.dtype}, m.m * m.n, 0.0f);
    return;
  }
  device.kernels().matmul(device.context, m);
}

/** adaptedGradients(device, tokens, …adapted, dFirst, dSecond, dOut, x) */
void adaptedGradients(Arguments& a) {
  Device& device = a.device();
  const size_t tokens = a.size();
  const AdaptedArguments w = readAdapted(a);
  float* dFirst = a.f32(w.left ? w.out * w.ranks : w.out / w.groupRows * w.in);
  float* dSecond = a.f32(w.left ? w.ranks * w.in : w.out);
  const Matrix dOut = a.matrix(tokens, w.out), x = a.matrix(tokens, w.in);
  if (tokens == 0 || w.out == 0 || w.in == 0) return;
  device.kernels().adaptedGradients(device.context, dFirst, dSecond, dOut, x, tokens, w);
}

/** formAdapted(device, …adapted, out) */
void formAdapted(Arguments& a) {
  Device& device = a.device();
  const AdaptedArguments w = readAdapted(a);
  const Array out = a.floats(w.out * w.in);
  if (w.out != 0 && w.in != 0) device.kernels().formAdapted(device.context, out, w);
}

/** maskBy(device, count, x, weight) */
void maskBy(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array x = a.floats(count), weight = a.floats(count);
  device.kernels().maskBy(device.context, x, weight, count);
}

/** countZeros(device, count, x) → number of zeros */
void countZeros(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array x = a.floats(count);
  std::vector<uint32_t> counts((count + sumChunk - 1) / sumChunk);
  device.kernels().countZeros(device.context, counts.data(), x, count);
  double total = 0;
  for (uint32_t zeros : counts) total += zeros;
  napi_create_double(a.env, total, &a.result);
}

/** dropout(device, count, out, x, seed, threshold, scale, accumulate) */
void dropout(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array out = a.floats(count), x = a.floats(count);
  const int64_t seed = a.integer(), threshold = a.integer();
  if (seed < 0 || seed > int64_t(UINT32_MAX) || threshold < 0 || threshold > int64_t(UINT32_MAX)) throw ArgumentError("dropout: seed and threshold have 32 bits");
  const float scale = float(a.number());
  device.kernels().dropout(device.context, out, x, count, DropoutArguments{uint32_t(seed), uint32_t(threshold), scale, a.flag()});
}

/** scaleColumns(device, rows, columns, out, x, scale, accumulate) */
void scaleColumns(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  const Array out = a.floats(count), x = a.floats(count);
  const float* scale = a.f32(columns);
  device.kernels().scaleColumns(device.context, out, x, scale, rows, columns, a.flag());
}

/** scaleRows(device, rows, columns, out, x, scale) */
void scaleRows(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  const Array out = a.floats(count), x = a.floats(count);
  device.kernels().scaleRows(device.context, out, x, a.f32(rows), rows, columns);
}

/** rowDots(device, rows, columns, out, a, b) */
void rowDots(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  float* out = a.f32(rows);
  const Array left = a.floats(count), right = a.floats(count);
  device.kernels().rowDots(device.context, out, left, right, rows, columns);
}

/** columnDots(device, rows, columns, out, a, b) */
void columnDots(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  float* out = a.f32(columns);
  const Array left = a.floats(count), right = a.floats(count);
  device.kernels().columnDots(device.context, out, left, right, rows, columns);
}

/** doraGains(device, count, norm, gain, magnitude, squares, cross, gram, scale) */
void doraGains(Arguments& a) {
  Device& device = a.device();
  DoraArguments d;
  d.count = a.size();
  d.norm = a.f32(d.count), d.gain = a.f32(d.count);
  d.magnitude = a.f32(d.count), d.squares = a.f32(d.count), d.cross = a.f32(d.count), d.gram = a.f32(d.count);
  d.scale = a.number();
  device.kernels().doraGains(device.context, d);
}

}  // namespace

void exportAdapters(napi_env env, napi_value exports) {
  exportFunction(env, exports, "adaptedMatmul", call<adaptedMatmul>);
  exportFunction(env, exports, "adaptedGradients", call<adaptedGradients>);
  exportFunction(env, exports, "formAdapted", call<formAdapted>);
  exportFunction(env, exports, "maskBy", call<maskBy>);
  exportFunction(env, exports, "countZeros", call<countZeros>);
  exportFunction(env, exports, "dropout", call<dropout>);
  exportFunction(env, exports, "scaleColumns", call<scaleColumns>);
  exportFunction(env, exports, "scaleRows", call<scaleRows>);
  exportFunction(env, exports, "rowDots", call<rowDots>);
  exportFunction(env, exports, "columnDots", call<columnDots>);
  exportFunction(env, exports, "doraGains", call<doraGains>);
}

}  // namespace sparse_tuner
