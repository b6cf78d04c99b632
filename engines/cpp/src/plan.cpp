#include "plan.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "artifact.hpp"
#include "sha256.hpp"

namespace ptame {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char *kPlan = "model.plan", *kJson = "model.plan.json";

bool is_digit(char one) { return one >= '0' && one <= '9'; }

// The parts of a version that are numbers; at least one.
std::vector<long> numbers(const std::string& version) {
  std::vector<long> found;
  for (std::size_t at = 0; at <= version.size();) {
    const std::size_t stop = std::min(version.find('.', at), version.size());
    const std::string part = version.substr(at, stop - at);
    if (!part.empty() && part.size() < 10 && std::all_of(part.begin(), part.end(), is_digit))
      found.push_back(std::stol(part));
    at = stop + 1;
  }
  return found.empty() ? std::vector<long>{0} : found;
}

bool version_fits(const Plan& plan, const std::string& version) {
  if (version == plan.flavour_version) return true;
  const auto here = numbers(version), built = numbers(plan.flavour_version);
  return plan.version_compatible && here.front() == built.front() && here >= built;
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& one : words) text += (text.empty() ? "" : ", ") + one;
  return text;
}

std::vector<char> bytes_of(const fs::path& path, std::size_t size) {
  std::vector<char> bytes(size);
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size)))
    corrupt(path.string() + " cannot be read to its end.");
  return bytes;
}

void fill(Plan& plan, const json& document, const std::string& path) {
  plan.flavour = document.at("flavour").get<std::string>();
  plan.flavour_version = document.at("flavour_version").get<std::string>();
  plan.version_compatible = document.at("version_compatible").get<bool>();
  plan.compute_capabilities =
      document.at("compute_capabilities").get<std::vector<std::string>>();
  if (const auto& driver = document.at("driver"); !driver.is_null())
    plan.driver = driver.get<std::string>();
  if (plan.compute_capabilities.empty() || plan.flavour_version.empty() ||
      !is_digit(plan.flavour_version.front()))
    corrupt(path + " names no compute capability, or no version of its TensorRT.");
  const auto& profile = document.at("profile");
  plan.min_batch = profile.at("min_batch").get<std::int64_t>();
  plan.max_batch = profile.at("max_batch").get<std::int64_t>();
  if (plan.min_batch < 1 || plan.min_batch > plan.max_batch)
    corrupt(path + " says batches of " + std::to_string(plan.min_batch) + " to " +
            std::to_string(plan.max_batch) + ".");
  const auto& graph = document.at("graph");
  for (const char* same : {"precision", "inputs", "outputs"})
    if (document.at(same) != graph.at(same))
      corrupt(path + ": its " + same + " are not those of the graph that it was built from.");
  plan.graph = graph_manifest(graph);
}

}  // namespace

Plan read_plan(const std::string& directory) {
  const fs::path folder(directory), path = folder / kJson;
  std::error_code error;
  if (fs::is_regular_file(folder / kPlan, error) && !fs::exists(path, error))
    throw Error(Code::invalid_input, (folder / kPlan).string() + " has no " + kJson +
                                         " beside it: nothing is known of what it would run. "
                                         "Build it with ptame build.");
  const json document = read_artifact(folder, kJson, "engine");
  return understood(path, [&] {
    Plan plan;
    const auto& files = document.at("files");
    if (!files.contains(kPlan)) corrupt(path.string() + " does not name model.plan.");
    for (const auto& [name, record] : files.items()) {
      const fs::path file = check_size(folder, name, record);
      if (name != kPlan) {
        check_hash(file, sha256_of_file(file.string()), record);
        continue;
      }
      // What is hashed is what will be deserialised: the file could be replaced in between.
      plan.bytes = bytes_of(file, record.at("bytes").get<std::size_t>());
      check_hash(file, sha256_of(plan.bytes), record);
    }
    fill(plan, document, path.string());
    return plan;
  });
}

void check_flavour(const Plan& plan, const std::string& flavour, const std::string& version) {
  if (plan.flavour != flavour)
    corrupt("This plan is for " + plan.flavour + ", not for " + flavour + ": build one for it.");
  if (!version_fits(plan, version))
    corrupt("This plan was built by " + plan.flavour + " " + plan.flavour_version + ", here is " +
            version + ": build it again, or with --version-compatible.");
}

void check_gpu(const Plan& plan, const Gpu& gpu) {
  const auto& fitting = plan.compute_capabilities;
  if (std::find(fitting.begin(), fitting.end(), gpu.compute_capability) == fitting.end())
    corrupt("This plan runs on compute capability " + listed(fitting) + "; " + gpu.name + " has " +
            gpu.compute_capability +
            (plan.flavour == "tensorrt-rtx"
                 ? ": build it for that, or, if TensorRT for RTX does not take it, use TensorRT or "
                   "ONNX Runtime."
                 : ": build it on such a GPU."));
  if (plan.driver && numbers(gpu.driver).front() < numbers(*plan.driver).front())
    corrupt("This plan was built with a driver for CUDA " + *plan.driver + ", here it is " +
            gpu.driver + ": update the driver, or build the plan here.");
}

}  // namespace ptame
