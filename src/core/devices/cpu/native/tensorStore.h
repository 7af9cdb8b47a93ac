/**
 * The device's memory: buffers by id, each with guard zones, and a pool of freed ones for reuse.
 *
 * The rule to keep: live + pooled bytes never exceed the ledger's peak. The caller says with each allocation how many bytes the pool may hold
 * beside the live ones; older pooled buffers are given back to the system before a new one is mapped. Large buffers are mappings of their own,
 * so that what is given back leaves the process; of a very large one only as many pages as are wanted.
 */
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels.h"

namespace sparse_tuner {

/** A bad argument: an unknown id, a range outside a tensor, a wrong dtype. Becomes a JavaScript Error; nothing was touched. */
struct ArgumentError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** The system has no memory for a buffer. Nothing changed. */
struct OutOfMemory : std::runtime_error {
  OutOfMemory(size_t needed, size_t available) : std::runtime_error("out of memory"), needed(needed), available(available) {}
  size_t needed, available;
};

/** A guard zone was overwritten: a defect in a kernel. */
struct GuardError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/** A piece of memory from the system. */
struct Mapping {
  uint8_t* base = nullptr;
  size_t bytes = 0;
  bool mapped = false;
};

struct Buffer {
  Mapping mapping;
  uint8_t* data = nullptr;  // 64-byte aligned
  size_t dropped = 0;       // bytes at the mapping's end whose pages were given back while pooled
  size_t bytes = 0;
  size_t count = 0;
  DType dtype = DType::f32;
};

class TensorStore {
 public:
  ~TensorStore();
  /** A new buffer; `poolAllowance` is what the pool may hold afterwards. `touch` brings fresh pages in (given the pages' start and size). */
  int64_t allocate(size_t count, DType dtype, size_t poolAllowance, void (*touch)(void* context, uint8_t* at, size_t bytes), void* context);
  void free(int64_t id);
  Buffer& at(int64_t id);
  /** Throws GuardError when bytes before or after the buffer were changed. */
  void checkGuards(const Buffer& buffer) const;
  size_t pooledBytes() const { return pooledBytes_; }

 private:
  void evictTo(size_t bytes);

  std::unordered_map<int64_t, Buffer> live_;
  std::vector<Buffer> pool_;  // oldest first
  size_t pooledBytes_ = 0;
  int64_t nextId_ = 1;
};

/** Gives the pages of the last `bytes` of a mapping back but keeps its addresses; false where the system has no such call. */
bool dropPages(const Mapping& mapping, size_t bytes);
/** Zeroed memory of the system, 64-byte aligned; throws OutOfMemory. Large ones are mapped, on huge pages where the system offers them. */
Mapping mapMemory(size_t bytes);
void unmapMemory(const Mapping& mapping);
/** Bytes the system could still give this process; SIZE_MAX where it cannot be asked. Minds the limits of a container. */
size_t availableMemory();

}  // namespace sparse_tuner
