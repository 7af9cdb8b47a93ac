/**
 * Forms an adapted weight W̃ (AdaptedWeight of device.ts) in the shape the tile kernels read, a strip of panels at a time: W̃ exists nowhere else.
 * Included only by kernelTable.h. What W̃ is multiplied with is not this file's business.
 *
 * The low-rank product runs in the same tile kernels as any product, into a block of some fifty k by one panel that stays in the first-level cache;
 * W's own panel is packed beside it, and a mask selects between them: a zero weight stays zero whatever stands in the factors, infinity included.
 * Each element is summed over the ranks in order, whatever strip or panel it is formed in. What becomes bf16 is dithered by its place in W.
 */

/** Ranks multiplied at a time. */
constexpr size_t rankChunk = 64;
/** k formed by one call of the kernel, and at a time: whole vectors, so that W is transposed in whole squares, and whole pairs. */
constexpr int kernelRows = maxRows == 14 ? 12 : maxRows;
constexpr size_t formRows = 4 * kernelRows;
static_assert(formRows % lanes == 0 && formRows % 2 == 0, "rows formed at a time are whole squares and pairs");
/** Words of one packed panel of the factor along k, and what a strip's factors take of a thread's scratch (a slice of pairs is 2·sliceWords long). */
constexpr size_t alongStride = (kernelRows + lanes - 1) / lanes * lanes, alongWords = rankChunk * alongStride;
constexpr size_t memberWords = tileColumns * rankChunk;
constexpr size_t factorWords = memberWords + (2 * sliceWords / kernelRows + 1) * alongWords;

/** Where a strip or a panel of W̃ lies; members and k as in gemmPack.h. `kMajor`: k runs down the rows of W (a·W̃), else along them (a·W̃ᵀ). */
struct FormPlace {
  bool kMajor;
  size_t member, width, k, count;
};

/** The factor that gives rows of W, or its columns, their share of the product; its own k is the rank. */
inline Operand factorOf(const AdaptedArguments& w, bool rows) {
  return rows ? Operand{Matrix{w.left, DType::f32, w.ranks}, false, Packing::plain} : Operand{Matrix{w.right, DType::f32, w.in}, true, Packing::plain};
}

/** Packs the members' factor, times the scale, for ranks [rank, rank + ranks): panel behind panel. */
inline void packMemberFactor(float* packed, const AdaptedArguments& w, const FormPlace& at, size_t rank, size_t ranks) {
  const Operand factor = factorOf(w, !at.kMajor);
  const VectorF scale = broadcast(w.scale);
  for (size_t j = 0; j < at.width; j += panelColumns) {
    float* panel = packed + j * rankChunk;
    const size_t width = smaller(panelColumns, at.width - j);
    packPanel(panel, panelColumns, factor, at.member + j, width, rank, ranks);
    for (size_t t = 0; t < ranks; t++) {
      for (size_t v = 0; v < width; v += lanes) store(panel + t * panelColumns + v, load(panel + t * panelColumns + v) * scale);
    }
  }
}

/** Packs the other factor for k [k, k + count): panels of kernelRows, as the left operand of a product. */
inline void packAlongFactor(float* packed, const AdaptedArguments& w, bool kMajor, size_t k, size_t count, size_t rank, size_t ranks) {
  const Operand factor = factorOf(w, kMajor);
  for (size_t i = 0; i < count; i += kernelRows, packed += alongWords) {
    packPanel(packed, alongStride, factor, k + i, smaller(kernelRows, count - i), rank, ranks);
  }
}

/** product (count ≤ formRows, one panel) = or += what packed factors give. */
inline void multiplyFactors(float* product, const float* along, const float* members, size_t count, size_t width, size_t ranks, bool accumulate) {
  const size_t padded = (width + lanes - 1) / lanes * lanes;
  for (size_t i = 0; i < count; i += kernelRows, along += alongWords) {
    multiplyPanels(false, ranks, along, alongStride, smaller(kernelRows, count - i), members, panelColumns, padded, product + i * panelColumns, panelColumns, accumulate);
  }
}

/** to = W̃ from a panel of W and the factors, MR rows of it: the product stays in registers. `weight` may be `to`. */
template <int MR, int NV, bool Base>
void formKernel(float* to, const float* weight, const float* along, const float* members, size_t ranks) {
  VectorF sum[MR][NV] = {};
  for (size_t t = 0; t < ranks; t++, along += alongStride, members += panelColumns) {
    VectorF column[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) column[v] = load(members + v * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      VectorF row = broadcast(along[i]);
#ifdef SIMD_REGISTER_CONSTRAINT
      asm("" : SIMD_REGISTER_CONSTRAINT(row));  // as in gemmKernel.h
#endif
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) sum[i][v] = sum[i][v] + row * column[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; v++) {
      const VectorF w = load(weight + i * panelColumns + v * lanes);
      store(to + i * panelColumns + v * lanes, w != VectorF{} ? (Base ? w + sum[i][v] : sum[i][v]) : Base ? w : VectorF{});
    }
  }
}

