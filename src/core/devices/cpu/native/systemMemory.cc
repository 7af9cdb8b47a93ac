/**
 * Memory from the system: what it still has, mapping and giving back. The only file that knows operating systems' memory calls.
 *
 * Linux overcommits: a mapping nearly always succeeds and the process is killed when it is used. So before a large mapping the system is asked
 * what it has left, /proc/meminfo and the container's limits, and the mapping is refused while there is still somebody to say so.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tensorStore.h"

#if defined(__unix__) || defined(__APPLE__)
#define HAS_MMAP 1
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace sparse_tuner {

namespace {

constexpr size_t hugePage = size_t(2) << 20;
/** From this size on a buffer is a mapping of its own. */
constexpr size_t leastMapping = size_t(64) << 10;
/** Asking the system costs some ten microseconds; small buffers are not worth it. */
constexpr size_t leastChecked = size_t(1) << 20;
/** Left to the rest of the process. */
constexpr size_t reserve = size_t(64) << 20;

#if defined(__linux__)
/** The number after `key` in a file of the kernel; SIZE_MAX when absent or "max". */
size_t readNumber(const char* path, const char* key, size_t unit) {
  std::FILE* file = std::fopen(path, "r");
  if (!file) return SIZE_MAX;
  char line[256];
  size_t result = SIZE_MAX;
  const size_t length = std::strlen(key);
  while (std::fgets(line, sizeof line, file)) {
    if (std::strncmp(line, key, length) != 0) continue;
    char* end = nullptr;
    const unsigned long long number = std::strtoull(line + length, &end, 10);
    if (end != line + length) result = size_t(number) * unit;
    break;
  }
  std::fclose(file);
  return result;
}

size_t containerLeft(const char* limitPath, const char* usedPath, const char* statPath, const char* cacheKey) {
  const size_t limit = readNumber(limitPath, "", 1), used = readNumber(usedPath, "", 1);
  if (limit == SIZE_MAX || used == SIZE_MAX) return SIZE_MAX;
  const size_t cache = readNumber(statPath, cacheKey, 1);  // files' pages, which the kernel drops first
  const size_t held = cache == SIZE_MAX || cache > used ? used : used - cache;
  return held >= limit ? 0 : limit - held;
}
#endif

}  // namespace

size_t availableMemory() {
#if defined(__linux__)
  size_t left = readNumber("/proc/meminfo", "MemAvailable:", 1024);
  const size_t version2 = containerLeft("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file ");
  const size_t version1 = containerLeft("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat", "total_inactive_file ");
  if (version2 < left) left = version2;
  if (version1 < left) left = version1;
  return left;
#else
  return SIZE_MAX;
#endif
}

Mapping mapMemory(size_t bytes) {
  if (bytes >= leastChecked) {
    const size_t available = availableMemory();
    if (available < reserve || available - reserve < bytes) throw OutOfMemory(bytes, available);
  }
  Mapping mapping;
#if HAS_MMAP
  if (bytes >= leastMapping) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    mapping.bytes = (bytes + page - 1) / page * page;
    mapping.mapped = true;
    // Huge pages want their own alignment: map more, give the ends back.
    const size_t slack = mapping.bytes >= hugePage ? hugePage : 0;
    void* at = mmap(nullptr, mapping.bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw OutOfMemory(bytes, availableMemory());
    uint8_t* start = static_cast<uint8_t*>(at);
    if (slack) {
      uint8_t* aligned = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(start) + hugePage - 1) / hugePage * hugePage);
      if (aligned != start) munmap(start, size_t(aligned - start));
      if (aligned + mapping.bytes != start + mapping.bytes + slack) munmap(aligned + mapping.bytes, size_t(start + slack - aligned));
      start = aligned;
#if defined(MADV_HUGEPAGE)
      // Not the last, partial huge page: it would hold memory nobody asked for.
      madvise(start, mapping.bytes / hugePage * hugePage, MADV_HUGEPAGE);
#endif
    }
    mapping.base = start;
    return mapping;
  }
#endif
  mapping.bytes = bytes;
  mapping.base = static_cast<uint8_t*>(::operator new(bytes, std::align_val_t(64), std::nothrow));
  if (!mapping.base) throw OutOfMemory(bytes, availableMemory());
  return mapping;
}

bool dropPages(const Mapping& mapping, size_t bytes) {
#if defined(__linux__)
  // Elsewhere the call only allows the system to take the pages some day.
  return mapping.mapped && bytes <= mapping.bytes && madvise(mapping.base + mapping.bytes - bytes, bytes, MADV_DONTNEED) == 0;
#else
  (void)mapping, (void)bytes;
  return false;
#endif
}

void unmapMemory(const Mapping& mapping) {
#if HAS_MMAP
  if (mapping.mapped) {
    munmap(mapping.base, mapping.bytes);
    return;
  }
#endif
  ::operator delete(mapping.base, std::align_val_t(64));
}

}  // namespace sparse_tuner
