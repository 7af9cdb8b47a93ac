/** The kernels with AVX2 and FMA. build.mjs compiles this file with those flags; isa.cc runs it only where cpuid allows. */
#include "kernelTable.h"

namespace sparse_tuner {

const Kernels* avx2Kernels() {
  static constexpr Kernels table = kernelTable("avx2");
  return &table;
}

}  // namespace sparse_tuner