/** s·beta·alpha, what a weight of its row's group is multiplied with beside 1, for one panel. */
inline void formGroupScales(float* product, const AdaptedArguments& w, const FormPlace& at) {
  const VectorF scale = broadcast(w.scale);
  for (size_t v = 0; v < at.width; v += lanes) {
    const size_t left = at.width - v, width = smaller(lanes, left);
    if (at.kMajor) {
      for (size_t i = 0; i < at.count; i++) {
        const size_t row = at.k + i;
        store(product + i * panelColumns + v, loadUpTo(w.alpha + row / w.groupRows * w.in + at.member + v, left) * (broadcast(w.beta[row]) * scale));
      }
      continue;
    }
    const size_t row = at.member + v, first = row / w.groupRows, last = (row + width - 1) / w.groupRows;
    const VectorF beta = loadUpTo(w.beta + row, left) * scale;
    VectorI group = {};
    for (size_t lane = 0; lane < width; lane++) group[lane] = int32_t((row + lane) / w.groupRows - first);
    for (size_t g = first; g <= last; g++) {
      const VectorI mine = group == broadcastInt(int32_t(g - first));
      const float* alpha = w.alpha + g * w.in + at.k;
      for (size_t i = 0; i < at.count; i++) {
        float* to = product + i * panelColumns + v;
        const VectorF value = broadcast(alpha[i]) * beta;
        store(to, g == first ? value : mine ? value : load(to));
      }
    }
  }
}

/** to = W̃ from W's panel and the product beside it. A mask selects; scales multiply, and zero times a number is zero. */
template <bool Base, bool Scaled>
inline void combinePanel(float* to, const float* weight, const float* product, size_t count, size_t width) {
  for (size_t i = 0; i < count; i++) {
    for (size_t v = 0; v < width; v += lanes) {
      const size_t at = i * panelColumns + v;
      const VectorF w = load(weight + at), p = load(product + at);
      const VectorF change = Scaled ? w * p : p, formed = Base ? w + change : change;
      if constexpr (Scaled) store(to + at, formed);
      else store(to + at, w != VectorF{} ? formed : Base ? w : VectorF{});
    }
  }
}

/** The step and zero point of each member at one k. */
inline void levelsAt(float* steps, float* zeros, const AdaptedArguments& w, const FormPlace& at, size_t k) {
  const size_t groups = w.in / w.groupSize;
  for (size_t i = 0; i < panelColumns; i++) steps[i] = 1, zeros[i] = 0;
  for (size_t i = 0; i < at.width; i++) {
    const size_t row = at.kMajor ? k : at.member + i, column = at.kMajor ? at.member + i : k;
    const size_t group = row * groups + column / w.groupSize;
    steps[i] = w.steps[group], zeros[i] = w.zeros[group];
  }
}

/** Brings a panel of W̃ to its levels; a zero weight stays zero. */
inline void quantizePanel(float* values, const float* weight, const AdaptedArguments& w, const FormPlace& at) {
  float steps[panelColumns], zeros[panelColumns];
  const VectorF magic = broadcast(12582912.0f), most = broadcast(15.0f);  // adding and taking away 1.5·2^23 rounds to a whole number, ties to even
  for (size_t i = 0; i < at.count; i++) {
    if (at.kMajor || i == 0 || (at.k + i) % w.groupSize == 0) levelsAt(steps, zeros, w, at, at.k + i);
    for (size_t v = 0; v < at.width; v += lanes) {
      float* to = values + i * panelColumns + v;
      const VectorF step = load(steps + v), zero = load(zeros + v);
      VectorF level = load(to) / step + zero;
      level = level < VectorF{} ? VectorF{} : level > most ? most : level;
      level = (level + magic) - magic;
      store(to, load(weight + i * panelColumns + v) != VectorF{} ? step * (level - zero) : VectorF{});
    }
  }
}

/** The random factors of rows and columns of W: the upper half of a product of two is the threshold of dither.ts, integer for integer. */
struct DitherFactors {
  int32_t along[2 * sliceWords], members[tileColumns];
};

