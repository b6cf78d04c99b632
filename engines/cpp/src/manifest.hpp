#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "resize.hpp"

namespace ptame {

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;  // -1 for a dimension of any size
};

// What is said of a graph, as far as running needs it.
struct Manifest {
  std::string classifier;
  int num_classes = 0;
  bool sigmoid = false;  // each class for itself; else softmax
  std::vector<std::string> class_names;
  std::vector<std::string> cautions;
  int input_height = 0, input_width = 0, resize = 0;
  bool squash = false;
  Interpolation interpolation = Interpolation::bilinear;
  std::vector<Tensor> inputs, outputs;
  int map_height = 0, map_width = 0;
  int top_k = 0;  // 0 where the caller gives the classes

  bool takes_uint8() const { return inputs.front().dtype == "uint8"; }
  bool takes_classes() const { return inputs.size() > 1; }
};

// What a graph's JSON says: model.json, or its copy in the JSON of an engine. Throws Error(corrupt),
// and what the JSON library throws where something is missing.
Manifest graph_manifest(const nlohmann::json& document);

// Read model.json of a folder and check the files that it names: presence, size and, if asked for,
// SHA-256. Throws Error(invalid_input) where there is no artifact, Error(corrupt) else.
Manifest read_manifest(const std::string& directory, bool hash);

}  // namespace ptame
