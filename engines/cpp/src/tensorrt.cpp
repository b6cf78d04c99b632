// TensorRT and TensorRT for RTX as a Runtime.
#include <algorithm>
#include <list>
#include <memory>
#include <tuple>
#include <utility>

#include "artifact.hpp"
#include "staged_batch.hpp"

namespace ptame {
namespace {

// Batch sizes that are kept ready. Each holds scratch memory for the profile's largest batch, so not
// many; a folder of photos needs two, the full batch and the last one.
constexpr std::size_t kKeptSizes = 4;

std::vector<std::int64_t> sizes(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + std::max(dims.nbDims, 0)};
}

std::string dtype_of(nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT: return "float32";
    case nvinfer1::DataType::kINT64: return "int64";
    case nvinfer1::DataType::kUINT8: return "uint8";
    default: return "number " + std::to_string(static_cast<int>(type));
  }
}

std::vector<Binding> read_bindings(const nvinfer1::ICudaEngine& engine) {
  using nvinfer1::OptProfileSelector;
  std::vector<Binding> found;
  for (int number = 0; number < engine.getNbIOTensors(); ++number) {
    const char* name = engine.getIOTensorName(number);
    if (engine.getTensorLocation(name) != nvinfer1::TensorLocation::kDEVICE)
      corrupt(std::string("The plan reads '") + name +
              "' on the host, which no plan of ptame build does.");
    Binding one;
    one.name = name;
    one.is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    one.dtype = dtype_of(engine.getTensorDataType(name));
    one.shape = sizes(engine.getTensorShape(name));
    if (one.is_input) {
      one.smallest = sizes(engine.getProfileShape(name, 0, OptProfileSelector::kMIN));
      one.largest = sizes(engine.getProfileShape(name, 0, OptProfileSelector::kMAX));
    }
    found.push_back(std::move(one));
  }
  return found;
}

// Compare the engine's inputs, outputs and batches with what its JSON says.
void check_border(const std::vector<Binding>& bindings, const Plan& plan) {
  using Border = std::tuple<bool, std::string, std::string, std::vector<std::int64_t>>;
  std::vector<Border> told, found;
  for (const auto& one : plan.graph.inputs) told.emplace_back(true, one.name, one.dtype, one.shape);
  for (const auto& one : plan.graph.outputs)
    told.emplace_back(false, one.name, one.dtype, one.shape);
  for (const auto& one : bindings) found.emplace_back(one.is_input, one.name, one.dtype, one.shape);
  std::sort(told.begin(), told.end());
  std::sort(found.begin(), found.end());
  if (told != found)
    corrupt("The plan's inputs or outputs are not those that its manifest says. Build it again.");
  for (const auto& one : bindings)
    if (one.is_input && (one.smallest.size() != one.shape.size() ||
                         one.largest.size() != one.shape.size() ||
                         one.smallest.front() != plan.min_batch ||
                         one.largest.front() != plan.max_batch))
      corrupt("The plan takes other batches than its manifest says. Build it again.");
}

class TensorRt : public Runtime {
 public:
  TensorRt(const Plan& plan, const Gpu& gpu)
      : gpu_(gpu.name), batches_(plan.min_batch, plan.max_batch) {
    loaded_.runtime.reset(nvinfer1::createInferRuntime(loaded_.log));
    if (!loaded_.runtime)
      throw Error(Code::missing, title() + " cannot start: " + loaded_.log.last_error());
    // Version-compatible plans have code for the host in them.
    if (plan.version_compatible) loaded_.runtime->setEngineHostCodeAllowed(true);
    loaded_.engine.reset(
        loaded_.runtime->deserializeCudaEngine(plan.bytes.data(), plan.bytes.size()));
    if (!loaded_.engine) corrupt(title() + " refuses the plan: " + loaded_.log.last_error());
    loaded_.bindings = read_bindings(*loaded_.engine);
    check_border(loaded_.bindings, plan);
  }

  std::pair<std::int64_t, std::int64_t> batches() const override { return batches_; }

  void run(Batch& batch) override {
    check_classes(batch);
    const Shapes shapes{batch.count, batch.classes_each};
    const auto found = std::find_if(ready_.begin(), ready_.end(),
                                    [&](const auto& one) { return one.first == shapes; });
    // Out of the way while it runs: one that failed is not used again.
    std::list<Ready> running;
    if (found != ready_.end()) {
      running.splice(running.begin(), ready_, found);
    } else {
      while (ready_.size() >= kKeptSizes) ready_.pop_front();
      running.emplace_back(shapes, std::make_unique<StagedBatch>(loaded_, batch));
    }
    running.front().second->run(batch);
    ready_.splice(ready_.end(), running);
  }

  std::string description() const override { return title() + " " + gpu_; }

 private:
  using Shapes = std::pair<std::int64_t, std::int64_t>;
  using Ready = std::pair<Shapes, std::unique_ptr<StagedBatch>>;

  static std::string title() { return std::string(kTitle) + " " + flavour_version(); }

  void check_classes(const Batch& batch) const {
    for (const auto& one : loaded_.bindings) {
      if (!one.is_input || one.name != "class_index") continue;
      if (batch.classes_each < one.smallest.at(1) || batch.classes_each > one.largest.at(1))
        throw Error(Code::invalid_input, "This plan explains " +
                                             std::to_string(one.smallest.at(1)) + " to " +
                                             std::to_string(one.largest.at(1)) +
                                             " classes of a photo, asked were " +
                                             std::to_string(batch.classes_each) + ".");
    }
  }

  std::string gpu_;
  Shapes batches_;
  LoadedEngine loaded_;
  std::list<Ready> ready_;  // the least recently used first; ends before the engine
};

}  // namespace

Opened open_artifact(const std::string& directory, const Options& options) {
  if (options.threads != 0)
    throw Error(Code::invalid_input,
                "Threads can be chosen for graphs only, which ONNX Runtime runs.");
  if (holds_graph(directory) && !holds_plan(directory))
    throw Error(Code::invalid_input,
                directory + " holds a graph, and this program runs engines of " + kFlavour +
                    ": make one with ptame build, or configure with -DPTAME_BACKEND=onnxruntime.");
  const Plan plan = read_plan(directory);
  check_flavour(plan, kFlavour, flavour_version());
  const Gpu gpu = require_gpu();
  check_gpu(plan, gpu);
  return {plan.graph, std::make_unique<TensorRt>(plan, gpu)};
}

}  // namespace ptame
