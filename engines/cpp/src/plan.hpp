// Engines: model.plan and model.plan.json. Deserialising a plan runs what is in it, so everything
// that can be known is checked before, as in engines/plan.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manifest.hpp"

namespace ptame {

struct Plan {
  std::string flavour;          // "tensorrt" or "tensorrt-rtx"
  std::string flavour_version;  // such as "10.14.1.48"
  bool version_compatible = false;
  std::vector<std::string> compute_capabilities;  // of GPUs that run it
  std::optional<std::string> driver;              // newest CUDA of the driver it was built with
  std::int64_t min_batch = 1, max_batch = 1;
  Manifest graph;               // that it was built from
  std::vector<char> bytes;      // of model.plan, whose size and hash are those of the JSON
};

// The first GPU.
struct Gpu {
  std::string name;
  std::string compute_capability;  // such as "9.0"
  std::string driver;              // the newest CUDA that the driver supports, such as "13.0"
};

// Read a plan and check it against its JSON. Throws Error(invalid_input) where there is none, or one
// without JSON; Error(corrupt) where it is not the one that its JSON describes.
Plan read_plan(const std::string& directory);

// Compare what a plan needs with the TensorRT that is here; needs no GPU. Throws Error(corrupt).
void check_flavour(const Plan& plan, const std::string& flavour, const std::string& version);

// Compare what a plan needs with a GPU and its driver. Throws Error(corrupt).
void check_gpu(const Plan& plan, const Gpu& gpu);

}  // namespace ptame
