#pragma once

#include <string>
#include <vector>

namespace ptame {

// The SHA-256 of bytes, in hex.
std::string sha256_of(const std::vector<char>& bytes);

// The SHA-256 of a file, in hex. Throws Error where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace ptame
