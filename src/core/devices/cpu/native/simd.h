/**
 * Vectors of one instruction set, by the compiler's own vector types: `+ - * <` and `? :` work on them lane by lane.
 * Included only by kernelTable.h, inside an unnamed namespace: the same names mean different widths in different files.
 *
 * bf16 is rounded to nearest, ties to even; a NaN stays a NaN. `exponential` is our own, relative error below 2e-7.
 */

#if defined(__AVX512F__)
#define SIMD_BYTES 64
#define SIMD_REGISTER_CONSTRAINT "+v"
#elif defined(__AVX2__)
#define SIMD_BYTES 32
#define SIMD_REGISTER_CONSTRAINT "+x"
#elif defined(__aarch64__)
#define SIMD_BYTES 16
#define SIMD_REGISTER_CONSTRAINT "+w"
#elif defined(__x86_64__)
#define SIMD_BYTES 16
#define SIMD_REGISTER_CONSTRAINT "+x"
#else
#define SIMD_BYTES 16
#endif

constexpr size_t lanes = SIMD_BYTES / 4;

typedef float VectorF __attribute__((vector_size(SIMD_BYTES)));
typedef int32_t VectorI __attribute__((vector_size(SIMD_BYTES)));
typedef uint32_t VectorU __attribute__((vector_size(SIMD_BYTES)));
typedef uint16_t VectorH __attribute__((vector_size(SIMD_BYTES / 2)));
typedef float UnalignedF __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));
typedef int32_t UnalignedI __attribute__((vector_size(SIMD_BYTES), aligned(4), may_alias));
typedef uint16_t UnalignedH __attribute__((vector_size(SIMD_BYTES / 2), aligned(2), may_alias));

inline VectorF broadcast(float x) { return x - VectorF{}; }
inline VectorI broadcastInt(int32_t x) { return x - VectorI{}; }
inline VectorF load(const float* p) { return *reinterpret_cast<const UnalignedF*>(p); }
inline VectorI loadInt(const int32_t* p) { return *reinterpret_cast<const UnalignedI*>(p); }
inline void store(float* p, VectorF x) { *reinterpret_cast<UnalignedF*>(p) = x; }

/** The first `count` lanes from memory, zero beyond; count < lanes. */
inline VectorF loadFirst(const float* p, size_t count) {
#if SIMD_BYTES == 64
  return (VectorF)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
#else
  float lane[lanes] = {};
  for (size_t i = 0; i < count; i++) lane[i] = p[i];
  return load(lane);
#endif
}

// bf16

inline VectorF widen(VectorH x) { return (VectorF)(__builtin_convertvector(x, VectorU) << 16); }
inline VectorF load(const uint16_t* p) { return widen(*reinterpret_cast<const UnalignedH*>(p)); }
inline VectorF loadFirst(const uint16_t* p, size_t count) {
#if SIMD_BYTES == 64
  return widen((VectorH)_mm256_maskz_loadu_epi16(__mmask16((1u << count) - 1), p));
#else
  uint16_t lane[lanes] = {};
  for (size_t i = 0; i < count; i++) lane[i] = p[i];
  return load(lane);
#endif
}

/** Rounded to bf16, in the upper half of each lane; the lower half is not cleared. */
inline VectorU roundBits(VectorF x) {
  const VectorU bits = (VectorU)x;
  const VectorU rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const VectorU quiet = bits | 0x00400000u;
  return (VectorU)(x == x ? (VectorI)rounded : (VectorI)quiet);
}
inline VectorF roundToBf16(VectorF x) { return (VectorF)(roundBits(x) & 0xffff0000u); }
inline void store(uint16_t* p, VectorF x) { *reinterpret_cast<UnalignedH*>(p) = __builtin_convertvector(roundBits(x) >> 16, VectorH); }

inline uint16_t toBf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (x != x) return uint16_t((bits | 0x00400000u) >> 16);
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float fromBf16(uint16_t x) {
  const uint32_t bits = uint32_t(x) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
inline float toFloat(float x) { return x; }
inline float toFloat(uint16_t x) { return fromBf16(x); }

// Reductions and functions

/** Adds the lanes pairwise, in a fixed order. */
inline float sumLanes(VectorF x) {
  float lane[lanes];
  store(lane, x);
  for (size_t width = lanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; i++) lane[i] += lane[i + width];
  }
  return lane[0];
}

/** The larger in each lane; NaN in `x` is passed over. */
inline VectorF larger(VectorF x, VectorF y) { return x > y ? x : y; }

inline float largestLane(VectorF x) {
  float lane[lanes];
  store(lane, x);
  float largest = lane[0];
  for (size_t i = 1; i < lanes; i++) largest = lane[i] > largest ? lane[i] : largest;
  return largest;
}

/** x·2^n for whole n between −150 and 128; 2^128 and 2^−150 alone are no floats. */
inline VectorF timesPowerOfTwo(VectorF x, VectorF n) {
#if SIMD_BYTES == 64
  return (VectorF)_mm512_maskz_scalef_ps(__mmask16(0xffff), (__m512)x, (__m512)n);  // the unmasked form warns in gcc 12
#else
  const VectorI exponent = __builtin_convertvector(n, VectorI), half = exponent >> 1;
  return x * (VectorF)((half + 127) << 23) * (VectorF)((exponent - half + 127) << 23);
#endif
}

