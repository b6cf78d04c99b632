// What the JSON files of all artifacts have in common.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "ptame/ptame.hpp"

namespace ptame {

[[noreturn]] void corrupt(const std::string& message);

// Whether a folder is a graph's, or an engine's, complete or not.
bool holds_graph(const std::filesystem::path& folder);
bool holds_plan(const std::filesystem::path& folder);

// The JSON of an artifact of a kind, after its schema was checked. Throws Error(invalid_input)
// where there is none, Error(corrupt) where it is another one's or cannot be read.
nlohmann::json read_artifact(const std::filesystem::path& folder, const std::string& name,
                             const std::string& kind);

// Compare a file with its record in the JSON: a name of this folder, presence, size; returns where
// it is. Throws Error(corrupt).
std::filesystem::path check_size(const std::filesystem::path& folder, const std::string& name,
                                 const nlohmann::json& record);

// Throws Error(corrupt) where the hash of a file is not the one in its record.
void check_hash(const std::filesystem::path& path, const std::string& sha256,
                const nlohmann::json& record);

// Read with `fill`, which takes what it needs from the JSON: what is missing or of another type is
// Error(corrupt).
template <typename Fill>
auto understood(const std::filesystem::path& path, Fill fill) {
  try {
    return fill();
  } catch (const nlohmann::json::exception& problem) {
    corrupt(path.string() + " is not a valid manifest: " + problem.what() +
            ". Make the artifact again.");
  }
}

}  // namespace ptame
