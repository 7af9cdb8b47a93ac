/**
 * Matrix products, layers, loss and optimizer. Each function states its JavaScript arguments: sizes first, then tensors as in device.ts, then options.
 * A tensor is two arguments (id, start). Indices held in tensors (ids, positions, targets, documentStart) are checked here, once per call.
 */
#include "arguments.h"

namespace sparse_tuner {

namespace {

/** Throws unless low ≤ x ≤ high for all. */
void checkRange(const int32_t* x, size_t count, int64_t low, int64_t high, const char* what) {
  bool good = true;
  for (size_t i = 0; i < count; i++) good &= x[i] >= low && x[i] <= high;
  if (!good) throw ArgumentError(std::string(what) + " out of range");
}

/** matmul(device, m, n, k, out, a, b, transposeA, transposeB, accumulate) */
void matmul(Arguments& a) {
  Device& device = a.device();
  MatmulArguments m;
  m.m = a.size(), m.n = a.size(), m.k = a.size();
  m.out = a.matrix(m.m, m.n);
  m.a = a.matrix(m.m, m.k);
  m.b = a.matrix(m.k, m.n);
  m.transposeA = a.flag(), m.transposeB = a.flag(), m.accumulate = a.flag();
  m.a.ld = m.transposeA ? m.m : m.k;
  m.b.ld = m.transposeB ? m.k : m.n;
  const size_t outBytes = m.m * m.n * bytesPerElement(m.out.dtype);
  if (overlaps(m.out.data, outBytes, m.a.data, m.m * m.k * bytesPerElement(m.a.dtype)) || overlaps(m.out.data, outBytes, m.b.data, m.k * m.n * bytesPerElement(m.b.dtype))) {
    throw ArgumentError("matmul: out may not be an operand");
  }
  if (m.m == 0 || m.n == 0) return;
  if (m.k == 0) {
    if (!m.accumulate) device.kernels().fill(device.context, Array{m.out.data, m.out.dtype}, m.m * m.n, 0.0f);
    return;
  }
  device.kernels().matmul(device.context, m);
}

/** addBias(device, rows, columns, out, bias) */
void addBias(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size();
  const Array out = a.floats(Arguments::product(rows, columns)), bias = a.floats(columns);
  device.kernels().addBias(device.context, out, bias, rows, columns);
}

/** biasBackward(device, rows, columns, dBias, dOut) */
void biasBackward(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size();
  float* dBias = a.f32(columns);
  device.kernels().biasBackward(device.context, dBias, a.floats(Arguments::product(rows, columns)), rows, columns);
}

/** embeddingForward(device, rows, columns, vocabulary, out, table, ids) */
void embeddingForward(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), vocabulary = a.size();
  const Array out = a.floats(Arguments::product(rows, columns)), table = a.floats(Arguments::product(vocabulary, columns));
  const int32_t* ids = a.i32(rows);
  checkRange(ids, rows, 0, int64_t(vocabulary) - 1, "token id");
  device.kernels().embeddingForward(device.context, out, table, ids, rows, columns);
}

/** embeddingBackward(device, rows, columns, vocabulary, dTable, dOut, ids) */
void embeddingBackward(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), vocabulary = a.size();
  float* dTable = a.f32(Arguments::product(vocabulary, columns));
  const Array dOut = a.floats(Arguments::product(rows, columns));
  const int32_t* ids = a.i32(rows);
  checkRange(ids, rows, 0, int64_t(vocabulary) - 1, "token id");
  device.kernels().embeddingBackward(device.context, dTable, dOut, ids, rows, columns);
}

/** rmsNormForward(device, rows, columns, out, rstd, x, weight, epsilon) */
void rmsNormForward(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  const Array out = a.floats(count);
  float* rstd = a.f32(rows);
  const Array x = a.floats(count), weight = a.floats(columns);
  device.kernels().rmsNormForward(device.context, out, rstd, x, weight, rows, columns, float(a.number()));
}

