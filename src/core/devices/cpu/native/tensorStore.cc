/** Buffers, guards and the pool. See tensorStore.h for the rules. */
#include "tensorStore.h"

#include <cstring>

namespace sparse_tuner {

namespace {

constexpr size_t guardBytes = 64;
constexpr uint8_t guardPattern = 0xA5;
/** Pages are dropped in pieces of this size, that of a huge page; smaller buffers are given back whole. */
constexpr size_t dropPiece = size_t(2) << 20;

void setGuards(const Buffer& buffer) {
  std::memset(buffer.data - guardBytes, guardPattern, guardBytes);
  std::memset(buffer.data + buffer.bytes, guardPattern, guardBytes);
}

bool intact(const uint8_t* zone) {
  for (size_t i = 0; i < guardBytes; i++) {
    if (zone[i] != guardPattern) return false;
  }
  return true;
}

}  // namespace

TensorStore::~TensorStore() {
  for (auto& entry : live_) unmapMemory(entry.second.mapping);
  evictTo(0);
}

int64_t TensorStore::allocate(size_t count, DType dtype, size_t poolAllowance, void (*touch)(void*, uint8_t*, size_t), void* context) {
  const size_t bytes = count * bytesPerElement(dtype);
  Buffer buffer;
  for (size_t i = pool_.size(); i-- > 0;) {
    if (pool_[i].bytes != bytes) continue;
    buffer = pool_[i];
    pool_.erase(pool_.begin() + long(i));
    pooledBytes_ -= bytes - buffer.dropped;
    break;
  }
  evictTo(poolAllowance);
  if (!buffer.data) {
    try {
      buffer.mapping = mapMemory(bytes + 2 * guardBytes);
    } catch (const OutOfMemory&) {
      // What the pool keeps may be what is missing.
      if (pooledBytes_ == 0) throw;
      evictTo(0);
      buffer.mapping = mapMemory(bytes + 2 * guardBytes);
    }
    buffer.data = buffer.mapping.base + guardBytes;
    buffer.bytes = bytes;
    if (buffer.mapping.mapped) touch(context, buffer.mapping.base, buffer.mapping.bytes);
  } else if (buffer.dropped) {
    touch(context, buffer.mapping.base + buffer.mapping.bytes - buffer.dropped, buffer.dropped);
    buffer.dropped = 0;
  }
  buffer.dtype = dtype;
  buffer.count = count;
  setGuards(buffer);
  const int64_t id = nextId_++;
  live_.emplace(id, buffer);
  return id;
}

void TensorStore::free(int64_t id) {
  const Buffer buffer = at(id);
  live_.erase(id);
  pool_.push_back(buffer);
  pooledBytes_ += buffer.bytes;
  checkGuards(buffer);
}

Buffer& TensorStore::at(int64_t id) {
  const auto found = live_.find(id);
  if (found == live_.end()) throw ArgumentError("unknown or freed tensor");
  return found->second;
}

void TensorStore::checkGuards(const Buffer& buffer) const {
  if (!intact(buffer.data - guardBytes)) throw GuardError("memory before a tensor was overwritten");
  if (!intact(buffer.data + buffer.bytes)) throw GuardError("memory after a tensor was overwritten");
}

void TensorStore::evictTo(size_t bytes) {
  size_t gone = 0;
  while (pooledBytes_ > bytes) {
    Buffer& oldest = pool_[gone];
    // Whole huge pages stay at the mapping's start; if none would, the buffer goes.
    const size_t wanted = oldest.dropped + (pooledBytes_ - bytes);
    const size_t keep = wanted < oldest.mapping.bytes ? (oldest.mapping.bytes - wanted) / dropPiece * dropPiece : 0;
    if (keep > 0 && dropPages(oldest.mapping, oldest.mapping.bytes - keep)) {
      pooledBytes_ -= oldest.mapping.bytes - keep - oldest.dropped;
      oldest.dropped = oldest.mapping.bytes - keep;
    } else {
      pooledBytes_ -= oldest.bytes - oldest.dropped;
      unmapMemory(oldest.mapping);
      gone++;
    }
  }
  pool_.erase(pool_.begin(), pool_.begin() + long(gone));
}

}  // namespace sparse_tuner
