// Explain photos by an artifact of ptame-deploy: class, probability and saliency map in one pass.
//
//   ptame::Explainer explainer("model");
//   for (const auto& one : explainer.explain(ptame::read_photo("cat.jpg")).classes)
//     std::cout << one.name << " " << one.probability << "\n";
//
// Everything throws ptame::Error. An Explainer may be used by one thread at a time; several may
// live at once. The C interface (ptame.h) throws nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ptame {

// The numbers are the exit codes of the command line.
enum class Code { check_failed = 1, invalid_input = 2, missing = 3, corrupt = 4, bug = 70 };

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const noexcept { return code_; }

 private:
  Code code_;
};

// 8-bit RGB, row by row, three bytes a pixel.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;
};

// One explained class of one photo.
struct Explanation {
  std::int64_t class_index = 0;
  std::string name;                  // "class N" where the classifier has no names
  float probability = 0;             // softmax over all classes, or sigmoid
  std::vector<float> saliency;       // map_height x map_width, in [0, 1], row by row
};

// What the graph says of one photo.
struct Result {
  std::vector<float> logits;
  std::vector<Explanation> classes;  // best first, or as asked
  int map_height = 0;
  int map_width = 0;
};

struct Options {
  int threads = 0;        // within an operator, of graphs only; 0 for one a core
  int max_batch = 8;      // photos that run together at most; fewer where an engine takes fewer
  bool check_hash = true; // compare a graph with its JSON; false saves reading it once more.
                          // Engines are always compared: they are code
};

// Decode a JPEG or PNG as the Python side does: upright by EXIF, transparency on white.
Image read_photo(const std::string& path);
Image decode_photo(const std::uint8_t* bytes, std::size_t size, const std::string& name);

class Explainer {
 public:
  // Opens what `ptame export` or `ptame quantize` wrote, or `ptame build` where the library was
  // configured for TensorRT, after its JSON and hash were checked; of an engine also TensorRT's
  // version, the GPU and its driver, before it is deserialised.
  explicit Explainer(const std::string& directory, const Options& options = {});
  ~Explainer();
  Explainer(Explainer&&) noexcept;
  Explainer& operator=(Explainer&&) noexcept;
  Explainer(const Explainer&) = delete;
  Explainer& operator=(const Explainer&) = delete;

  // Photos of any size. `classes` only for graphs exported with --classes input: the same for all.
  std::vector<Result> explain(const std::vector<Image>& photos,
                              const std::vector<std::int64_t>& classes = {});
  Result explain(const Image& photo, const std::vector<std::int64_t>& classes = {});

  // The same in two steps, so that photos need not be held: resize and crop as the classifier
  // expects, to input_height x input_width; and explain what was prepared.
  Image prepare(const Image& photo) const;
  std::vector<Result> explain_prepared(const std::vector<Image>& images,
                                       const std::vector<std::int64_t>& classes = {});

  int num_classes() const noexcept;
  int input_height() const noexcept;
  int input_width() const noexcept;
  bool takes_classes() const noexcept;
  const std::vector<std::string>& class_names() const noexcept;  // empty where there are none
  const std::vector<std::string>& cautions() const noexcept;     // what readers of maps must know
  std::string runtime() const;                                   // name and version

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace ptame
