#pragma once

#include <string>

#include "ptame/ptame.hpp"

namespace ptame {

enum class Interpolation { nearest, bilinear, bicubic, lanczos };

// Throws Error(corrupt) for a name that is none.
Interpolation interpolation_named(const std::string& name);

// Resize as Pillow does, to the last bit: antialiased filters, coefficients of 22 bits, rows first.
Image resize(const Image& image, int width, int height, Interpolation interpolation);

// Cut out a part; what lies outside the image is black.
Image crop(const Image& image, int left, int top, int width, int height);

}  // namespace ptame
