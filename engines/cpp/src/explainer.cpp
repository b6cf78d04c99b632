#include <algorithm>
#include <cmath>
#include <exception>

#include "manifest.hpp"
#include "runtime.hpp"

namespace ptame {
namespace {

constexpr double kMaxResizedPixels = 100'000'000;

// Half to even, as Python's round.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

Image prepared(const Manifest& manifest, const Image& photo) {
  if (photo.width < 1 || photo.height < 1 ||
      photo.rgb.size() != static_cast<std::size_t>(photo.width) * photo.height * 3)
    throw Error(Code::invalid_input, "An image has not three bytes a pixel, or no pixel at all.");
  int width = manifest.resize, height = manifest.resize;
  if (!manifest.squash) {
    const double shorter = std::min(photo.width, photo.height);
    const double longer =
        static_cast<double>(manifest.resize) * std::max(photo.width, photo.height) / shorter;
    if (std::floor(longer) * manifest.resize > kMaxResizedPixels)
      throw Error(Code::invalid_input, "a photo of " + std::to_string(photo.width) + "x" +
                                           std::to_string(photo.height) +
                                           " is too long and narrow to be resized");
    (photo.width <= photo.height ? height : width) = static_cast<int>(longer);
  }
  const Image resized = resize(photo, width, height, manifest.interpolation);
  return crop(resized, rounded((width - manifest.input_width) / 2.0),
              rounded((height - manifest.input_height) / 2.0), manifest.input_width,
              manifest.input_height);
}

void append(const Manifest& manifest, const Image& image, Batch& batch) {
  if (manifest.takes_uint8()) {
    batch.bytes.insert(batch.bytes.end(), image.rgb.begin(), image.rgb.end());
    return;
  }
  const std::size_t area = image.rgb.size() / 3, at = batch.pixels.size();
  batch.pixels.resize(at + image.rgb.size());
  for (std::size_t channel = 0; channel < 3; ++channel)
    for (std::size_t pixel = 0; pixel < area; ++pixel)
      batch.pixels[at + channel * area + pixel] =
          static_cast<float>(image.rgb[pixel * 3 + channel]) / 255.0F;
}

bool finite(const float* values, std::size_t count) {
  return std::all_of(values, values + count, [](float one) { return std::isfinite(one); });
}

}  // namespace

struct Explainer::Parts {
  Manifest manifest;
  Options options;
  std::unique_ptr<Runtime> runtime;

  void check_classes(const std::vector<std::int64_t>& classes) const {
    if (!manifest.takes_classes()) {
      if (!classes.empty())
        throw Error(Code::invalid_input,
                    "This graph chooses itself which classes it explains. To choose them, export it "
                    "with --classes input.");
      return;
    }
    if (classes.empty())
      throw Error(Code::invalid_input,
                  "This graph was exported with --classes input: say which classes to explain.");
    for (const auto one : classes)
      if (one < 0 || one >= manifest.num_classes)
        throw Error(Code::invalid_input, "Class " + std::to_string(one) +
                                             " does not exist: the classifier has classes 0 to " +
                                             std::to_string(manifest.num_classes - 1) + ".");
  }

