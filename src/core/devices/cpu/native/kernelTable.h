/**
 * All op families of one instruction set, and the table of them. A kernels*.cc file includes this once, after choosing its compiler flags.
 * Everything but the table has internal linkage: no function of one instruction set can stand in for another's.
 */
#include "kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace sparse_tuner {
namespace {

#include "simd.h"
#include "convert.h"
#include "gemmKernel.h"
#include "gemmPack.h"
#include "adaptedPack.h"
#include "gemm.h"
#include "gemv.h"
#include "layers.h"
#include "attention.h"
#include "attentionForward.h"
#include "attentionBackward.h"
#include "loss.h"
#include "optimizer.h"
#include "blocks.h"
#include "adapters.h"
#include "adaptedGradients.h"
#include "hessian.h"
#include "sparseGpt.h"

constexpr Kernels kernelTable(const char* name) {
  return Kernels{name,          fill,         copy,            loadBytes,       matmul,         addBias,           biasBackward,
                 embeddingForward, embeddingBackward, rmsNormForward, rmsNormBackward, rope,    attentionForward,  attentionBackward,
                 swigluForward, swigluBackward, crossEntropy,  adamwStep,       sumSquares,     gatherColumns,     gatherBlocks,
                 scatterBlocks, blockGradients, blockScores,   blockMeans,      columnSumSquares,
                 adaptedGradients, formAdapted, maskBy,        countZeros,      dropout,        scaleColumns,      scaleRows,
                 rowDots,       columnDots,   doraGains,        canFactor,   inverseCholesky, mirrorLower,      sparseGptSweep};
}

}  // namespace
}  // namespace sparse_tuner
