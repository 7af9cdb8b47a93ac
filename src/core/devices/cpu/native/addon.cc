/** The addon's entry: the table of open devices, opening and closing them, and the measured peak. Ops are in bind*.cc. */
#include <memory>
#include <unordered_map>

#include "arguments.h"
#include "peak.h"

namespace sparse_tuner {

namespace {

std::unordered_map<int64_t, std::unique_ptr<Device>>& devices() {
  // One table for each JavaScript thread. Never destroyed: workers must not be joined while the process tears itself down.
  static thread_local auto* table = new std::unordered_map<int64_t, std::unique_ptr<Device>>;
  return *table;
}
thread_local int64_t nextDevice = 1;
constexpr int64_t mostThreads = 1024;

int threadCount(Arguments& a) {
  const int64_t threads = a.integer();
  if (threads < 1 || threads > mostThreads) throw ArgumentError("threads must be between 1 and 1024");
  return int(threads);
}

/** Reads the name of the best instruction set allowed, "" for no limit. */
InstructionSet instructionSet(Arguments& a) {
  const std::string most = a.text();
  return chooseInstructionSet(most.empty() ? nullptr : most.c_str());
}

/** open(threads, most) → device number */
void open(Arguments& a) {
  const int threads = threadCount(a);
  auto device = std::make_unique<Device>(threads, instructionSet(a));
  device->touch(device->workspace.base, device->workspace.bytes);
  const int64_t number = nextDevice++;
  devices().emplace(number, std::move(device));
  napi_create_int64(a.env, number, &a.result);
}

/** close(device): ends its threads and frees its memory. */
void close(Arguments& a) {
  const int64_t number = a.integer();
  deviceAt(number);
  devices().erase(number);
}

/** describe(device) → "AVX-512 with bf16" and the like. */
void describe(Arguments& a) { napi_create_string_utf8(a.env, a.device().isa.description, NAPI_AUTO_LENGTH, &a.result); }

void workspace(Arguments& a) { napi_create_double(a.env, double(workspaceBytes(threadCount(a))), &a.result); }

/** peak(most, bf16, threads, seconds) → FLOP/s. */
void peak(Arguments& a) {
  const InstructionSet isa = instructionSet(a);
  const bool bf16 = a.flag();
  const int threads = threadCount(a);
  napi_create_double(a.env, measurePeak(bf16, isa.dotBf16, isa.vectorBytes, threads, a.number()), &a.result);
}

napi_value initialize(napi_env env, napi_value exports) {
  exportFunction(env, exports, "open", call<open>);
  exportFunction(env, exports, "close", call<close>);
  exportFunction(env, exports, "describe", call<describe>);
  exportFunction(env, exports, "workspaceBytes", call<workspace>);
  exportFunction(env, exports, "peak", call<peak>);
  exportMemory(env, exports);
  exportLayers(env, exports);
  exportBlocks(env, exports);
  exportHessian(env, exports);
  exportAdapters(env, exports);
  exportQuantization(env, exports);
  return exports;
}

}  // namespace

Device& deviceAt(int64_t number) {
  const auto found = devices().find(number);
  if (found == devices().end()) throw ArgumentError("the device is closed");
  return *found->second;
}

}  // namespace sparse_tuner

NAPI_MODULE_INIT() { return sparse_tuner::initialize(env, exports); }