  Result result(const Batch& batch, std::size_t photo) const {
    const auto classes = static_cast<std::size_t>(manifest.num_classes);
    const auto each = static_cast<std::size_t>(batch.classes_each);
    const auto area = static_cast<std::size_t>(manifest.map_height) * manifest.map_width;
    const float* logits = &batch.logits[photo * classes];
    const float* maps = &batch.saliency[photo * each * area];
    if (!finite(logits, classes) || !finite(maps, each * area))
      throw Error(Code::check_failed,
                  "The graph answers with values that are NaN or infinite. Its classifier's "
                  "weights are broken, or its precision is too low for this photo.");
    Result made;
    made.map_height = manifest.map_height;
    made.map_width = manifest.map_width;
    made.logits.assign(logits, logits + classes);
    const float top = *std::max_element(logits, logits + classes);
    double sum = 0;
    for (std::size_t i = 0; i < classes; ++i) sum += std::exp(double(logits[i]) - top);
    for (std::size_t rank = 0; rank < each; ++rank) {
      Explanation one;
      one.class_index = batch.chosen[photo * each + rank];
      if (one.class_index < 0 || one.class_index >= manifest.num_classes)
        throw Error(Code::check_failed, "The graph names a class that there is not.");
      const auto index = static_cast<std::size_t>(one.class_index);
      one.name = manifest.class_names.empty() ? "class " + std::to_string(one.class_index)
                                              : manifest.class_names[index];
      one.probability = static_cast<float>(manifest.sigmoid
                                               ? 1 / (1 + std::exp(-double(logits[index])))
                                               : std::exp(double(logits[index]) - top) / sum);
      one.saliency.assign(maps + rank * area, maps + (rank + 1) * area);
      made.classes.push_back(std::move(one));
    }
    return made;
  }
};

Explainer::Explainer(const std::string& directory, const Options& options)
    : parts_(std::make_unique<Parts>()) {
  if (options.max_batch < 1 || options.threads < 0)
    throw Error(Code::invalid_input, "max_batch must be at least 1, and threads at least 0.");
  parts_->options = options;
  auto opened = open_artifact(directory, options);
  parts_->manifest = std::move(opened.manifest);
  parts_->runtime = std::move(opened.runtime);
}

Explainer::~Explainer() = default;
Explainer::Explainer(Explainer&&) noexcept = default;
Explainer& Explainer::operator=(Explainer&&) noexcept = default;

std::vector<Result> Explainer::explain(const std::vector<Image>& photos,
                                       const std::vector<std::int64_t>& classes) {
  std::vector<Image> images;
  images.reserve(photos.size());
  for (const auto& photo : photos) images.push_back(prepare(photo));
  return explain_prepared(images, classes);
}

std::vector<Result> Explainer::explain_prepared(const std::vector<Image>& images,
                                                const std::vector<std::int64_t>& classes) {
  if (images.empty()) throw Error(Code::invalid_input, "No photos were given.");
  parts_->check_classes(classes);
  const Manifest& manifest = parts_->manifest;
  for (const auto& image : images)
    if (image.width != manifest.input_width || image.height != manifest.input_height ||
        image.rgb.size() != static_cast<std::size_t>(image.width) * image.height * 3)
      throw Error(Code::invalid_input, "An image is " + std::to_string(image.width) + "x" +
                                           std::to_string(image.height) +
                                           " and was not prepared for this classifier.");
  const auto [smallest, largest] = parts_->runtime->batches();
  const auto limit = static_cast<std::size_t>(
      std::min<std::int64_t>(parts_->options.max_batch, largest));
  std::vector<Result> results;
  for (std::size_t start = 0; start < images.size(); start += limit) {
    const std::size_t stop = std::min(start + limit, images.size());
    Batch batch;
    // Filled up to the smallest batch that an engine takes; the filling's answers are left out, for
    // those of one photo do not depend on the others of its batch.
    const std::size_t count = std::max(stop - start, static_cast<std::size_t>(smallest));
    batch.count = static_cast<std::int64_t>(count);
    batch.classes_each = manifest.takes_classes() ? static_cast<std::int64_t>(classes.size())
                                                  : manifest.top_k;
    for (std::size_t i = start; i < start + count; ++i) {
      append(manifest, images[std::min(i, stop - 1)], batch);
      batch.classes.insert(batch.classes.end(), classes.begin(), classes.end());
    }
    try {
      parts_->runtime->run(batch);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(Code::check_failed, std::string("The graph failed: ") + error.what());
    }
    const auto each = static_cast<std::size_t>(batch.classes_each);
    const auto area = static_cast<std::size_t>(manifest.map_height) * manifest.map_width;
    if (batch.logits.size() != count * static_cast<std::size_t>(manifest.num_classes) ||
        batch.saliency.size() != count * each * area || batch.chosen.size() != count * each)
      throw Error(Code::corrupt, "The graph's answers have other sizes than its manifest says.");
    for (std::size_t i = 0; i < stop - start; ++i) results.push_back(parts_->result(batch, i));
  }
  return results;
}

Result Explainer::explain(const Image& photo, const std::vector<std::int64_t>& classes) {
  return std::move(explain(std::vector<Image>{photo}, classes).front());
}

Image Explainer::prepare(const Image& photo) const { return prepared(parts_->manifest, photo); }
int Explainer::num_classes() const noexcept { return parts_->manifest.num_classes; }
int Explainer::input_height() const noexcept { return parts_->manifest.input_height; }
int Explainer::input_width() const noexcept { return parts_->manifest.input_width; }
bool Explainer::takes_classes() const noexcept { return parts_->manifest.takes_classes(); }
const std::vector<std::string>& Explainer::class_names() const noexcept {
  return parts_->manifest.class_names;
}
const std::vector<std::string>& Explainer::cautions() const noexcept {
  return parts_->manifest.cautions;
}
std::string Explainer::runtime() const { return parts_->runtime->description(); }

}  // namespace ptame
