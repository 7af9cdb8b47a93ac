/** Tensors: allocate, free, write, load, read, fill, copy, guards. */
#include <cstring>
#include <vector>

#include "arguments.h"

namespace sparse_tuner {

namespace {

/** allocate(device, count, dtype, poolAllowance) → id */
void allocate(Arguments& a) {
  Device& device = a.device();
  const int64_t count = a.integer(), dtype = a.integer();
  if (count < 0 || dtype < 0 || dtype > 2) throw ArgumentError("no such tensor");
  const size_t allowance = a.size();
  const auto touch = [](void* context, uint8_t* at, size_t bytes) { static_cast<Device*>(context)->touch(at, bytes); };
  napi_create_int64(a.env, device.store.allocate(size_t(count), DType(dtype), allowance, touch, &device), &a.result);
}

void free(Arguments& a) {
  Device& device = a.device();
  device.store.free(a.integer());
}

void checkGuards(Arguments& a) {
  Device& device = a.device();
  device.store.checkGuards(device.store.at(a.integer()));
}

/** pooledBytes(device) → bytes kept for reuse */
void pooledBytes(Arguments& a) { napi_create_double(a.env, double(a.device().store.pooledBytes()), &a.result); }

/** write(device, tensor, Float32Array | Int32Array) */
void write(Arguments& a) {
  Device& device = a.device();
  const int64_t id = a.integer();
  const size_t start = a.size();
  const Bytes from = a.typedArray();
  Buffer& buffer = device.store.at(id);
  if (start > buffer.count || from.length > buffer.count - start) throw ArgumentError("more elements are written than the tensor has");
  const bool integers = buffer.dtype == DType::i32;
  if (from.type != (integers ? napi_int32_array : napi_float32_array)) throw ArgumentError("the tensor's dtype and the array's do not agree");
  const Array to{buffer.data + start * bytesPerElement(buffer.dtype), buffer.dtype};
  device.kernels().copy(device.context, to, Array{from.data, integers ? DType::i32 : DType::f32}, from.length);
}

/** load(device, tensor, count, bytes, stored) → index of the first element that is not finite, or −1 */
void load(Arguments& a) {
  Device& device = a.device();
  const int64_t id = a.integer();
  const size_t start = a.size(), count = a.size();
  const Bytes from = a.typedArray();
  const int64_t stored = a.integer();
  if (stored < 0 || stored > 2) throw ArgumentError("unknown stored dtype");
  Buffer& buffer = device.store.at(id);
  if (buffer.dtype == DType::i32) throw ArgumentError("a tensor of integers cannot be loaded");
  if (from.type != napi_uint8_array || from.length != count * (stored == 0 ? 4 : 2)) throw ArgumentError("the bytes do not hold that many elements");
  if (start > buffer.count || count > buffer.count - start) throw ArgumentError("more elements are loaded than the tensor has");
  std::vector<size_t> bad((count + loadChunk - 1) / loadChunk, SIZE_MAX);
  const Array to{buffer.data + start * bytesPerElement(buffer.dtype), buffer.dtype};
  device.kernels().load(device.context, to, from.data, StoredAs(stored), count, bad.data());
  int64_t first = -1;
  for (size_t index : bad) {
    if (index == SIZE_MAX) continue;
    first = int64_t(index);
    break;
  }
  napi_create_int64(a.env, first, &a.result);
}

/** read(device, tensor, Float32Array | Int32Array): fills the array */
void read(Arguments& a) {
  Device& device = a.device();
  const int64_t id = a.integer();
  const size_t start = a.size();
  const Bytes to = a.typedArray();
  Buffer& buffer = device.store.at(id);
  if (start > buffer.count || to.length > buffer.count - start) throw ArgumentError("more elements are read than the tensor has");
  const bool integers = buffer.dtype == DType::i32;
  if (to.type != (integers ? napi_int32_array : napi_float32_array)) throw ArgumentError("the tensor's dtype and the array's do not agree");
  const Array from{buffer.data + start * bytesPerElement(buffer.dtype), buffer.dtype};
  device.kernels().copy(device.context, Array{to.data, integers ? DType::i32 : DType::f32}, from, to.length);
}

/** fill(device, tensor, count, value) */
void fill(Arguments& a) {
  Device& device = a.device();
  const int64_t id = a.integer();
  const size_t start = a.size(), count = a.size();
  Buffer& buffer = device.store.at(id);
  if (start > buffer.count || count > buffer.count - start) throw ArgumentError("more elements are filled than the tensor has");
  device.kernels().fill(device.context, Array{buffer.data + start * bytesPerElement(buffer.dtype), buffer.dtype}, count, float(a.number()));
}

/** copy(device, count, out, x) */
void copy(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array out = a.tensor(count), x = a.tensor(count);
  if ((out.dtype == DType::i32) != (x.dtype == DType::i32)) throw ArgumentError("integers cannot be copied to floats");
  device.kernels().copy(device.context, out, x, count);
}

/** sumSquares(device, tensor, count) → Σx² in f64 */
void sumSquares(Arguments& a) {
  Device& device = a.device();
  const size_t count = a.size();
  const Array x = a.floats(count);
  std::vector<double> sums((count + sumChunk - 1) / sumChunk, 0.0);
  device.kernels().sumSquares(device.context, sums.data(), x, count);
  double total = 0;
  for (double sum : sums) total += sum;
  napi_create_double(a.env, total, &a.result);
}

}  // namespace

void exportMemory(napi_env env, napi_value exports) {
  exportFunction(env, exports, "allocate", call<allocate>);
  exportFunction(env, exports, "free", call<free>);
  exportFunction(env, exports, "checkGuards", call<checkGuards>);
  exportFunction(env, exports, "pooledBytes", call<pooledBytes>);
  exportFunction(env, exports, "write", call<write>);
  exportFunction(env, exports, "load", call<load>);
  exportFunction(env, exports, "read", call<read>);
  exportFunction(env, exports, "fill", call<fill>);
  exportFunction(env, exports, "copy", call<copy>);
  exportFunction(env, exports, "sumSquares", call<sumSquares>);
}

}  // namespace sparse_tuner
