// A TensorRT whose plans are ONNX graphs, which ONNX Runtime computes on the GPU of cuda_double.
//
// It is made from TensorRT's own headers: what the library calls are their inline functions, and
// what those call are the tables of functions that NvInferImpl.h declares. `stubs.hpp` has a class
// for each of them in which every function ends the program; the tests make it from that header.
#include <NvInferRuntime.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include "cuda_double.hpp"
#include "stubs.hpp"

namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::ILogger;

// The numbers of "1,2,4" or "10.14.1.48".
std::vector<int> setting(const char* name, const char* otherwise) {
  std::string text = double_setting(name, otherwise);
  std::replace(text.begin(), text.end(), ',', '.');
  std::istringstream words(text);
  std::vector<int> found;
  for (std::string word; std::getline(words, word, '.');) found.push_back(std::stoi(word));
  return found;
}

Dims dims_of(const std::vector<std::int64_t>& shape) {
  Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

struct Tensor {
  std::string name;
  ONNXTensorElementDataType type;
  std::vector<std::int64_t> shape;
  bool is_input;
};

Ort::Env& environment() {
  static Ort::Env one(ORT_LOGGING_LEVEL_FATAL, "double");
  return one;
}

struct Model {
  Model(const void* bytes, std::size_t size) : session(environment(), bytes, size, options()) {
    for (std::size_t i = 0; i < session.GetInputCount(); ++i)
      add(session.GetInputNameAllocated(i, allocator).get(), session.GetInputTypeInfo(i), true);
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
      add(session.GetOutputNameAllocated(i, allocator).get(), session.GetOutputTypeInfo(i), false);
  }

  static Ort::SessionOptions options() {
    Ort::SessionOptions made;
    made.SetIntraOpNumThreads(1);
    return made;
  }

  void add(const char* name, const Ort::TypeInfo& type, bool is_input) {
    const auto info = type.GetTensorTypeAndShapeInfo();
    tensors.push_back({name, info.GetElementType(), info.GetShape(), is_input});
  }

  const Tensor& tensor(const char* name) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const Tensor& one) { return one.name == name; });
    if (found == tensors.end()) std::abort();
    return *found;
  }

  Ort::AllocatorWithDefaultOptions allocator;
  Ort::Session session;
  std::vector<Tensor> tensors;
};

// What a recorded or enqueued run needs.
struct State {
  std::shared_ptr<Model> model;
  std::map<std::string, std::vector<std::int64_t>> shapes;
  std::map<std::string, void*> addresses;

  void compute() {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> inputs;
    std::vector<const char*> in, out;
    for (const auto& one : model->tensors) {
      (one.is_input ? in : out).push_back(one.name.c_str());
      if (!one.is_input) continue;
      const auto& shape = shapes.at(one.name);
      std::size_t bytes = one.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8   ? 1
                          : one.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? 4
                                                                            : 8;
      for (const auto size : shape) bytes *= static_cast<std::size_t>(size);
      inputs.push_back(Ort::Value::CreateTensor(memory, double_host(addresses.at(one.name)), bytes,
                                                shape.data(), shape.size(), one.type));
    }
    const auto found = model->session.Run(Ort::RunOptions{nullptr}, in.data(), inputs.data(),
                                          inputs.size(), out.data(), out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto info = found[i].GetTensorTypeAndShapeInfo();
      const std::size_t size = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? 8 : 4;
      std::memcpy(double_host(addresses.at(out[i])), found[i].GetTensorRawData(),
                  info.GetElementCount() * size);
    }
  }
};

class ContextTable : public StubExecutionContext {
 public:
  ContextTable(std::shared_ptr<Model> model, ILogger& logger) : logger_(logger) {
    state_->model = std::move(model);
  }

  bool setNvtxVerbosity(nvinfer1::ProfilingVerbosity) noexcept override { return true; }

  bool setInputShape(char const* name, Dims const& dims) noexcept override {
    if (double_fails("setInputShape")) return refuse("it was told to refuse shapes");
    const auto profile = setting("DOUBLE_PROFILE", "1,2,4");
    if (dims.d[0] < profile.front() || dims.d[0] > profile.back()) return refuse("out of profile");
    state_->shapes[name] = {dims.d, dims.d + dims.nbDims};
    return true;
  }

  Dims getTensorShape(char const* name) const noexcept override {
    const Tensor& tensor = state_->model->tensor(name);
    if (tensor.is_input) return dims_of(state_->shapes.at(name));
    auto shape = tensor.shape;
    shape[0] = state_->shapes.at("image")[0];
    const auto asked = state_->shapes.find("class_index");
    if (asked != state_->shapes.end() && shape.size() > 1 && shape[1] < 0) shape[1] = asked->second[1];
    return dims_of(shape);
  }

  bool setTensorAddress(char const* name, void* data) noexcept override {
    state_->addresses[name] = data;
    return true;
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    double_count("runs enqueued");
    if (double_fails("enqueueV3")) return refuse("it was told to fail");
    if (state_->addresses.size() != state_->model->tensors.size()) return refuse("no address");
    double_enqueue(stream, [state = state_] { state->compute(); });
    return true;
  }

