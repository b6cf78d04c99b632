#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "manifest.hpp"

namespace ptame {

// One batch: photos as the graph takes them, and what it answers.
struct Batch {
  std::int64_t count = 0;
  std::vector<std::uint8_t> bytes;    // uint8 graphs: (B, H, W, 3)
  std::vector<float> pixels;          // float graphs: (B, 3, H, W) in [0, 1]
  std::vector<std::int64_t> classes;  // (B, K) where the graph takes them
  std::vector<float> logits, saliency;
  std::vector<std::int64_t> chosen;   // (B, K)
  std::int64_t classes_each = 0;      // K
};

// Runs one graph.
class Runtime {
 public:
  virtual ~Runtime() = default;
  // The smallest and the largest batch that it takes.
  virtual std::pair<std::int64_t, std::int64_t> batches() const = 0;
  virtual void run(Batch& batch) = 0;
  virtual std::string description() const = 0;
};

struct Opened {
  Manifest manifest;
  std::unique_ptr<Runtime> runtime;
};

// Checks an artifact's folder and opens it: model.onnx or model.plan, by what the build was
// configured for (PTAME_BACKEND).
Opened open_artifact(const std::string& directory, const Options& options);

}  // namespace ptame
