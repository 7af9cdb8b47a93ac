/**
 * Asks cpuid and the operating system's register state, and picks a table of kernels.
 * A vector extension counts only if the operating system saves its registers (xgetbv).
 */
#include "isa.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sparse_tuner {

#if defined(__x86_64__)
namespace {

struct Features {
  bool avx2 = false, avx512 = false, dotBf16 = false;
};

bool bit(unsigned word, int index) { return (word >> index) & 1; }

Features detect() {
  Features found;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return found;  // OSXSAVE
  const bool fma = bit(c, 12), avx = bit(c, 28);
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const bool savesYmm = (low & 0x06) == 0x06, savesZmm = (low & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const unsigned subleaves = a;
  found.avx2 = avx && fma && savesYmm && bit(b, 5);
  found.avx512 = found.avx2 && savesZmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);  // F, DQ, BW, VL
  if (found.avx512 && subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) found.dotBf16 = bit(a, 5);
  return found;
}

}  // namespace

InstructionSet chooseInstructionSet(const char* most) {
  Features features = detect();
  const bool withoutDot = most && std::strcmp(most, "avx512f") == 0;
  const bool atMostAvx2 = most && std::strcmp(most, "avx2") == 0, portable = most && std::strcmp(most, "portable") == 0;
  if (withoutDot) features.dotBf16 = false;
  if (features.avx512 && !atMostAvx2 && !portable) return {avx512Kernels(), features.dotBf16, 64, features.dotBf16 ? "AVX-512 with bf16" : "AVX-512"};
  if (features.avx2 && !portable) return {avx2Kernels(), false, 32, "AVX2"};
  return {portableKernels(), false, 16, "SSE2"};
}
#elif defined(__aarch64__)
InstructionSet chooseInstructionSet(const char* most) {
  if (most && std::strcmp(most, "portable") == 0) return {portableKernels(), false, 16, "plain C++"};
  return {neonKernels(), false, 16, "NEON"};
}
#else
InstructionSet chooseInstructionSet(const char*) { return {portableKernels(), false, 16, "plain C++"}; }
#endif

}  // namespace sparse_tuner
