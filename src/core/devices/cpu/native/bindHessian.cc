/** Pruning's ops: factoring a Hessian and SparseGPT's sweep. */
#include <vector>

#include "arguments.h"

namespace sparse_tuner {

namespace {

/** inverseCholesky(device, C, h, diagonal, damping, wide | null) → whether h was positive definite */
void inverseCholesky(Arguments& a) {
  Device& device = a.device();
  const size_t C = a.size();
  float* h = a.f32(Arguments::product(C, C));
  float* diagonal = a.f32(C);
  const double damping = a.number();
  double* wide = a.isNull() ? nullptr : reinterpret_cast<double*>(a.f32(Arguments::product(C, 2 * C)));
  if (!device.kernels().canFactor(C, wide != nullptr)) throw ArgumentError("the matrix is larger than the device has scratch for");
  std::vector<double> pivots(C);
  double mean = 0;
  for (size_t j = 0; j < C; j++) {
    diagonal[j] = h[j * C + j];
    pivots[j] = diagonal[j] == 0 ? 1 : double(diagonal[j]);
    mean += pivots[j] / double(C);
  }
  for (double& pivot : pivots) pivot += damping * mean;
  napi_get_boolean(a.env, device.kernels().inverseCholesky(device.context, h, diagonal, pivots.data(), C, wide), &a.result);
}

/** mirrorLower(device, C, h, diagonal) */
void mirrorLower(Arguments& a) {
  Device& device = a.device();
  const size_t C = a.size();
  float* h = a.f32(Arguments::product(C, C));
  device.kernels().mirrorLower(device.context, h, a.f32(C), C);
}

/** sparseGptSweep(device, rows, columns, share, groupZeros, groupSize, blockSize, first, count, w, losses, errors, upper, diagonal); groupSize 0: a share */
void sparseGptSweep(Arguments& a) {
  Device& device = a.device();
  SweepArguments s;
  s.rows = a.size();
  s.columns = a.size();
  s.share = a.number();
  s.groupZeros = a.size();
  s.groupSize = a.size();
  s.blockSize = a.size();
  s.first = a.size();
  s.count = a.size();
  const bool blocks = s.blockSize > 0 && s.first % s.blockSize == 0 && s.first <= s.columns && s.count <= s.columns - s.first;
  const bool groups = s.groupZeros <= s.groupSize && (s.groupSize == 0 || (s.blockSize % s.groupSize == 0 && s.count % s.groupSize == 0));
  if (!blocks || !groups || !(s.share >= 0 && s.share <= 1)) throw ArgumentError("the columns are no whole blocks or groups");
  if (s.groupSize > maxGroup) throw ArgumentError("a group of more than " + std::to_string(maxGroup) + " columns");
  s.w = a.f32(Arguments::product(s.rows, s.columns));
  s.losses = a.f32(s.rows);
  s.errors = a.f32(Arguments::product(s.rows, s.count));
  s.upper = a.f32(Arguments::product(s.columns, s.columns));
  s.diagonal = a.f32(s.columns);
  device.kernels().sparseGptSweep(device.context, s);
}

}  // namespace

void exportHessian(napi_env env, napi_value exports) {
  exportFunction(env, exports, "inverseCholesky", call<inverseCholesky>);
  exportFunction(env, exports, "mirrorLower", call<mirrorLower>);
  exportFunction(env, exports, "sparseGptSweep", call<sparseGptSweep>);
}

}  // namespace sparse_tuner
