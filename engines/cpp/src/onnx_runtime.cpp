#include <onnxruntime_cxx_api.h>

#include <array>
#include <filesystem>
#include <limits>

#include "artifact.hpp"
#include "runtime.hpp"

namespace ptame {
namespace {

ONNXTensorElementDataType element_type(const std::string& dtype) {
  if (dtype == "float32") return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  if (dtype == "uint8") return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  if (dtype == "int64") return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

// Sessions share one environment: its thread pools and its log.
Ort::Env& environment() {
  static Ort::Env one(ORT_LOGGING_LEVEL_ERROR, "ptame");
  return one;
}

Ort::SessionOptions session_options(const Options& options) {
  Ort::SessionOptions made;
  if (options.threads > 0) made.SetIntraOpNumThreads(options.threads);
  made.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
  return made;
}

class OnnxRuntime : public Runtime {
 public:
  OnnxRuntime(const std::string& path, const Manifest& manifest, const Options& options)
      : manifest_(manifest), session_(environment(), path.c_str(), session_options(options)) {
    check(manifest.inputs, session_.GetInputCount(),
          [&](std::size_t i) { return session_.GetInputTypeInfo(i); },
          [&](std::size_t i) { return session_.GetInputNameAllocated(i, allocator_); });
    check(manifest.outputs, session_.GetOutputCount(),
          [&](std::size_t i) { return session_.GetOutputTypeInfo(i); },
          [&](std::size_t i) { return session_.GetOutputNameAllocated(i, allocator_); });
  }

  std::pair<std::int64_t, std::int64_t> batches() const override {
    return {1, std::numeric_limits<std::int64_t>::max()};
  }

  void run(Batch& batch) override {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> inputs;
    auto shape = manifest_.inputs.front().shape;
    shape.front() = batch.count;
    if (manifest_.takes_uint8())
      inputs.push_back(Ort::Value::CreateTensor<std::uint8_t>(
          memory, batch.bytes.data(), batch.bytes.size(), shape.data(), shape.size()));
    else
      inputs.push_back(Ort::Value::CreateTensor<float>(memory, batch.pixels.data(),
                                                       batch.pixels.size(), shape.data(),
                                                       shape.size()));
    const std::array<std::int64_t, 2> asked = {batch.count, batch.classes_each};
    if (manifest_.takes_classes())
      inputs.push_back(Ort::Value::CreateTensor<std::int64_t>(memory, batch.classes.data(),
                                                              batch.classes.size(), asked.data(),
                                                              asked.size()));
    const std::vector<const char*> in = names(manifest_.inputs), out = names(manifest_.outputs);
    auto found = session_.Run(Ort::RunOptions{nullptr}, in.data(), inputs.data(), inputs.size(),
                              out.data(), out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::string& name = manifest_.outputs[i].name;
      if (name == "logits") copy(found[i], batch.logits);
      if (name == "saliency") copy(found[i], batch.saliency);
      if (name == "class_index") copy(found[i], batch.chosen);
    }
    if (manifest_.takes_classes()) batch.chosen = batch.classes;
  }

  std::string description() const override {
    return std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() + " CPU";
  }

 private:
  template <typename T>
  static void copy(const Ort::Value& value, std::vector<T>& out) {
    const auto size = value.GetTensorTypeAndShapeInfo().GetElementCount();
    const T* data = value.GetTensorData<T>();
    out.assign(data, data + size);
  }

  static std::vector<const char*> names(const std::vector<Tensor>& tensors) {
    std::vector<const char*> found;
    for (const auto& one : tensors) found.push_back(one.name.c_str());
    return found;
  }

  // Compare the graph's own inputs or outputs with what its manifest says of them.
  template <typename Info, typename Name>
  static void check(const std::vector<Tensor>& told, std::size_t count, Info info, Name name) {
    bool same = told.size() == count;
    for (std::size_t i = 0; same && i < count; ++i) {
      const auto type = info(i);
      const auto tensor = type.GetTensorTypeAndShapeInfo();
      const auto shape = tensor.GetShape();
      same = told[i].name == name(i).get() && shape.size() == told[i].shape.size() &&
             tensor.GetElementType() == element_type(told[i].dtype);
      for (std::size_t axis = 0; same && axis < shape.size(); ++axis)
        same = shape[axis] == told[i].shape[axis];
    }
    if (!same)
      throw Error(Code::corrupt, "The graph's inputs or outputs are not those that its manifest "
                                 "says. Make the artifact again.");
  }

  Manifest manifest_;
  Ort::AllocatorWithDefaultOptions allocator_;
  Ort::Session session_;
};

}  // namespace

Opened open_artifact(const std::string& directory, const Options& options) {
  const std::filesystem::path folder(directory);
  if (holds_plan(folder) && !holds_graph(folder))
    throw Error(Code::invalid_input,
                directory + " holds an engine, and this program runs graphs by ONNX Runtime: "
                            "configure with -DPTAME_BACKEND=tensorrt or tensorrt-rtx.");
  const Manifest manifest = read_manifest(directory, options.check_hash);
  const auto path = (folder / "model.onnx").string();
  try {
    return {manifest, std::make_unique<OnnxRuntime>(path, manifest, options)};
  } catch (const Ort::Exception& error) {
    throw Error(Code::corrupt, path + " cannot be opened by ONNX Runtime: " + error.what());
  }
}

}  // namespace ptame
