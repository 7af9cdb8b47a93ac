/** The kernels at the compiler's baseline: plain vectors of 16 bytes (SSE2 on x64). Runs everywhere. */
#include "kernelTable.h"

namespace sparse_tuner {

const Kernels* portableKernels() {
  static constexpr Kernels table = kernelTable("portable");
  return &table;
}

}  // namespace sparse_tuner
