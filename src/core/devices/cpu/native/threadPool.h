/**
 * The device's threads: the caller is thread 0, `threads - 1` workers sleep between jobs.
 *
 * A job is a number of tiles; whoever is free takes the next one from a counter, so that a core taken by another process costs its share and
 * no more. Idle threads spin for at most some twenty microseconds and then sleep: a waiting thread must never hold the core that the
 * thread it waits for needs. The order in which tiles run is not defined; kernels partition their outputs and never add across tiles.
 */
#pragma once
#include <cstddef>

namespace sparse_tuner {

/** Computes one tile. Threads are numbered from 0; each has a scratch of its own. */
using TileFunction = void (*)(void* context, size_t tile, int thread);

struct ThreadPoolState;

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  /** Runs all tiles and returns when they are done. Not reentrant; one caller. */
  void run(size_t tiles, TileFunction function, void* context);

 private:
  int threads_;
  ThreadPoolState* state_;
};

}  // namespace sparse_tuner