 private:
  bool refuse(const char* why) noexcept {
    logger_.log(ILogger::Severity::kERROR, why);
    return false;
  }

  ILogger& logger_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// An object of the API, with the table that its inline functions call.
template <typename Interface, typename Table>
class Made : public Interface {
 public:
  template <typename... Arguments>
  explicit Made(Arguments&&... arguments) : table_(std::forward<Arguments>(arguments)...) {
    this->mImpl = &table_;
    double_count("objects left");
  }
  ~Made() noexcept override { double_count("objects left", -1); }

 private:
  Table table_;
};

class ConfigTable : public StubRuntimeConfig {};

class EngineTable : public StubCudaEngine {
 public:
  EngineTable(std::shared_ptr<Model> model, ILogger& logger)
      : model_(std::move(model)), logger_(logger) {}

  std::int32_t getNbIOTensors() const noexcept override {
    return static_cast<std::int32_t>(model_->tensors.size());
  }
  char const* getIOTensorName(std::int32_t index) const noexcept override {
    return model_->tensors.at(static_cast<std::size_t>(index)).name.c_str();
  }
  nvinfer1::TensorLocation getTensorLocation(char const*) const noexcept override {
    return double_fails("location") ? nvinfer1::TensorLocation::kHOST
                                    : nvinfer1::TensorLocation::kDEVICE;
  }
  nvinfer1::TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return model_->tensor(name).is_input ? nvinfer1::TensorIOMode::kINPUT
                                         : nvinfer1::TensorIOMode::kOUTPUT;
  }
  DataType getTensorDataType(char const* name) const noexcept override {
    switch (model_->tensor(name).type) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return DataType::kUINT8;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return DataType::kINT64;
      default: return double_fails("type") ? DataType::kHALF : DataType::kFLOAT;
    }
  }
  Dims getTensorShape(char const* name) const noexcept override {
    return dims_of(model_->tensor(name).shape);
  }
  Dims getProfileShape(char const* name, std::int32_t,
                       nvinfer1::OptProfileSelector which) const noexcept override {
    auto shape = model_->tensor(name).shape;
    const bool most = which == nvinfer1::OptProfileSelector::kMAX;
    const auto profile = setting("DOUBLE_PROFILE", "1,2,4");
    shape[0] = most ? profile.back() : profile.front();
    if (shape[1] < 0) shape[1] = most ? 5 : 1;
    return dims_of(shape);
  }

  nvinfer1::IExecutionContext* createExecutionContext(
      nvinfer1::ExecutionContextAllocationStrategy) noexcept override {
    double_count("contexts");
    if (double_fails("createExecutionContext")) {
      logger_.log(ILogger::Severity::kERROR, "it was told to have no memory");
      return nullptr;
    }
    return new Made<nvinfer1::IExecutionContext, ContextTable>(model_, logger_);
  }
  nvinfer1::IRuntimeConfig* createRuntimeConfig() noexcept override {
    double_count("configs");
    return new Made<nvinfer1::IRuntimeConfig, ConfigTable>();
  }
  nvinfer1::IExecutionContext* createExecutionContextWithRuntimeConfig(
      nvinfer1::IRuntimeConfig*) noexcept override {
    return createExecutionContext({});
  }

 private:
  std::shared_ptr<Model> model_;
  ILogger& logger_;
};

class RuntimeTable : public StubRuntime {
 public:
  explicit RuntimeTable(ILogger& logger) : logger_(logger) {}

  void setEngineHostCodeAllowed(bool allowed) noexcept override {
    double_count("host code", allowed ? 1 : 0);
  }
  nvinfer1::ICudaEngine* deserializeCudaEngine(void const* bytes,
                                               std::size_t size) noexcept override {
    double_count("deserialised");
    try {
      return new Made<nvinfer1::ICudaEngine, EngineTable>(std::make_shared<Model>(bytes, size),
                                                          logger_);
    } catch (const Ort::Exception&) {
      logger_.log(ILogger::Severity::kERROR, "this is no plan");
      return nullptr;
    }
  }
  // The other ways of getting an engine, which the overriding above would hide.
  nvinfer1::ICudaEngine* deserializeCudaEngine(nvinfer1::IStreamReader&) noexcept override {
    std::abort();
  }

 private:
  ILogger& logger_;
};

int version(std::size_t part) { return setting("DOUBLE_VERSION", "10.14.1.48").at(part); }

}  // namespace

extern "C" {

void* createInferRuntime_INTERNAL(void* logger, std::int32_t) noexcept {
  auto& given = *static_cast<ILogger*>(logger);
  if (double_fails("createInferRuntime")) {
    given.log(ILogger::Severity::kERROR, "it was told not to start");
    return nullptr;
  }
  return static_cast<nvinfer1::IRuntime*>(new Made<nvinfer1::IRuntime, RuntimeTable>(given));
}

std::int32_t getInferLibMajorVersion() noexcept { return version(0); }
std::int32_t getInferLibMinorVersion() noexcept { return version(1); }
std::int32_t getInferLibPatchVersion() noexcept { return version(2); }
std::int32_t getInferLibBuildVersion() noexcept { return version(3); }

}  // extern "C"
