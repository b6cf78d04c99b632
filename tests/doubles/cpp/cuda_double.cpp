#include "cuda_double.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

using Work = std::vector<std::function<void()>>;

struct CUstream_st {
  Work waiting, recorded;
  bool records = false, spoilt = false;
};
struct CUgraph_st {
  Work work;
};
struct CUgraphExec_st {
  Work work;
};

namespace {

constexpr std::uintptr_t kDevice = std::uintptr_t{1} << 62;  // such addresses cannot be read

struct World {
  std::map<std::string, int> counts;
  std::map<const void*, std::size_t> pinned, device;
  ~World() {
    counts["memory left"] = static_cast<int>(pinned.size() + device.size());
    const char* path = std::getenv("DOUBLE_REPORT");
    if (path == nullptr) return;
    std::ofstream file(path);
    const char* separator = "{";
    for (const auto& [what, count] : counts) {
      file << separator << '"' << what << "\": " << count;
      separator = ", ";
    }
    file << "}\n";
  }
};

World& world() {
  static World one;
  return one;
}
const World& from_the_start = world();  // it reports of programs too that call nothing

void* turned(const void* address) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) ^ kDevice);
}

cudaError_t allocate(const char* call, void** address, std::size_t size, bool on_device) {
  if (double_fails(call)) return cudaErrorMemoryAllocation;
  void* memory = std::malloc(size);
  std::memset(memory, 0xA5, size);  // never happens to be the right answer
  *address = on_device ? turned(memory) : memory;
  (on_device ? world().device : world().pinned)[*address] = size;
  return cudaSuccess;
}

// Whether an address begins what was allocated, of that size.
bool is_whole(const std::map<const void*, std::size_t>& memory, const void* address,
              std::size_t size) {
  const auto found = memory.find(address);
  return found != memory.end() && found->second == size;
}

}  // namespace

void* double_host(const void* device) {
  if (world().device.count(device) == 0) std::abort();
  return turned(device);
}

bool double_fails(const char* call) { return double_setting("DOUBLE_FAIL", "") == call; }

std::string double_setting(const char* name, const char* otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : given;
}

void double_count(const std::string& what, int by) { world().counts[what] += by; }

void double_enqueue(cudaStream_t stream, std::function<void()> work) {
  (stream->records ? stream->recorded : stream->waiting).push_back(std::move(work));
}

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t) { return "the double was told to fail"; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = std::stoi(double_setting("DOUBLE_DRIVER", "13000"));
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = std::stoi(double_setting("DOUBLE_GPUS", "1"));
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "a GPU in memory");
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  const std::string capability = double_setting("DOUBLE_CAPABILITY", "9.0");
  const auto dot = capability.find('.');
  *value = std::stoi(which == cudaDevAttrComputeCapabilityMajor ? capability.substr(0, dot)
                                                                : capability.substr(dot + 1));
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  if (flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;
  *stream = new CUstream_st;
  double_count("streams left");
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  double_count("streams left", -1);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->records) return cudaErrorStreamCaptureUnsupported;
  double_count("waits");
  if (double_fails("cudaStreamSynchronize")) return cudaErrorUnknown;
  for (const auto& work : std::exchange(stream->waiting, {})) work();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->records = true;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->records = false;
  Work recorded = std::exchange(stream->recorded, {});
  *graph = nullptr;
  if (double_fails("cudaStreamEndCapture")) return cudaErrorStreamCaptureUnsupported;
  *graph = new CUgraph_st{std::move(recorded)};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long) {
  if (double_fails("cudaGraphInstantiateWithFlags")) return cudaErrorUnknown;
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  double_count("launches");
  for (const auto& work : graph->work) double_enqueue(stream, work);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** address, std::size_t size) {
  return allocate("cudaMallocHost", address, size, false);
}

cudaError_t cudaMalloc(void** address, std::size_t size) {
  return allocate("cudaMalloc", address, size, true);
}

cudaError_t cudaFreeHost(void* address) {
  if (world().pinned.erase(address) == 0) std::abort();
  std::free(address);
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  if (world().device.erase(address) == 0) std::abort();
  std::free(turned(address));
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const bool up = kind == cudaMemcpyHostToDevice;
  const void *host = up ? from : to, *device = up ? to : from;
  if (!is_whole(world().pinned, host, size) || !is_whole(world().device, device, size))
    return cudaErrorInvalidValue;
  double_enqueue(stream, [=] {
    if (up)
      std::memcpy(double_host(to), from, size);
    else
      std::memcpy(to, double_host(from), size);
  });
  return cudaSuccess;
}

}  // extern "C"