/** factors[i] = that of row or column first + i, whole vectors of them. */
inline void ditherFactors(int32_t* factors, bool rows, size_t first, size_t count) {
  VectorU lane;
  for (size_t i = 0; i < lanes; i++) lane[i] = uint32_t(i);
  for (size_t i = 0; i < count; i += lanes) {
    const VectorU index = lane + uint32_t(first + i), factor = mixBits(index ^ (rows ? 0x9e3779b9u : 0x7f4a7c15u)) | 1u;
    *reinterpret_cast<UnalignedI*>(factors + i) = (VectorI)factor;
  }
}

/** Dithered to bf16, in the upper half of each lane; the lower half is not cleared. */
inline VectorU ditherBits(VectorF x, VectorI members, int32_t along) {
  const VectorU bits = (VectorU)x, dithered = bits + ((VectorU)members * uint32_t(along) >> 16), quiet = bits | 0x00400000u;
  return (VectorU)(x == x ? (VectorI)dithered : (VectorI)quiet);
}

/** Writes a panel of f32 values as dithered bf16 in the words of `packing`. */
inline void packDithered(float* packed, const float* values, Packing packing, size_t count, size_t width, const int32_t* along, const int32_t* members) {
  const size_t step = packing == Packing::pairs ? 2 : 1;
  for (size_t i = 0; i < count; i += step, packed += panelColumns) {
    for (size_t v = 0; v < width; v += lanes) {
      const VectorI member = loadInt(members + v);
      const VectorU first = ditherBits(load(values + i * panelColumns + v), member, along[i]);
      if (packing == Packing::rounded) {
        store(packed + v, (VectorF)(first & 0xffff0000u));
        continue;
      }
      const VectorU second = i + 1 < count ? ditherBits(load(values + (i + 1) * panelColumns + v), member, along[i + 1]) : VectorU{};
      store(packed + v, (VectorF)((first >> 16) | (second & 0xffff0000u)));
    }
  }
}

/** Writes a panel of levels as the words of `packing`, rounded to nearest where that is bf16. */
inline void packLevels(float* packed, const float* values, Packing packing, size_t count, size_t width) {
  const size_t step = packing == Packing::pairs ? 2 : 1;
  for (size_t i = 0; i < count; i += step, packed += panelColumns) {
    for (size_t v = 0; v < width; v += lanes) {
      const VectorF value = load(values + i * panelColumns + v);
      if (packing == Packing::pairs) store(packed + v, joinPairs(value, i + 1 < count ? load(values + (i + 1) * panelColumns + v) : VectorF{}));
      else store(packed + v, packing == Packing::rounded ? roundToBf16(value) : value);
    }
  }
}

using FormKernel = void (*)(float* to, const float* weight, const float* along, const float* members, size_t ranks);

/** The kernels of 1 … kernelRows rows. */
template <int NV, bool Base>
struct FormKernels {
  FormKernel forRows[kernelRows + 1] = {};
  template <int MR>
  constexpr void fill() {
    forRows[MR] = formKernel<MR, NV, Base>;
    if constexpr (MR > 1) fill<MR - 1>();
  }
  constexpr FormKernels() { fill<kernelRows>(); }
};

/** to (count ≤ formRows) = W̃ where all ranks are packed. */
inline void formFused(float* to, const float* weight, const AdaptedArguments& w, const FormPlace& at, const float* along, const float* members) {
  static constexpr FormKernels<1, true> one;
  static constexpr FormKernels<2, true> two;
  static constexpr FormKernels<1, false> oneAlone;
  static constexpr FormKernels<2, false> twoAlone;
  const FormKernel* kernels = at.width > lanes ? (w.base ? two.forRows : twoAlone.forRows) : w.base ? one.forRows : oneAlone.forRows;
  for (size_t i = 0; i < at.count; i += kernelRows, along += alongWords) {
    kernels[smaller(kernelRows, at.count - i)](to + i * panelColumns, weight + i * panelColumns, along, members, w.rank);
  }
}

/** The product of one panel where the ranks are more than the scratch holds packed: chunk by chunk. */
inline void multiplyChunks(float* product, const AdaptedArguments& w, const FormPlace& at, float* along, float* members) {
  for (size_t rank = 0; rank < w.rank; rank += rankChunk) {
    const size_t ranks = smaller(rankChunk, w.rank - rank);
    packMemberFactor(members, w, at, rank, ranks);
    packAlongFactor(along, w, at.kMajor, at.k, at.count, rank, ranks);
    multiplyFactors(product, along, members, at.count, at.width, ranks, rank > 0);
  }
}

