#include "manifest.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "sha256.hpp"

namespace ptame {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSchemaVersion = 1;

[[noreturn]] void corrupt(const std::string& message) { throw Error(Code::corrupt, message); }

json parse(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) corrupt(path.string() + " cannot be read.");
  try {
    return json::parse(file);
  } catch (const json::exception& error) {
    corrupt(path.string() + " cannot be read as JSON (" + error.what() +
            "). Make the artifact again.");
  }
}

void check_file(const fs::path& folder, const std::string& name, const json& record,
                bool check_hash) {
  if (name.empty() || fs::path(name).filename() != fs::path(name) || name == "." || name == "..")
    corrupt("The manifest names '" + name + "', which is outside its folder.");
  const fs::path path = folder / name;
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    corrupt(path.string() + " is missing. Copy the whole folder, or make the artifact again.");
  const auto size = fs::file_size(path, error);
  const auto expected = record.at("bytes").get<std::uintmax_t>();
  if (error || size != expected)
    corrupt(path.string() + " has " + std::to_string(size) + " bytes, its manifest says " +
            std::to_string(expected) + ": cut short or replaced.");
  if (check_hash && sha256_of_file(path.string()) != record.at("sha256").get<std::string>())
    corrupt(path.string() + " is not the file that its manifest describes (SHA-256 differs).");
}

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

// The same sentences as on the Python side, for what would mislead whoever reads a map.
std::vector<std::string> cautions_of(const json& document) {
  std::vector<std::string> found;
  const auto& explainer = document.at("explainer");
  if (document.at("classifier").at("weights").value("random", false))
    found.emplace_back("classifier weights are RANDOM: for latency work only");
  if (explainer.at("auxiliary_weights").value("random", false))
    found.emplace_back("auxiliary weights are RANDOM: maps mean nothing");
  if (explainer.at("state") == "initialised") {
    const auto start = explainer.at("start").get<std::string>();
    const std::string kind = start == "activation-map" ? "the auxiliary's class activation map"
                             : start == "fit"          ? "a linear fit"
                             : start == "imported"     ? "taken from a checkpoint"
                                                       : "RANDOM fusion weights: maps mean nothing";
    found.push_back("explainer is initialised, not trained: " + kind);
  }
  return found;
}

Manifest fill(const json& document) {
  Manifest made;
  const auto& classifier = document.at("classifier");
  made.classifier = classifier.at("name").get<std::string>();
  made.num_classes = classifier.at("num_classes").get<int>();
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

}  // namespace

Manifest read_manifest(const std::string& directory, bool check_hash) {
  const fs::path folder(directory), path = folder / "model.json";
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(Code::invalid_input, directory + " does not exist.");
  if (!fs::is_regular_file(path, error))
    throw Error(Code::invalid_input, directory +
                                         " holds no model.json: not an artifact, or one that was "
                                         "never completed.");
  const json document = parse(path);
  try {
    if (document.at("schema_version").get<int>() > kSchemaVersion)
      corrupt(path.string() + " is of a newer ptame-deploy: update this program.");
    if (document.at("kind") != "fused-graph")
      corrupt(path.string() + " does not describe a fused graph.");
    const auto& files = document.at("files");
    if (!files.contains("model.onnx")) corrupt(path.string() + " does not name model.onnx.");
    for (const auto& [name, record] : files.items()) check_file(folder, name, record, check_hash);
    return fill(document);
  } catch (const json::exception& problem) {
    corrupt(path.string() + " is not a valid manifest: " + problem.what() +
            ". Make the artifact again.");
  }
}

}  // namespace ptame
