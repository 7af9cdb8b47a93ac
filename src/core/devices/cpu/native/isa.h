/** Which kernels this processor can run. */
#pragma once
#include "kernels.h"

namespace sparse_tuner {

struct InstructionSet {
  const Kernels* kernels;
  bool dotBf16;
  int vectorBytes;
  const char* description;
};

/** The best one, or one no better than `most` (avx512, avx512f for it without its bf16 products, avx2, portable) when that is not null. */
InstructionSet chooseInstructionSet(const char* most);

}  // namespace sparse_tuner