/**
 * e^x: x = n·ln 2 + r with |r| ≤ ln 2 / 2, a polynomial in r, times 2^n. Subnormal results are kept; beyond −104 and 89 it is 0 and infinity; NaN stays NaN.
 */
inline VectorF exponential(VectorF x) {
  const VectorF smallest = broadcast(-104.0f), largest = broadcast(89.0f);
  x = smallest > x ? smallest : x;  // in this order NaN passes, and it is one instruction
  x = largest < x ? largest : x;
  const VectorF magic = broadcast(12582912.0f);  // 1.5·2^23: adding it rounds to a whole number
  const VectorF n = (x * 1.44269504088896341f + magic) - magic;
  VectorF r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  // e^r = 1 + r + r²·p(r), p fitted by least squares at 400 Chebyshev nodes: 4e-9 before rounding.
  VectorF p = broadcast(0.001375115011f);
  p = p * r + 0.008368987590f;
  p = p * r + 0.04166954383f;
  p = p * r + 0.1666651815f;
  p = p * r + 0.4999998808f;
  p = p * (r * r) + r + 1.0f;
  return timesPowerOfTwo(p, n);
}

/** Well mixed bits of one number, or of a vector of them: what dropoutHash.ts makes of seed ^ index. */
template <class U>
inline U mixBits(U h) {
  h ^= h >> 16;
  h *= 0x21f0aaadu;
  h ^= h >> 15;
  h *= 0x735a2d97u;
  return h ^ (h >> 15);
}

// Transposition

#if SIMD_BYTES == 64
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define EVEN_LANES(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD_LANES(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif SIMD_BYTES == 32
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define EVEN_LANES(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD_LANES(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define EVEN_LANES(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define ODD_LANES(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif

/** Transposes a lanes × lanes square held in registers: log2(lanes) rounds of interleaving row i with row i + lanes/2. */
inline void transposeSquare(VectorF (&rows)[lanes]) {
  VectorF other[lanes];
  size_t rounds = 0;
#pragma GCC unroll 4
  for (size_t width = lanes; width > 1; width /= 2, rounds++) {
    VectorF(&from)[lanes] = rounds % 2 ? other : rows;
    VectorF(&to)[lanes] = rounds % 2 ? rows : other;
#pragma GCC unroll 8
    for (size_t i = 0; i < lanes / 2; i++) {
      to[2 * i] = ZIP_LOW(from[i], from[i + lanes / 2]);
      to[2 * i + 1] = ZIP_HIGH(from[i], from[i + lanes / 2]);
    }
  }
  if (rounds % 2) {
#pragma GCC unroll 16
    for (size_t i = 0; i < lanes; i++) rows[i] = other[i];
  }
}

// Stretches of a tensor as f32

/** Elements worked on at a time by element-wise ops: buffers of this size live on the stack. */
constexpr size_t stretch = 512;

/** `count` elements from `offset` as f32: in place for f32, else converted into `buffer`. */
inline const float* fetch(Array x, size_t offset, size_t count, float* buffer) {
  if (x.dtype == DType::f32) return static_cast<const float*>(x.data) + offset;
  const uint16_t* from = static_cast<const uint16_t*>(x.data) + offset;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) store(buffer + i, load(from + i));
  for (; i < count; i++) buffer[i] = fromBf16(from[i]);
  return buffer;
}

/** Writes `count` f32 to `offset`, rounding for bf16. `values` may be the destination itself. */
inline void put(Array x, size_t offset, size_t count, const float* values) {
  if (x.dtype == DType::f32) {
    float* to = static_cast<float*>(x.data) + offset;
    if (to != values) __builtin_memmove(to, values, count * sizeof(float));
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(x.data) + offset;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(values + i));
  for (; i < count; i++) to[i] = toBf16(values[i]);
}

/** Where results of `count` elements at `offset` may be formed: the tensor itself if f32, else `buffer`; follow with put(). */
inline float* target(Array x, size_t offset, float* buffer) {
  return x.dtype == DType::f32 ? static_cast<float*>(x.data) + offset : buffer;
}

// Parallel loops

/** body(tile, thread) for every tile, over the pool. */
template <class Body>
inline void parallel(Context& context, size_t tiles, Body body) {
  context.pool->run(tiles, [](void* opaque, size_t tile, int thread) { (*static_cast<Body*>(opaque))(tile, thread); }, &body);
}

/** body(begin, end, thread) over [0, count) in tiles of `grain`; the last may be shorter. */
template <class Body>
inline void parallelRange(Context& context, size_t count, size_t grain, Body body) {
  parallel(context, (count + grain - 1) / grain, [&](size_t tile, int thread) {
    const size_t begin = tile * grain;
    body(begin, begin + grain < count ? begin + grain : count, thread);
  });
}

/** Rows to a tile so that a tile holds about `elements`. */
inline size_t rowsPerTile(size_t columns, size_t elements) {
  const size_t rows = elements / (columns ? columns : 1);
  return rows ? rows : 1;
}

/** body(at, width) over [0, count) in stretches. */
template <class Body>
inline void overStretches(size_t count, Body body) {
  for (size_t at = 0; at < count; at += stretch) body(at, count - at < stretch ? count - at : stretch);
}

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
