/**
 * The thread pool. See threadPool.h for its rules.
 *
 * How a job is handed over: the caller writes the job, opens it (`open` = job number) and wakes sleepers. A worker first announces itself
 * (`inside`), then looks whether a job is open. The caller closes the job when the tiles have run out and waits for `inside` to reach zero.
 * Both sides write first and read second, in sequential consistency, so at least one sees the other; a worker that wakes late finds the
 * job closed and never delays it.
 */
#include "threadPool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace sparse_tuner {

namespace {

constexpr auto spinTime = std::chrono::microseconds(20);

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** Spins until `done` or the bound; true when done. The clock is read every 16 rounds only. */
template <class Done>
bool spinUntil(Done done) {
  const auto end = std::chrono::steady_clock::now() + spinTime;
  do {
    for (int round = 0; round < 16; round++) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

struct ThreadPoolState {
  std::vector<std::thread> workers;
  // The job. Written by the caller while no worker is inside an open job.
  TileFunction function = nullptr;
  void* context = nullptr;
  size_t tiles = 0;
  alignas(64) std::atomic<size_t> next{0};
  alignas(64) std::atomic<unsigned long long> open{0};  // number of the open job, 0 when closed
  std::atomic<int> inside{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> callerSleeps{false};
  std::atomic<bool> stop{false};
  unsigned long long jobs = 0;
  std::mutex mutex;
  std::condition_variable jobOpened;
  std::condition_variable workersLeft;

  void takeTiles(int thread) {
    for (;;) {
      const size_t tile = next.fetch_add(1, std::memory_order_relaxed);
      if (tile >= tiles) return;
      function(context, tile, thread);
    }
  }

  void leave() {
    if (inside.fetch_sub(1) == 1 && callerSleeps.load()) {
      std::lock_guard<std::mutex> lock(mutex);
      workersLeft.notify_one();
    }
  }

  void work(int thread) {
    unsigned long long last = 0;
    const auto newJob = [&] {
      const unsigned long long now = open.load();
      return stop.load() || (now != 0 && now != last);
    };
    for (;;) {
      if (!spinUntil(newJob)) {
        std::unique_lock<std::mutex> lock(mutex);
        sleeping.fetch_add(1);
        jobOpened.wait(lock, newJob);
        sleeping.fetch_sub(1);
      }
      if (stop.load()) return;
      inside.fetch_add(1);
      const unsigned long long job = open.load();
      if (job != 0) {
        takeTiles(thread);
        last = job;
      }
      leave();
    }
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads), state_(new ThreadPoolState) {
  for (int thread = 1; thread < threads; thread++) {
    state_->workers.emplace_back([this, thread] { state_->work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stop = true;
  }
  state_->jobOpened.notify_all();
  for (auto& worker : state_->workers) worker.join();
  delete state_;
}

void ThreadPool::run(size_t tiles, TileFunction function, void* context) {
  if (threads_ == 1 || tiles <= 1) {
    for (size_t tile = 0; tile < tiles; tile++) function(context, tile, 0);
    return;
  }
  ThreadPoolState& s = *state_;
  s.function = function;
  s.context = context;
  s.tiles = tiles;
  s.next.store(0);
  s.open.store(++s.jobs);
  if (s.sleeping.load() > 0) {
    // The lock orders this with a worker between its last look and its sleep.
    { std::lock_guard<std::mutex> lock(s.mutex); }
    s.jobOpened.notify_all();
  }
  s.takeTiles(0);
  s.open.store(0);
  const auto alone = [&] { return s.inside.load() == 0; };
  if (!spinUntil(alone)) {
    s.callerSleeps = true;
    std::unique_lock<std::mutex> lock(s.mutex);
    s.workersLeft.wait(lock, alone);
    s.callerSleeps = false;
  }
}

}  // namespace sparse_tuner
