// One batch size of an engine, with everything that it needs for itself to run.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda.hpp"
#include "flavour.hpp"
#include "runtime.hpp"

namespace ptame {

// TensorRT's logger: quiet, but it remembers the last error, which is all that the API tells of a
// failure.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override;
  std::string last_error() const;

 private:
  mutable std::mutex mutex_;  // TensorRT logs from threads of its own
  std::string text_ = "no reason was given";
};

// An input or output of an engine.
struct Binding {
  std::string name;
  bool is_input = false;
  std::string dtype;
  std::vector<std::int64_t> shape;  // -1 for a dimension of any size
  std::vector<std::int64_t> smallest, largest;  // the profile's, of an input
};

// A deserialised engine and what must live as long as it does.
struct LoadedEngine {
  Log log;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::vector<Binding> bindings;
};

// Throws Error(corrupt) for a type that no plan of ptame build has.
std::size_t bytes_of_element(const std::string& dtype);

class StagedBatch {
 public:
  // Makes stream, context and buffers, and runs the batch once: that sets up what must not be part
  // of a recording. `loaded` must live longer. Throws Error.
  StagedBatch(LoadedEngine& loaded, const Batch& batch);

  // Runs another batch of the same shapes, with one wait for all its steps.
  void run(Batch& batch);

 private:
  void fill(const Batch& batch);
  void enqueue();
  void wait();

  LoadedEngine& loaded_;
  Stream stream_;
  std::map<std::string, Buffer> buffers_;
  Context context_;  // ends before the buffers that it knows
  Graph graph_;
};

}  // namespace ptame
