/**
 * Packing: brings a piece of an operand, of either dtype and orientation, into the k-major panels the tile kernels read.
 * Included only by kernelTable.h.
 *
 * A panel holds `width` rows of a (or columns of b), "members" below, for a range of k: panel[word][member]. A word is one float, or, for the
 * bf16 dot product, two bf16 values of neighbouring k; an odd k is completed by zero. Lanes beyond `width` are zero up to a whole vector.
 */

/** Words of k in one slice. */
constexpr size_t sliceWords = 512;
/** Panels of b in one tile, at most; columns of a tile. */
constexpr size_t tilePanels = 4;
constexpr size_t tileColumns = tilePanels * panelColumns;

/** How elements become words. `rounded`: f32 standing beside a bf16 operand is rounded to bf16 first. */
enum class Packing { plain, rounded, pairs };

/** One operand: element (member, k) is data[k·ld + member] if kMajor, else data[member·ld + k]. */
struct Operand {
  Matrix matrix;
  bool kMajor;
  Packing packing;
};

inline size_t wordsOf(Packing packing, size_t k) { return packing == Packing::pairs ? (k + 1) / 2 : k; }

template <class T>
inline VectorF loadUpTo(const T* p, size_t count) {
  return count >= lanes ? load(p) : loadFirst(p, count);
}

template <bool Round>
inline VectorF maybeRound(VectorF x) {
  if constexpr (Round) return roundToBf16(x);
  return x;
}

/** Two rows of k into words: the first in the lower half. */
inline VectorF joinPairs(VectorF first, VectorF second) { return (VectorF)((roundBits(first) >> 16) | (roundBits(second) & 0xffff0000u)); }

/** k runs down the rows of the matrix: members lie side by side. */
template <class T, Packing P>
void packKMajor(float* panel, size_t stride, const T* from, size_t ld, size_t width, size_t count) {
  for (size_t member = 0; member < width; member += lanes) {
    const size_t left = width - member;
    float* to = panel + member;
    const T* p = from + member;
    if constexpr (P == Packing::pairs) {
      size_t k = 0;
      for (; k + 2 <= count; k += 2, to += stride, p += 2 * ld) store(to, joinPairs(loadUpTo(p, left), loadUpTo(p + ld, left)));
      if (k < count) store(to, joinPairs(loadUpTo(p, left), VectorF{}));
    } else if (left >= lanes) {
      for (size_t k = 0; k < count; k++, to += stride, p += ld) store(to, maybeRound<P == Packing::rounded>(load(p)));
    } else {
      for (size_t k = 0; k < count; k++, to += stride, p += ld) store(to, maybeRound<P == Packing::rounded>(loadFirst(p, left)));
    }
  }
}

/** One vector of words of a member from its contiguous k; `left` elements of k remain. */
template <class T, Packing P>
inline VectorF wordsAlongK(const T* p, size_t left) {
  if constexpr (P != Packing::pairs) {
    return maybeRound<P == Packing::rounded>(loadUpTo(p, left));
  } else if constexpr (sizeof(T) == 2) {
    if (left >= 2 * lanes) return load(reinterpret_cast<const float*>(p));  // the pairs stand as they are wanted
    uint16_t words[2 * lanes] = {};
    for (size_t i = 0; i < left; i++) words[i] = p[i];
    return load(reinterpret_cast<const float*>(words));
  } else {
    const VectorF low = loadUpTo(p, left);
    const VectorF high = left > lanes ? loadUpTo(p + lanes, left - lanes) : VectorF{};
    return joinPairs(EVEN_LANES(low, high), ODD_LANES(low, high));
  }
}