/** Packs a strip of W̃ (≤ tileColumns members, ≤ sliceWords words of k) as packStrip packs a stored operand. `scratch` has factorWords. */
inline void formStrip(float* packed, const AdaptedArguments& w, const FormPlace& strip, Packing packing, float* scratch) {
  float* members = scratch;
  float* along = scratch + memberWords;
  float weight[formRows * panelColumns], values[formRows * panelColumns];
  DitherFactors dither;
  const bool fused = w.left && w.rank <= rankChunk, aside = packing != Packing::plain || w.steps;
  if (packing != Packing::plain && !w.steps) {
    ditherFactors(dither.along, strip.kMajor, strip.k, strip.count);
    ditherFactors(dither.members, !strip.kMajor, strip.member, strip.width);
  }
  if (fused) {
    packMemberFactor(members, w, strip, 0, w.rank);
    packAlongFactor(along, w, strip.kMajor, strip.k, strip.count, 0, w.rank);
  }
  const auto combine = w.left ? (w.base ? combinePanel<true, false> : combinePanel<false, false>) : w.base ? combinePanel<true, true> : combinePanel<false, true>;
  for (size_t j = 0; j < strip.width; j += panelColumns) {
    for (size_t i = 0; i < strip.count; i += formRows) {
      const FormPlace at{strip.kMajor, strip.member + j, smaller(panelColumns, strip.width - j), strip.k + i, smaller(formRows, strip.count - i)};
      float* words = packed + j * sliceWords + wordsOf(packing, i) * panelColumns;
      // W's panel is brought where W̃'s is to stand, unless it is needed again.
      float* from = aside ? weight : words;
      float* to = aside ? values : words;
      packPanel(from, panelColumns, Operand{w.weight, at.kMajor, Packing::plain}, at.member, at.width, at.k, at.count);
      if (fused) {
        formFused(to, from, w, at, along + i / kernelRows * alongWords, members + j * rankChunk);
      } else {
        if (w.left) multiplyChunks(values, w, at, along, members);
        else formGroupScales(values, w, at);
        combine(to, from, values, at.count, at.width);
      }
      if (w.steps) {
        quantizePanel(values, weight, w, at);
        packLevels(words, values, packing, at.count, at.width);
      } else if (aside) {
        packDithered(words, values, packing, at.count, at.width, dither.along + i, dither.members + j);
      }
    }
  }
}

/** Brings a part of the factors a strip will pack into the second-level cache, as prefetchPanel does its weights. */
inline void prefetchFactors(const AdaptedArguments& w, const FormPlace& strip, size_t part, size_t parts) {
  if (!w.left || w.rank > rankChunk) return;
  prefetchPanel(factorOf(w, !strip.kMajor), strip.member, strip.width, 0, w.rank, part, parts);
  prefetchPanel(factorOf(w, strip.kMajor), strip.k, strip.count, 0, w.rank, part, parts);
}

/** rows (count ≤ formRows, in) = rows [first, first + count) of W̃ in f32, brought to bf16 if asked. `scratch` has factorWords. */
inline void formRowsOf(float* rows, const AdaptedArguments& w, size_t first, size_t count, bool round, float* scratch) {
  float panel[formRows * panelColumns];
  for (size_t column = 0; column < w.in; column += panelColumns) {
    const size_t width = smaller(panelColumns, w.in - column);
    formStrip(panel, w, FormPlace{true, column, width, first, count}, round ? Packing::rounded : Packing::plain, scratch);
    for (size_t i = 0; i < count; i++) __builtin_memcpy(rows + i * w.in + column, panel + i * panelColumns, width * sizeof(float));
  }
}

/** Rows and columns of one tile of formAdapted. */
constexpr size_t formTileRows = 8 * formRows < sliceWords ? 8 * formRows : sliceWords;

inline void formAdapted(Context& context, Array out, const AdaptedArguments& w) {
  const size_t down = (w.out + formTileRows - 1) / formTileRows, across = (w.in + tileColumns - 1) / tileColumns;
  parallel(context, down * across, [&](size_t tile, int thread) {
    const size_t row = tile / across * formTileRows, column = tile % across * tileColumns;
    const FormPlace at{true, column, smaller(tileColumns, w.in - column), row, smaller(formTileRows, w.out - row)};
    float* strip = context.threadScratch(thread);
    formStrip(strip, w, at, out.dtype == DType::bf16 ? Packing::rounded : Packing::plain, strip + tileColumns * sliceWords);
    for (size_t j = 0; j < at.width; j += panelColumns) {
      for (size_t i = 0; i < at.count; i++) put(out, (row + i) * w.in + column + j, smaller(panelColumns, at.width - j), strip + j * sliceWords + i * panelColumns);
    }
  });
}
