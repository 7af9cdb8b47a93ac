/** One CPU device: its threads, its memory, its scratch and the kernels it runs. */
#pragma once
#include <algorithm>

#include "isa.h"
#include "tensorStore.h"

namespace sparse_tuner {

/** Bytes of scratch a device of this many threads holds for its whole life; the ledger counts them as "workspace". */
inline size_t workspaceBytes(int threads) { return sharedScratchBytes + size_t(threads) * threadScratchBytes; }

struct Device {
  ThreadPool pool;
  InstructionSet isa;
  TensorStore store;
  Mapping workspace;
  Context context;

  Device(int threads, const InstructionSet& isa) : pool(threads), isa(isa), workspace(mapMemory(workspaceBytes(threads))) {
    float* shared = reinterpret_cast<float*>(workspace.base);
    context = Context{&pool, shared, shared + sharedScratchBytes / sizeof(float), isa.dotBf16};
  }
  ~Device() { unmapMemory(workspace); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Kernels& kernels() const { return *isa.kernels; }

  /** Brings fresh pages in, shared among the threads: a page that is not there would cost its first user the same. */
  void touch(uint8_t* at, size_t bytes) {
    struct Pages {
      uint8_t* at;
      size_t bytes;
    } pages{at, bytes};
    constexpr size_t piece = size_t(2) << 20, page = 4096;
    pool.run((bytes + piece - 1) / piece, [](void* context, size_t tile, int) {
      const Pages& p = *static_cast<Pages*>(context);
      const size_t end = std::min(p.bytes, (tile + 1) * piece);
      for (size_t i = tile * piece; i < end; i += page) *static_cast<volatile uint8_t*>(p.at + i) = 0;
    }, &pages);
  }
};

}  // namespace sparse_tuner
