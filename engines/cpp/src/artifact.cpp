#include "artifact.hpp"

#include <fstream>

namespace ptame {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSchemaVersion = 1;

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

}  // namespace

void corrupt(const std::string& message) { throw Error(Code::corrupt, message); }

bool holds_graph(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "model.json", error) || fs::exists(folder / "model.onnx", error);
}

bool holds_plan(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "model.plan.json", error) || fs::exists(folder / "model.plan", error);
}

json read_artifact(const fs::path& folder, const std::string& name, const std::string& kind) {
  const fs::path path = folder / name;
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(Code::invalid_input, folder.string() + " does not exist.");
  if (!fs::is_regular_file(path, error))
    throw Error(Code::invalid_input, folder.string() + " holds no " + name +
                                         ": not an artifact, or one that was never completed.");
  json document = parse(path);
  understood(path, [&] {
    if (document.at("schema_version").get<int>() > kSchemaVersion)
      corrupt(path.string() + " is of a newer ptame-deploy: update this program.");
    if (document.at("kind") != kind)
      corrupt(path.string() + " does not describe a" + (kind == "engine" ? "n engine." :
                                                                           " fused graph."));
    if (!document.at("files").is_object()) corrupt(path.string() + " names no files.");
  });
  return document;
}

fs::path check_size(const fs::path& folder, const std::string& name, const json& record) {
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
  return path;
}

void check_hash(const fs::path& path, const std::string& sha256, const json& record) {
  if (sha256 != record.at("sha256").get<std::string>())
    corrupt(path.string() + " is not the file that its manifest describes (SHA-256 differs).");
}

}  // namespace ptame
