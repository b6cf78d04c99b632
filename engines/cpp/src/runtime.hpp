#pragma once

#include <cstdint>
#include <memory>
#include <string>
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
  virtual void run(Batch& batch) = 0;
  virtual std::string description() const = 0;
};

// Opens model.onnx, or model.plan, of a folder whose manifest was checked.
std::unique_ptr<Runtime> open_runtime(const std::string& directory, const Manifest& manifest,
                                      const Options& options);

}  // namespace ptame
