/** The arithmetic limit of this machine, measured. */
#pragma once

namespace sparse_tuner {

/**
 * FLOP/s of `threads` threads that do nothing but multiply and add registers, for about `seconds`; 0 where there is no such loop. bf16 without
 * a bf16 instruction is measured as f32, which computes it there.
 */
double measurePeak(bool bf16, bool dotBf16, int vectorBytes, int threads, double seconds);

}  // namespace sparse_tuner
