/**
 * The limit the bench divides by: a loop of fused multiply-adds in assembly, fourteen independent accumulators, no memory operand.
 * Written as assembly so that no compiler can spill, merge or drop anything. Each thread times itself; threads start together.
 */
#include "peak.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace sparse_tuner {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int accumulators = 14;
constexpr long roundsPerLook = 200000;

#if defined(__x86_64__)
#define FOURTEEN(op, reg)                                                                                                                                  \
  op " %%" reg "15, %%" reg "15, %%" reg "0\n\t" op " %%" reg "15, %%" reg "15, %%" reg "1\n\t" op " %%" reg "15, %%" reg "15, %%" reg "2\n\t"                 \
  op " %%" reg "15, %%" reg "15, %%" reg "3\n\t" op " %%" reg "15, %%" reg "15, %%" reg "4\n\t" op " %%" reg "15, %%" reg "15, %%" reg "5\n\t"                 \
  op " %%" reg "15, %%" reg "15, %%" reg "6\n\t" op " %%" reg "15, %%" reg "15, %%" reg "7\n\t" op " %%" reg "15, %%" reg "15, %%" reg "8\n\t"                 \
  op " %%" reg "15, %%" reg "15, %%" reg "9\n\t" op " %%" reg "15, %%" reg "15, %%" reg "10\n\t" op " %%" reg "15, %%" reg "15, %%" reg "11\n\t"               \
  op " %%" reg "15, %%" reg "15, %%" reg "12\n\t" op " %%" reg "15, %%" reg "15, %%" reg "13\n\t"
#define CLOBBERS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"

// Zero in every register first: denormals or NaN would slow some processors down.
__attribute__((target("avx512f"))) void spinAvx512(long rounds) {
  asm volatile("vpxord %%zmm15, %%zmm15, %%zmm15\n\tvzeroall\n\t1:\n\t" FOURTEEN("vfmadd231ps", "zmm") "dec %0\n\tjnz 1b" : "+r"(rounds) : : CLOBBERS);
}
__attribute__((target("avx512f"))) void spinDotBf16(long rounds) {
  asm volatile("vzeroall\n\t1:\n\t" FOURTEEN("vdpbf16ps", "zmm") "dec %0\n\tjnz 1b" : "+r"(rounds) : : CLOBBERS);
}
__attribute__((target("avx2,fma"))) void spinAvx2(long rounds) {
  asm volatile("vzeroall\n\t1:\n\t" FOURTEEN("vfmadd231ps", "ymm") "dec %0\n\tjnz 1b" : "+r"(rounds) : : CLOBBERS);
}
#elif defined(__aarch64__)
void spinNeon(long rounds) {
  asm volatile(
      "1:\n\t"
      "fmla v0.4s, v31.4s, v31.4s\n\tfmla v1.4s, v31.4s, v31.4s\n\tfmla v2.4s, v31.4s, v31.4s\n\tfmla v3.4s, v31.4s, v31.4s\n\t"
      "fmla v4.4s, v31.4s, v31.4s\n\tfmla v5.4s, v31.4s, v31.4s\n\tfmla v6.4s, v31.4s, v31.4s\n\tfmla v7.4s, v31.4s, v31.4s\n\t"
      "fmla v16.4s, v31.4s, v31.4s\n\tfmla v17.4s, v31.4s, v31.4s\n\tfmla v18.4s, v31.4s, v31.4s\n\tfmla v19.4s, v31.4s, v31.4s\n\t"
      "fmla v20.4s, v31.4s, v31.4s\n\tfmla v21.4s, v31.4s, v31.4s\n\t"
      "subs %0, %0, #1\n\tb.ne 1b"
      : "+r"(rounds)
      :
      : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21", "v31", "cc");
}
#endif

struct Loop {
  void (*spin)(long);
  double flopsPerInstruction;
};

Loop chooseLoop(bool bf16, bool dotBf16, int vectorBytes) {
#if defined(__x86_64__)
  if (bf16 && dotBf16 && vectorBytes == 64) return {spinDotBf16, 64};
  if (vectorBytes == 64) return {spinAvx512, 32};
  if (vectorBytes == 32) return {spinAvx2, 16};
  return {nullptr, 0};
#elif defined(__aarch64__)
  (void)bf16, (void)dotBf16, (void)vectorBytes;
  return {spinNeon, 8};
#else
  (void)bf16, (void)dotBf16, (void)vectorBytes;
  return {nullptr, 0};
#endif
}

}  // namespace

double measurePeak(bool bf16, bool dotBf16, int vectorBytes, int threads, double seconds) {
  const Loop loop = chooseLoop(bf16, dotBf16, vectorBytes);
  if (!loop.spin) return 0;
  std::atomic<int> ready{0};
  std::vector<double> rates(size_t(threads), 0.0);
  const auto measure = [&](int thread) {
    loop.spin(roundsPerLook);
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    const auto start = Clock::now();
    double instructions = 0, elapsed = 0;
    while (elapsed < seconds) {
      loop.spin(roundsPerLook);
      instructions += double(roundsPerLook) * accumulators;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    rates[size_t(thread)] = instructions * loop.flopsPerInstruction / elapsed;
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; thread++) others.emplace_back(measure, thread);
  measure(0);
  for (auto& other : others) other.join();
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

}  // namespace sparse_tuner
