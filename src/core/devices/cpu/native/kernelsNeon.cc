/** The kernels on 64-bit Arm, whose baseline is NEON with fused multiply-add. */
#include "kernelTable.h"

namespace sparse_tuner {

const Kernels* neonKernels() {
  static constexpr Kernels table = kernelTable("neon");
  return &table;
}

}  // namespace sparse_tuner
