/**
 * Reading a JavaScript call: numbers and tensors in order, each checked before anything is computed. Raw Node-API, version 8.
 *
 * A tensor arrives as two numbers, its buffer's id and the element it starts at; the op says how many elements it will touch, and the whole range
 * must lie inside the buffer. A failed check throws ArgumentError, which `call` turns into a JavaScript Error.
 */
#pragma once
#define NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED
#define NAPI_VERSION 8
#include <node_api.h>

#include <cmath>
#include <string>

#include "device.h"

namespace sparse_tuner {

/** The device with this number; throws ArgumentError for a closed or unknown one. */
Device& deviceAt(int64_t number);

/** A typed array's memory, valid during the call. */
struct Bytes {
  uint8_t* data;
  size_t length;  // elements
  napi_typedarray_type type;
};

class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env(env) {
    if (napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) != napi_ok || count_ > most) throw ArgumentError("too many arguments");
  }

  double number() {
    double value;
    if (napi_get_value_double(env, next(), &value) != napi_ok) throw ArgumentError("argument " + std::to_string(at_) + " must be a number");
    return value;
  }
  int64_t integer() {
    const double value = number();
    if (!(std::fabs(value) <= 9007199254740991.0) || value != std::floor(value)) throw ArgumentError("argument " + std::to_string(at_) + " must be an integer");
    return int64_t(value);
  }
  /** A dimension or count, ≥ 0 and below 2^40. */
  size_t size() {
    const int64_t value = integer();
    if (value < 0 || value >= (int64_t(1) << 40)) throw ArgumentError("argument " + std::to_string(at_) + " must be a size");
    return size_t(value);
  }
  bool flag() {
    bool value;
    if (napi_get_value_bool(env, next(), &value) != napi_ok) throw ArgumentError("argument " + std::to_string(at_) + " must be a boolean");
    return value;
  }
  /** A short word; longer ones are cut. */
  std::string text() {
    char word[64];
    size_t length;
    if (napi_get_value_string_utf8(env, next(), word, sizeof word, &length) != napi_ok) throw ArgumentError("argument " + std::to_string(at_) + " must be a string");
    return std::string(word, length);
  }
  Device& device() {
    device_ = &deviceAt(integer());
    return *device_;
  }
  bool isNull() {
    napi_valuetype type;
    if (napi_typeof(env, peek(), &type) != napi_ok) throw ArgumentError("missing argument");
    return type == napi_null || type == napi_undefined;
  }
  /** Skips a null given for a tensor: one value, in place of id and start. */
  void skip() { next(); }

  /** Elements [start, start + count) of a tensor of any dtype. */
  Array tensor(size_t count) {
    const int64_t id = integer();
    const size_t start = size();
    Buffer& buffer = device_->store.at(id);
    if (start > buffer.count || count > buffer.count - start) throw ArgumentError("a tensor is smaller than the op needs");
    return Array{buffer.data + start * bytesPerElement(buffer.dtype), buffer.dtype};
  }
  /** f32 or bf16. */
  Array floats(size_t count) {
    const Array x = tensor(count);
    if (x.dtype == DType::i32) throw ArgumentError("a tensor holds integers where the op computes");
    return x;
  }
  float* f32(size_t count) {
    const Array x = tensor(count);
    if (x.dtype != DType::f32) throw ArgumentError("a tensor must be f32");
    return static_cast<float*>(x.data);
  }
  const int32_t* i32(size_t count) {
    const Array x = tensor(count);
    if (x.dtype != DType::i32) throw ArgumentError("a tensor must be i32");
    return static_cast<const int32_t*>(x.data);
  }
  Matrix matrix(size_t rows, size_t columns) {
    const Array x = floats(product(rows, columns));
    return Matrix{x.data, x.dtype, columns};
  }

  Bytes typedArray() {
    Bytes bytes;
    void* data;
    napi_value buffer;
    size_t offset;
    if (napi_get_typedarray_info(env, next(), &bytes.type, &bytes.length, &data, &buffer, &offset) != napi_ok) throw ArgumentError("argument " + std::to_string(at_) + " must be a typed array");
    bytes.data = static_cast<uint8_t*>(data);
    return bytes;
  }
  /** An Int32Array. */
  const int32_t* table(size_t& length) {
    const Bytes bytes = typedArray();
    if (bytes.type != napi_int32_array) throw ArgumentError("argument " + std::to_string(at_) + " must be an Int32Array");
    length = bytes.length;
    return reinterpret_cast<const int32_t*>(bytes.data);
  }

  static size_t product(size_t a, size_t b) {
    if (b != 0 && a > (size_t(1) << 46) / b) throw ArgumentError("a tensor would be larger than any memory");
    return a * b;
  }

  /** What the JavaScript function returns; undefined unless set. */
  napi_value result = nullptr;
  napi_env env;

 private:
  static constexpr size_t most = 40;
  napi_value peek() {
    if (at_ >= count_) throw ArgumentError("missing argument");
    return values_[at_];
  }
  napi_value next() {
    const napi_value value = peek();
    at_++;
    return value;
  }

  napi_value values_[most];
  size_t count_ = most, at_ = 0;
  Device* device_ = nullptr;
};

inline bool overlaps(const void* a, size_t aBytes, const void* b, size_t bBytes) {
  const auto* x = static_cast<const char*>(a);
  const auto* y = static_cast<const char*>(b);
  return x < y + bBytes && y < x + aBytes;
}

/** Throws a JavaScript Error with `code`, and for lack of memory the bytes in its message. */
inline void throwError(napi_env env, const char* code, const std::string& message) { napi_throw_error(env, code, message.c_str()); }

template <void (*function)(Arguments&)>
napi_value call(napi_env env, napi_callback_info info) {
  try {
    Arguments arguments(env, info);
    function(arguments);
    return arguments.result;
  } catch (const ArgumentError& error) {
    throwError(env, "argument", error.what());
  } catch (const GuardError& error) {
    throwError(env, "guard", error.what());
  } catch (const OutOfMemory& error) {
    throwError(env, "out-of-memory", std::to_string(error.needed) + " " + std::to_string(error.available));
  } catch (const std::bad_alloc&) {
    throwError(env, "out-of-memory", "0 0");
  } catch (const std::exception& error) {
    throwError(env, "internal", error.what());
  }
  return nullptr;
}

using Callback = napi_value (*)(napi_env, napi_callback_info);
/** Puts a function on the exports object. */
inline void exportFunction(napi_env env, napi_value exports, const char* name, Callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

// Each bind*.cc file exports its family.
void exportMemory(napi_env env, napi_value exports);
void exportLayers(napi_env env, napi_value exports);
void exportBlocks(napi_env env, napi_value exports);
void exportHessian(napi_env env, napi_value exports);
void exportAdapters(napi_env env, napi_value exports);
void exportQuantization(napi_env env, napi_value exports);

}  // namespace sparse_tuner
