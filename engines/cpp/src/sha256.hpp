#pragma once

#include <string>

namespace ptame {

// The SHA-256 of a file, in hex. Throws Error where it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace ptame