/** rmsNormBackward(device, rows, columns, dX | null, dWeight | null, dOut, x, weight, rstd, accumulate) */
void rmsNormBackward(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), count = Arguments::product(rows, columns);
  Array dX{nullptr, DType::f32};
  float* dWeight = nullptr;
  if (a.isNull()) a.skip();
  else dX = a.floats(count);
  if (a.isNull()) a.skip();
  else dWeight = a.f32(columns);
  const Array dOut = a.floats(count), x = a.floats(count), weight = a.floats(columns);
  const float* rstd = a.f32(rows);
  device.kernels().rmsNormBackward(device.context, dX, dWeight, dOut, x, weight, rstd, rows, columns, a.flag());
}

/** rope(device, rows, columns, headSize, positionCount, x, cos, sin, positions, inverse) */
void rope(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size(), headSize = a.size(), positionCount = a.size();
  if (headSize == 0 || headSize % 2 != 0 || columns % headSize != 0) throw ArgumentError("rope: columns must be whole heads of even size");
  const Array x = a.floats(Arguments::product(rows, columns));
  const float* cos = a.f32(Arguments::product(positionCount, headSize / 2));
  const float* sin = a.f32(positionCount * (headSize / 2));
  const int32_t* positions = a.i32(rows);
  checkRange(positions, rows, 0, int64_t(positionCount) - 1, "position");
  device.kernels().rope(device.context, x, cos, sin, positions, rows, columns, headSize, a.flag());
}

/** The seven sizes of an AttentionShape, in its order. */
void readShape(Arguments& a, AttentionArguments& s) {
  s.batchSize = a.size(), s.queryLength = a.size(), s.keyLength = a.size(), s.keyStride = a.size();
  s.numHeads = a.size(), s.numKeyValueHeads = a.size(), s.headSize = a.size();
  if (s.headSize == 0 || s.headSize > 256) throw ArgumentError("attention: head size must be between 1 and 256");
  if (s.numKeyValueHeads == 0 || s.numHeads % s.numKeyValueHeads != 0) throw ArgumentError("attention: query heads must be a multiple of key/value heads");
  if (s.queryLength > s.keyLength || s.keyLength > s.keyStride || s.keyStride > INT32_MAX) throw ArgumentError("attention: lengths must be query ≤ key ≤ stride");
}

void checkDocuments(const AttentionArguments& s) {
  for (size_t batch = 0; batch < s.batchSize; batch++) {
    for (size_t i = 0; i < s.queryLength; i++) {
      const int64_t start = s.documentStart[batch * s.queryLength + i];
      if (start < 0 || start > int64_t(s.keyLength - s.queryLength + i)) throw ArgumentError("attention: a document starts after its own token");
    }
  }
}

/** attentionForward(device, …shape, out, logSumExp, q, k, v, documentStart) */
void attentionForward(Arguments& a) {
  Device& device = a.device();
  AttentionArguments s{};
  readShape(a, s);
  const size_t tokens = Arguments::product(s.batchSize, s.queryLength), keys = Arguments::product(s.batchSize, s.keyStride);
  const size_t queries = Arguments::product(tokens, s.numHeads * s.headSize), values = Arguments::product(keys, s.numKeyValueHeads * s.headSize);
  s.out = a.floats(queries);
  s.logSumExp = a.f32(Arguments::product(tokens, s.numHeads));
  s.q = a.floats(queries), s.k = a.floats(values), s.v = a.floats(values);
  s.documentStart = a.i32(tokens);
  checkDocuments(s);
  device.kernels().attentionForward(device.context, s);
}

