/**
 * Fills, copies between dtypes, and the conversion of file bytes. Included only by kernelTable.h.
 * All of it is bound by memory; tiles are large enough that handing them out costs nothing.
 */

inline void fill(Context& context, Array out, size_t count, float value) {
  parallelRange(context, count, 1 << 17, [&](size_t begin, size_t end, int) {
    if (out.dtype == DType::bf16) {
      uint16_t* to = static_cast<uint16_t*>(out.data);
      const uint16_t bits = toBf16(value);
      for (size_t i = begin; i < end; i++) to[i] = bits;
    } else if (out.dtype == DType::i32) {
      int32_t* to = static_cast<int32_t*>(out.data);
      for (size_t i = begin; i < end; i++) to[i] = int32_t(value);
    } else {
      float* to = static_cast<float*>(out.data);
      for (size_t i = begin; i < end; i++) to[i] = value;
    }
  });
}

inline void copy(Context& context, Array out, Array x, size_t count) {
  parallelRange(context, count, 1 << 16, [&](size_t begin, size_t end, int) {
    if (out.dtype == x.dtype) {
      const size_t bytes = bytesPerElement(x.dtype);
      __builtin_memmove(static_cast<char*>(out.data) + begin * bytes, static_cast<const char*>(x.data) + begin * bytes, (end - begin) * bytes);
    } else if (x.dtype == DType::f32) {
      put(out, begin, end - begin, static_cast<const float*>(x.data) + begin);
    } else {
      fetch(x, begin, end - begin, static_cast<float*>(out.data) + begin);
    }
  });
}

/** f16 to f32 by integers: subnormals are normalised by a float subtraction, infinity and NaN keep their kind. */
inline VectorF widenHalf(VectorH x) {
  const VectorU bits = __builtin_convertvector(x, VectorU);
  const VectorU sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
  const VectorU normal = (magnitude << 13) + (112u << 23);
  const VectorU special = (magnitude << 13) | 0x7f800000u;
  const VectorU subnormal = (VectorU)((VectorF)(magnitude | 0x4b000000u) - 8388608.0f);  // magnitude as a float, times 2^-24 below
  const VectorU small = (VectorU)((VectorF)subnormal * 5.9604644775390625e-8f);
  VectorI result = magnitude < 0x0400u ? (VectorI)small : (VectorI)normal;
  result = magnitude >= 0x7c00u ? (VectorI)special : result;
  return (VectorF)((VectorU)result | sign);
}

template <StoredAs S>
inline VectorF loadStored(const uint8_t* p) {
  if constexpr (S == StoredAs::f32) {
    return load(reinterpret_cast<const float*>(p));
  } else {
    const VectorH half = *reinterpret_cast<const UnalignedH*>(p);
    if constexpr (S == StoredAs::bf16) return widen(half);
    else return widenHalf(half);
  }
}

/** Converts [0, count) and returns the index of the first element that is not finite, or SIZE_MAX. */
template <StoredAs S>
inline size_t loadSpan(Array out, size_t offset, const uint8_t* bytes, size_t count) {
  constexpr size_t size = S == StoredAs::f32 ? 4 : 2;
  size_t bad = SIZE_MAX;
  for (size_t i = 0; i < count; i += lanes) {
    const size_t left = count - i < lanes ? count - i : lanes;
    uint8_t tail[lanes * size] = {};
    const uint8_t* from = bytes + i * size;
    if (left < lanes) {
      __builtin_memcpy(tail, from, left * size);
      from = tail;
    }
    const VectorF x = loadStored<S>(from);
    const VectorI unfit = (VectorI)((VectorU)x & 0x7f800000u) == 0x7f800000;
    if (bad == SIZE_MAX) {
      int32_t any = 0;
      for (size_t lane = 0; lane < lanes; lane++) any |= unfit[lane];
      if (any) {
        size_t lane = 0;
        while (!unfit[lane]) lane++;
        bad = i + lane;
      }
    }
    float values[lanes];
    if (left == lanes && out.dtype == DType::f32) store(static_cast<float*>(out.data) + offset + i, x);
    else if (left == lanes) store(static_cast<uint16_t*>(out.data) + offset + i, x);
    else {
      store(values, x);
      put(out, offset + i, left, values);
    }
  }
  return bad;
}

inline void loadBytes(Context& context, Array out, const uint8_t* bytes, StoredAs stored, size_t count, size_t* badIndex) {
  parallelRange(context, count, loadChunk, [&](size_t begin, size_t end, int) {
    const size_t size = stored == StoredAs::f32 ? 4 : 2;
    const uint8_t* from = bytes + begin * size;
    size_t bad;
    if (stored == StoredAs::f32) bad = loadSpan<StoredAs::f32>(out, begin, from, end - begin);
    else if (stored == StoredAs::bf16) bad = loadSpan<StoredAs::bf16>(out, begin, from, end - begin);
    else bad = loadSpan<StoredAs::f16>(out, begin, from, end - begin);
    badIndex[begin / loadChunk] = bad == SIZE_MAX ? bad : begin + bad;
  });
}
