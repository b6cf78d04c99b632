#include "staged_batch.hpp"

#include <cstring>

namespace ptame {
namespace {

struct Bytes {
  const void* data;
  std::size_t size;
};

template <typename T>
Bytes bytes(const std::vector<T>& values) {
  return {values.data(), values.size() * sizeof(T)};
}

Bytes input_of(const Batch& batch, const Binding& binding) {
  if (binding.name == "class_index") return bytes(batch.classes);
  return binding.dtype == "uint8" ? bytes(batch.bytes) : bytes(batch.pixels);
}

nvinfer1::Dims shape_of(const Batch& batch, const Binding& binding) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(binding.shape.size());
  for (std::size_t axis = 0; axis < binding.shape.size(); ++axis) dims.d[axis] = binding.shape[axis];
  dims.d[0] = batch.count;
  if (binding.name == "class_index") dims.d[1] = batch.classes_each;
  return dims;
}

template <typename T>
void take(const Buffer& buffer, std::vector<T>& values) {
  values.resize(buffer.bytes() / sizeof(T));
  std::memcpy(values.data(), buffer.host(), values.size() * sizeof(T));
}

}  // namespace

void Log::log(Severity severity, const char* text) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    text_ = text;
  } catch (...) {  // no memory for a message is no reason to end the program
  }
}

std::string Log::last_error() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return text_;
}

std::size_t bytes_of_element(const std::string& dtype) {
  if (dtype == "float32") return sizeof(float);
  if (dtype == "int64") return sizeof(std::int64_t);
  if (dtype == "uint8") return sizeof(std::uint8_t);
  throw Error(Code::corrupt, "The plan has values of type " + dtype + ".");
}

StagedBatch::StagedBatch(LoadedEngine& loaded, const Batch& batch)
    : loaded_(loaded), stream_(open_stream()) {
  auto made = create_context(*loaded.engine);
  context_ = std::move(made.context);
  if (!context_)
    throw Error(Code::missing, std::string(kTitle) + " cannot prepare to run the plan: " +
                                   loaded.log.last_error() +
                                   ". Free GPU memory, or build a plan with a smaller --max-batch.");
  // Plans are built to be inspected in detail; the profiler's markers of that would cost time.
  context_->setNvtxVerbosity(nvinfer1::ProfilingVerbosity::kNONE);
  for (const auto& one : loaded.bindings)
    if (one.is_input && !context_->setInputShape(one.name.c_str(), shape_of(batch, one)))
      throw Error(Code::invalid_input, "The plan refuses the shape of '" + one.name +
                                           "': " + loaded.log.last_error());
  for (const auto& one : loaded.bindings) {
    const auto dims = context_->getTensorShape(one.name.c_str());
    std::size_t size = bytes_of_element(one.dtype);
    for (int axis = 0; axis < dims.nbDims; ++axis) {
      if (dims.d[axis] < 1)
        throw Error(Code::check_failed,
                    "The plan's '" + one.name + "' has a shape that depends on the values.");
      size *= static_cast<std::size_t>(dims.d[axis]);
    }
    const Buffer& buffer = buffers_.try_emplace(one.name, size).first->second;
    if (!context_->setTensorAddress(one.name.c_str(), buffer.device()))
      throw Error(Code::check_failed,
                  "The plan refuses '" + one.name + "': " + loaded.log.last_error());
  }
  fill(batch);
  for (const auto& one : loaded.bindings)
    if (one.is_input) buffers_.at(one.name).upload(stream_.get());
  enqueue();
  wait();
  if (!made.captures)
    graph_ = capture(stream_.get(), [this] { return context_->enqueueV3(stream_.get()); });
}

void StagedBatch::fill(const Batch& batch) {
  for (const auto& one : loaded_.bindings) {
    if (!one.is_input) continue;
    const Bytes given = input_of(batch, one);
    const Buffer& buffer = buffers_.at(one.name);
    if (given.size != buffer.bytes())
      throw Error(Code::invalid_input, "The plan takes " + std::to_string(buffer.bytes()) +
                                           " bytes of '" + one.name + "', got " +
                                           std::to_string(given.size) + ".");
    std::memcpy(buffer.host(), given.data, given.size);
  }
}

void StagedBatch::enqueue() {
  if (graph_)
    check_cuda(cudaGraphLaunch(graph_.get(), stream_.get()), "cudaGraphLaunch");
  else if (!context_->enqueueV3(stream_.get()))
    throw Error(Code::check_failed, "The plan failed to run: " + loaded_.log.last_error());
}

void StagedBatch::wait() {
  check_cuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
}

void StagedBatch::run(Batch& batch) {
  fill(batch);
  for (const auto& one : loaded_.bindings)
    if (one.is_input) buffers_.at(one.name).upload(stream_.get());
  enqueue();
  for (const auto& one : loaded_.bindings)
    if (!one.is_input) buffers_.at(one.name).download(stream_.get());
  wait();
  take(buffers_.at("logits"), batch.logits);
  take(buffers_.at("saliency"), batch.saliency);
  if (const auto chosen = buffers_.find("class_index"); batch.classes.empty())
    take(chosen->second, batch.chosen);
  else
    batch.chosen = batch.classes;
}

}  // namespace ptame
