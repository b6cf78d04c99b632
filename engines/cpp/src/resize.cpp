#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ptame {
namespace {

constexpr int kBits = 32 - 8 - 2;  // of a coefficient: products with 8 bits and their sum fit 32
constexpr double kPi = 3.14159265358979323846;

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  double (*at)(double);
  double support;
};

Filter filter_of(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::bicubic:
      return {bicubic, 2.0};
    case Interpolation::lanczos:
      return {lanczos, 3.0};
    default:
      return {bilinear, 1.0};
  }
}

// What one output pixel is a sum of.
struct Window {
  int first = 0;
  std::vector<std::int32_t> weights;
};

std::vector<Window> windows(int in_size, int out_size, const Filter& filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = filter.support * filter_scale;
  std::vector<Window> found(static_cast<std::size_t>(out_size));
  for (int out = 0; out < out_size; ++out) {
    const double center = (out + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int last = std::min(static_cast<int>(center + support + 0.5), in_size);
    std::vector<double> exact;
    double sum = 0.0;
    for (int in = first; in < last; ++in) {
      exact.push_back(filter.at((in - center + 0.5) * (1.0 / filter_scale)));
      sum += exact.back();
    }
    Window& window = found[static_cast<std::size_t>(out)];
    window.first = first;
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      const double scaled = weight * (1 << kBits);
      window.weights.push_back(static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
  }
  return found;
}

std::uint8_t clip(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

// Resize along one axis: `step` and `line` are the distances of neighbours along and across it.
void pass(const std::uint8_t* in, std::uint8_t* out, const std::vector<Window>& along, int across,
          std::size_t in_step, std::size_t in_line, std::size_t out_step, std::size_t out_line) {
  for (int line = 0; line < across; ++line) {
    for (std::size_t at = 0; at < along.size(); ++at) {
      const Window& window = along[at];
      const std::uint8_t* source = in + static_cast<std::size_t>(line) * in_line +
                                   static_cast<std::size_t>(window.first) * in_step;
      std::int32_t sums[3] = {1 << (kBits - 1), 1 << (kBits - 1), 1 << (kBits - 1)};
      for (const std::int32_t weight : window.weights) {
        for (int channel = 0; channel < 3; ++channel) sums[channel] += source[channel] * weight;
        source += in_step;
      }
      std::uint8_t* target = out + static_cast<std::size_t>(line) * out_line + at * out_step;
      for (int channel = 0; channel < 3; ++channel) target[channel] = clip(sums[channel]);
    }
  }
}

Image blank(int width, int height) {
  Image image{width, height, {}};
  image.rgb.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  return image;
}

Image nearest(const Image& image, int width, int height) {
  Image out = blank(width, height);
  const double x_scale = static_cast<double>(image.width) / width;
  const double y_scale = static_cast<double>(image.height) / height;
  for (int y = 0; y < height; ++y) {
    const int row = std::min(static_cast<int>((y + 0.5) * y_scale), image.height - 1);
    for (int x = 0; x < width; ++x) {
      const int column = std::min(static_cast<int>((x + 0.5) * x_scale), image.width - 1);
      const auto from = (static_cast<std::size_t>(row) * image.width + column) * 3;
      const auto to = (static_cast<std::size_t>(y) * width + x) * 3;
      std::copy_n(image.rgb.begin() + static_cast<std::ptrdiff_t>(from), 3,
                  out.rgb.begin() + static_cast<std::ptrdiff_t>(to));
    }
  }
  return out;
}

}  // namespace

Interpolation interpolation_named(const std::string& name) {
  if (name == "nearest") return Interpolation::nearest;
  if (name == "bilinear") return Interpolation::bilinear;
  if (name == "bicubic") return Interpolation::bicubic;
  if (name == "lanczos") return Interpolation::lanczos;
  throw Error(Code::corrupt, "The manifest asks for an unknown interpolation, " + name + ".");
}

Image resize(const Image& image, int width, int height, Interpolation interpolation) {
  if (image.width == width && image.height == height) return image;
  if (interpolation == Interpolation::nearest) return nearest(image, width, height);
  const Filter filter = filter_of(interpolation);
  Image wide = image;
  if (image.width != width) {
    wide = blank(width, image.height);
    pass(image.rgb.data(), wide.rgb.data(), windows(image.width, width, filter), image.height, 3,
         static_cast<std::size_t>(image.width) * 3, 3, static_cast<std::size_t>(width) * 3);
  }
  if (image.height == height) return wide;
  Image out = blank(width, height);
  const std::size_t row = static_cast<std::size_t>(width) * 3;
  pass(wide.rgb.data(), out.rgb.data(), windows(image.height, height, filter), width, row, 3, row,
       3);
  return out;
}

Image crop(const Image& image, int left, int top, int width, int height) {
  Image out = blank(width, height);
  const int first = std::max(0, -left);
  const int last = std::min(width, image.width - left);
  for (int y = std::max(0, -top); y < std::min(height, image.height - top); ++y) {
    if (last <= first) break;
    const auto from = (static_cast<std::size_t>(y + top) * image.width + (first + left)) * 3;
    const auto to = (static_cast<std::size_t>(y) * width + first) * 3;
    std::copy_n(image.rgb.begin() + static_cast<std::ptrdiff_t>(from), (last - first) * 3,
                out.rgb.begin() + static_cast<std::ptrdiff_t>(to));
  }
  return out;
}

}  // namespace ptame