/** k runs along the rows of the matrix: squares of lanes × lanes words are transposed in registers. */
template <class T, Packing P>
void packAlongK(float* panel, size_t stride, const T* from, size_t ld, size_t width, size_t count) {
  constexpr size_t kPerVector = P == Packing::pairs ? 2 * lanes : lanes;
  const size_t words = wordsOf(P, count);
  for (size_t member = 0; member < width; member += lanes) {
    const size_t left = width - member;
    for (size_t word = 0; word < words; word += lanes) {
      const size_t k = word * (kPerVector / lanes);
      const T* p = from + member * ld + k;
      VectorF square[lanes];
#pragma GCC unroll 16
      for (size_t i = 0; i < lanes; i++) square[i] = i < left ? wordsAlongK<T, P>(p + i * ld, count - k) : VectorF{};
      transposeSquare(square);
      float* to = panel + word * stride + member;
      const size_t rows = words - word;
      if (rows >= lanes) {
#pragma GCC unroll 16
        for (size_t i = 0; i < lanes; i++) store(to + i * stride, square[i]);
      } else {
        float spill[lanes * lanes];
#pragma GCC unroll 16
        for (size_t i = 0; i < lanes; i++) store(spill + i * lanes, square[i]);
        for (size_t i = 0; i < rows; i++) store(to + i * stride, load(spill + i * lanes));
      }
    }
  }
}

template <class T, Packing P>
void packTyped(float* panel, size_t stride, const Operand& x, size_t member, size_t width, size_t k, size_t count) {
  const T* data = static_cast<const T*>(x.matrix.data);
  const size_t ld = x.matrix.ld;
  if (x.kMajor) packKMajor<T, P>(panel, stride, data + k * ld + member, ld, width, count);
  else packAlongK<T, P>(panel, stride, data + member * ld + k, ld, width, count);
}

/** Packs members [member, member + width) and k [k, k + count) to panel[word·stride + i]. */
inline void packPanel(float* panel, size_t stride, const Operand& x, size_t member, size_t width, size_t k, size_t count) {
  const bool bf16 = x.matrix.dtype == DType::bf16;
  if (x.packing == Packing::pairs) {
#if SIMD_BYTES == 64
    if (bf16) packTyped<uint16_t, Packing::pairs>(panel, stride, x, member, width, k, count);
    else packTyped<float, Packing::pairs>(panel, stride, x, member, width, k, count);
#endif
  } else if (bf16) {
    packTyped<uint16_t, Packing::plain>(panel, stride, x, member, width, k, count);
  } else if (x.packing == Packing::rounded) {
    packTyped<float, Packing::rounded>(panel, stride, x, member, width, k, count);
  } else {
    packTyped<float, Packing::plain>(panel, stride, x, member, width, k, count);
  }
}

/** Packs a strip of b, panel behind panel. */
inline void packStrip(float* packed, const Operand& b, size_t column, size_t columns, size_t k, size_t count) {
  for (size_t j = 0; j < columns; j += panelColumns) {
    packPanel(packed + j * sliceWords, panelColumns, b, column + j, columns - j < panelColumns ? columns - j : panelColumns, k, count);
  }
}

/** Brings part `part` of `parts` of what packPanel would read into the second-level cache, a line at a time. */
inline void prefetchPanel(const Operand& x, size_t member, size_t width, size_t k, size_t count, size_t part, size_t parts) {
  const size_t bytes = bytesPerElement(x.matrix.dtype), line = 64;
  const size_t rows = x.kMajor ? count : width, first = x.kMajor ? k : member, column = x.kMajor ? member : k;
  const size_t lines = ((x.kMajor ? width : count) * bytes + line - 1) / line;
  const char* data = static_cast<const char*>(x.matrix.data) + column * bytes;
  const size_t end = rows * (part + 1) / parts;
  for (size_t row = rows * part / parts; row < end; row++) {
    const char* at = data + (first + row) * x.matrix.ld * bytes;
    for (size_t i = 0; i < lines; i++) __builtin_prefetch(at + i * line, 0, 2);
  }
}

/** How two operands are brought together on this processor. */
inline Packing packingFor(const Context& context, DType a, DType b) {
  if (a != DType::bf16 && b != DType::bf16) return Packing::plain;
#if SIMD_BYTES == 64
  if (context.dotBf16) return Packing::pairs;
#endif
  (void)context;
  return Packing::rounded;
}

/** Members in `panel` of `panels`, cut so that sizes differ by at most one. */
inline size_t panelStart(size_t count, size_t panels, size_t panel) { return count * panel / panels; }
