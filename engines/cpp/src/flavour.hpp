// The TensorRTs: one code path, and here all that differs between them (engines/flavours.py
// is the same for Python). The headers decide which one it is: those of TensorRT for RTX define
// TRT_MAJOR_RTX.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>
#include <string_view>

namespace ptame {

#ifdef TRT_MAJOR_RTX
constexpr const char *kFlavour = "tensorrt-rtx", *kTitle = "TensorRT for RTX";
#else
constexpr const char *kFlavour = "tensorrt", *kTitle = "TensorRT";
static_assert(NV_TENSORRT_MAJOR >= 10, "TensorRT 10 or newer is needed.");
#endif
static_assert(std::string_view(kFlavour) == PTAME_BACKEND,
              "The headers are not those of the TensorRT that PTAME_BACKEND names.");

// The version of the library that is loaded, which need not be the headers'.
inline std::string flavour_version() {
  return std::to_string(getInferLibMajorVersion()) + "." +
         std::to_string(getInferLibMinorVersion()) + "." +
         std::to_string(getInferLibPatchVersion()) + "." +
         std::to_string(getInferLibBuildVersion());
}

using Context = std::unique_ptr<nvinfer1::IExecutionContext>;

struct NewContext {
  Context context;  // null where TensorRT refuses
  bool captures;  // CUDA graphs by itself, so that the caller must not
};

// Make an execution context for batches of one size.
inline NewContext create_context(nvinfer1::ICudaEngine& engine) {
#ifdef TRT_MAJOR_RTX
  const std::unique_ptr<nvinfer1::IRuntimeConfig> config(engine.createRuntimeConfig());
  if (!config) return {nullptr, true};
  // Lazy, the default, would answer the first batches by slower stand-in kernels.
  config->setDynamicShapesKernelSpecializationStrategy(
      nvinfer1::DynamicShapesKernelSpecializationStrategy::kEAGER);
  // It compiles kernels when a batch size is first seen, so only it knows when to capture; where it
  // cannot, it runs without.
  config->setCudaGraphStrategy(nvinfer1::CudaGraphStrategy::kWHOLE_GRAPH_CAPTURE);
  return {Context(engine.createExecutionContext(config.get())), true};
#else
  return {Context(engine.createExecutionContext()), false};
#endif
}

}  // namespace ptame
