#include "cuda.hpp"

namespace ptame {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Errors that say what the machine lacks, with what to do about each.
const char* remedy(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice: return "this machine has no NVIDIA GPU that CUDA can see";
    case cudaErrorInsufficientDriver: return "the NVIDIA driver is older than this CUDA: update it";
    case cudaErrorSystemDriverMismatch: return "the driver and its libraries differ: reboot";
    case cudaErrorCompatNotSupportedOnDevice: return "update the driver";
    case cudaErrorStubLibrary:
      return "a stub took the driver's place: remove it from the library path";
    case cudaErrorDevicesUnavailable: return "another process holds the GPU";
    case cudaErrorSystemNotReady: return "the GPU's services are not running";
    case cudaErrorMemoryAllocation:
      return "the GPU's memory is full: take a smaller batch, or free some";
    default: return nullptr;
  }
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

void check_cuda(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  // CUDA keeps an error for the next one who asks, and TensorRT asks after each launch.
  cudaGetLastError();
  const char* todo = remedy(error);
  throw Error(todo != nullptr ? Code::missing : Code::check_failed,
              std::string("CUDA: ") + call + " failed with " + cudaGetErrorName(error) + ": " +
                  (todo != nullptr ? todo : cudaGetErrorString(error)) + ".");
}

Gpu require_gpu() {
  int driver = 0, count = 0;
  cudaDriverGetVersion(&driver);
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (driver == 0 || error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    throw Error(Code::missing,
                "Running a plan needs an NVIDIA GPU and its driver; this machine has none "
                "(nvidia-smi).");
  check_cuda(error, "cudaGetDeviceCount");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return {properties.name,
          std::to_string(attribute(cudaDevAttrComputeCapabilityMajor)) + "." +
              std::to_string(attribute(cudaDevAttrComputeCapabilityMinor)),
          version_text(driver)};
}

Stream open_stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  return Stream(stream);
}

Graph capture(cudaStream_t stream, const std::function<bool()>& work) {
  // Thread-local: what other threads do meanwhile neither fails nor spoils the recording.
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  const bool enqueued = work();
  cudaGraph_t graph = nullptr;  // a recording must be ended, whatever became of its work
  cudaGraphExec_t executable = nullptr;
  const bool ended = cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr;
  const bool made = ended && enqueued &&
                    cudaGraphInstantiateWithFlags(&executable, graph, 0) == cudaSuccess;
  if (ended) cudaGraphDestroy(graph);
  if (!made) cudaGetLastError();
  return Graph(made ? executable : nullptr);
}

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  check_cuda(cudaMallocHost(&memory, bytes), "cudaMallocHost");
  host_.reset(memory);
  memory = nullptr;
  check_cuda(cudaMalloc(&memory, bytes), "cudaMalloc");
  device_.reset(memory);
}

void Buffer::upload(cudaStream_t stream) const {
  check_cuda(cudaMemcpyAsync(device(), host(), bytes_, cudaMemcpyHostToDevice, stream),
             "cudaMemcpyAsync");
}

void Buffer::download(cudaStream_t stream) const {
  check_cuda(cudaMemcpyAsync(host(), device(), bytes_, cudaMemcpyDeviceToHost, stream),
             "cudaMemcpyAsync");
}

}  // namespace ptame
