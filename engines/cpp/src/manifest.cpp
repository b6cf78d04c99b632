#include "manifest.hpp"

#include <algorithm>
#include <filesystem>

#include "artifact.hpp"
#include "sha256.hpp"

namespace ptame {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<Tensor> tensors(const json& list) {
  std::vector<Tensor> found;
  for (const auto& one : list) {
    Tensor tensor{one.at("name").get<std::string>(), one.at("dtype").get<std::string>(), {}};
    for (const auto& size : one.at("shape"))
      tensor.shape.push_back(size.is_string() ? -1 : size.get<std::int64_t>());
    found.push_back(std::move(tensor));
  }
  return found;
}

std::vector<std::string> names(const std::vector<Tensor>& tensors) {
  std::vector<std::string> found;
  for (const auto& one : tensors) found.push_back(one.name);
  return found;
}

// What would mislead whoever reads a map: the sentences that ptame export wrote.
std::vector<std::string> cautions_of(const json& document) {
  auto found = document.value("cautions", std::vector<std::string>{});
  if (const auto contrast = document.find("contrast");
      contrast != document.end() && !contrast->is_null())
    found.push_back("maps are contrasts: each class against " +
                    std::string(*contrast == "best" ? "the best other one"
                                                    : "the one given after it"));
  return found;
}

}  // namespace

Manifest graph_manifest(const json& document) {
  Manifest made;
  const auto& classifier = document.at("classifier");
  made.classifier = classifier.at("name").get<std::string>();
  made.num_classes = classifier.at("num_classes").get<int>();
  const auto head = classifier.value("head", std::string("softmax"));
  if (head != "softmax" && head != "sigmoid")
    corrupt("The manifest's head " + head + " is neither softmax nor sigmoid.");
  made.sigmoid = head == "sigmoid";
  if (const auto given = classifier.find("class_names");
      given != classifier.end() && !given->is_null())
    made.class_names = given->get<std::vector<std::string>>();
  if (made.num_classes < 1 ||
      (!made.class_names.empty() &&
       made.class_names.size() != static_cast<std::size_t>(made.num_classes)))
    corrupt("The manifest names " + std::to_string(made.class_names.size()) + " classes of " +
            std::to_string(made.num_classes) + ".");
  made.cautions = cautions_of(document);
  const auto& preparation = document.at("preprocessing");
  made.input_height = preparation.at("input_size").at(0).get<int>();
  made.input_width = preparation.at("input_size").at(1).get<int>();
  made.resize = preparation.at("resize").get<int>();
  made.squash = preparation.value("squash", false);
  made.interpolation = interpolation_named(preparation.at("interpolation").get<std::string>());
  for (const int size : {made.input_height, made.input_width, made.resize})
    if (size < 1 || size > 16384)
      corrupt("The manifest prepares photos to a size of " + std::to_string(size) + " pixels.");
  made.inputs = tensors(document.at("inputs"));
  made.outputs = tensors(document.at("outputs"));
  const auto in = names(made.inputs), out = names(made.outputs);
  using List = std::vector<std::string>;
  const bool chosen = in == List{"image", "class_index"} && out == List{"logits", "saliency"};
  if (!chosen && !(in == List{"image"} && out == List{"logits", "class_index", "saliency"}))
    corrupt("The manifest's inputs and outputs are not those of a graph that makes maps.");
  made.map_height = document.at("map_size").at(0).get<int>();
  made.map_width = document.at("map_size").at(1).get<int>();
  made.top_k = chosen ? 0 : document.at("top_k").get<int>();
  const auto& image = made.inputs.front();
  const List known = {"float32", "uint8"};
  if (std::find(known.begin(), known.end(), image.dtype) == known.end() || image.shape.size() != 4)
    corrupt("The manifest's input image is neither float32 nor uint8 of four dimensions.");
  return made;
}

Manifest read_manifest(const std::string& directory, bool hash) {
  const fs::path folder(directory), path = folder / "model.json";
  const json document = read_artifact(folder, "model.json", "fused-graph");
  return understood(path, [&] {
    const auto& files = document.at("files");
    if (!files.contains("model.onnx")) corrupt(path.string() + " does not name model.onnx.");
    for (const auto& [name, record] : files.items()) {
      const fs::path file = check_size(folder, name, record);
      if (hash) check_hash(file, sha256_of_file(file.string()), record);
    }
    return graph_manifest(document);
  });
}

}  // namespace ptame
