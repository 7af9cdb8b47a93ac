/** The kernels with AVX-512 (F, BW, DQ, VL), and AVX512_BF16 where the processor has it. build.mjs gives this file its flags; isa.cc guards it. */
#include "kernelTable.h"

namespace sparse_tuner {

const Kernels* avx512Kernels() {
  static constexpr Kernels table = kernelTable("avx512");
  return &table;
}

}  // namespace sparse_tuner