/** attentionBackward(device, …shape, dQ, dK, dV, dOut, q, k, v, out, logSumExp, documentStart) */
void attentionBackward(Arguments& a) {
  Device& device = a.device();
  AttentionArguments s{};
  readShape(a, s);
  if (s.queryLength != s.keyLength || s.keyLength != s.keyStride) throw ArgumentError("attention backward: lengths must be equal");
  const size_t tokens = Arguments::product(s.batchSize, s.queryLength);
  const size_t queries = Arguments::product(tokens, s.numHeads * s.headSize), values = Arguments::product(tokens, s.numKeyValueHeads * s.headSize);
  s.dQ = a.floats(queries), s.dK = a.floats(values), s.dV = a.floats(values);
  s.dOut = a.floats(queries), s.q = a.floats(queries), s.k = a.floats(values), s.v = a.floats(values), s.out = a.floats(queries);
  s.logSumExp = a.f32(Arguments::product(tokens, s.numHeads));
  s.documentStart = a.i32(tokens);
  checkDocuments(s);
  device.kernels().attentionBackward(device.context, s);
}

/** swigluForward(device, count, out, gate, up) */
void swigluForward(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array out = a.floats(count), gate = a.floats(count), up = a.floats(count);
  device.kernels().swigluForward(device.context, out, gate, up, count);
}

/** swigluBackward(device, count, dGate, dUp, dOut, gate, up) */
void swigluBackward(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array dGate = a.floats(count), dUp = a.floats(count), dOut = a.floats(count), gate = a.floats(count), up = a.floats(count);
  device.kernels().swigluBackward(device.context, dGate, dUp, dOut, gate, up, count);
}

/** crossEntropy(device, rows, columns, losses, logits, targets, scale | null) */
void crossEntropy(Arguments& a) {
  Device& device = a.device();
  const size_t rows = a.size(), columns = a.size();
  float* losses = a.f32(rows);
  const Array logits = a.floats(Arguments::product(rows, columns));
  const int32_t* targets = a.i32(rows);
  checkRange(targets, rows, INT32_MIN, int64_t(columns) - 1, "target");
  const bool gradient = !a.isNull();
  if (gradient && logits.dtype != DType::f32) throw ArgumentError("crossEntropy: logits that become gradients must be f32");
  const float scale = gradient ? float(a.number()) : 0.0f;
  device.kernels().crossEntropy(device.context, losses, logits, targets, rows, columns, gradient, scale);
}

/** adamwStep(device, count, value, gradient, firstMoment, secondMoment, learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale) */
void adamwStep(Arguments& a) {
  Device& device = a.device();
  AdamWArguments w;
  w.count = a.size();
  w.value = a.f32(w.count), w.gradient = a.f32(w.count), w.firstMoment = a.f32(w.count), w.secondMoment = a.f32(w.count);
  w.learningRate = a.number(), w.beta1 = a.number(), w.beta2 = a.number(), w.epsilon = a.number();
  w.weightDecay = a.number(), w.step = a.number(), w.gradientScale = a.number();
  device.kernels().adamwStep(device.context, w);
}

}  // namespace

void exportLayers(napi_env env, napi_value exports) {
  exportFunction(env, exports, "matmul", call<matmul>);
  exportFunction(env, exports, "addBias", call<addBias>);
  exportFunction(env, exports, "biasBackward", call<biasBackward>);
  exportFunction(env, exports, "embeddingForward", call<embeddingForward>);
  exportFunction(env, exports, "embeddingBackward", call<embeddingBackward>);
  exportFunction(env, exports, "rmsNormForward", call<rmsNormForward>);
  exportFunction(env, exports, "rmsNormBackward", call<rmsNormBackward>);
  exportFunction(env, exports, "rope", call<rope>);
  exportFunction(env, exports, "attentionForward", call<attentionForward>);
  exportFunction(env, exports, "attentionBackward", call<attentionBackward>);
  exportFunction(env, exports, "swigluForward", call<swigluForward>);
  exportFunction(env, exports, "swigluBackward", call<swigluBackward>);
  exportFunction(env, exports, "crossEntropy", call<crossEntropy>);
  exportFunction(env, exports, "adamwStep", call<adamwStep>);
}

}  // namespace sparse_tuner
