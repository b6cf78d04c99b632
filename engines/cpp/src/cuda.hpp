// What an engine needs of CUDA, on the first GPU; everything frees itself.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>

#include "plan.hpp"

namespace ptame {

// The first GPU, as its driver tells. Throws Error(missing) without a driver or a device. To be
// asked before any TensorRT runtime is made: without a driver that can crash when it is used.
Gpu require_gpu();

// Throws Error(missing) where the machine lacks something, Error(check_failed) for what else CUDA
// refuses; names the call.
void check_cuda(cudaError_t error, const char* call);

struct StreamEnd {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
struct GraphEnd {
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
struct DeviceEnd {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
struct HostEnd {
  void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
};

using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamEnd>;
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphEnd>;

// A stream that does not wait for the default one.
Stream open_stream();

// Record what `work` enqueues on the stream, which is not run; null where it cannot be recorded, and
// the stream is usable again. `work` tells whether it enqueued everything.
Graph capture(cudaStream_t stream, const std::function<bool()>& work);

// One input or output: page-locked host memory, and the same on the device.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes);
  void upload(cudaStream_t stream) const;    // only enqueues
  void download(cudaStream_t stream) const;  // only enqueues
  void* host() const noexcept { return host_.get(); }
  void* device() const noexcept { return device_.get(); }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_;
  std::unique_ptr<void, HostEnd> host_;
  std::unique_ptr<void, DeviceEnd> device_;
};

}  // namespace ptame
