// ptame-run: explain photos by an artifact, one JSON line a photo.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ptame/ptame.hpp"

namespace {

namespace fs = std::filesystem;
using ptame::Code;
using ptame::Error;

constexpr const char* kUsage = R"(Usage: ptame-run MODEL PHOTO... [options]
Explain photos (JPEG, PNG) by a graph that `ptame export` or `ptame quantize` wrote, or by an engine
of `ptame build` where this program was built for TensorRT.
Prints a JSON line for each photo: classes, names, probabilities.

  --class N     class to explain, for a graph exported with --classes input; repeatable
  --maps DIR    also write each photo's maps: NAME.npy, float32 (K, h, w)
  --threads N   threads within an operator, of graphs; 0 for one a core (0)
  --batch N     photos that run together (8)
  --bench N     instead: time N runs of the photos as one batch, after a few to warm up; prints a
                JSON line
  --turns       with --bench: do so for each line of the standard input, until it ends; so two
                programs can be measured in turns
  --help        this text

Exit codes: 0 done, 1 a check failed, 2 bad usage or input, 3 something is missing,
4 an artifact is corrupt.
)";

struct Arguments {
  std::string model;
  std::vector<std::string> photos;
  std::vector<std::int64_t> classes;
  std::string maps;
  ptame::Options options;
  int bench = 0;
  bool turns = false;
};

constexpr int kWarmUp = 3;

std::int64_t number(const std::string& option, const std::string& text) {
  try {
    std::size_t used = 0;
    const long long value = std::stoll(text, &used);
    if (used == text.size()) return value;
  } catch (const std::exception&) {
  }
  throw Error(Code::invalid_input, option + " takes a whole number, got '" + text + "'.");
}

Arguments parse(int count, char** words) {
  Arguments found;
  std::vector<std::string> plain;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word.rfind("--", 0) != 0) {
      plain.push_back(word);
      continue;
    }
    if (word == "--turns") {
      found.turns = true;
      continue;
    }
    if (i + 1 == count) throw Error(Code::invalid_input, word + " needs a value; see --help.");
    const std::string value = words[++i];
    if (word == "--class")
      found.classes.push_back(number(word, value));
    else if (word == "--maps")
      found.maps = value;
    else if (word == "--threads")
      found.options.threads = static_cast<int>(number(word, value));
    else if (word == "--batch")
      found.options.max_batch = static_cast<int>(number(word, value));
    else if (word == "--bench")
      found.bench = static_cast<int>(number(word, value));
    else
      throw Error(Code::invalid_input, "No option " + word + "; see --help.");
  }
  if (found.bench < 0 || (found.turns && found.bench == 0))
    throw Error(Code::invalid_input, "--bench takes at least 1, and --turns needs it.");
  if (plain.size() < 2) throw Error(Code::invalid_input, "Give a model and photos; see --help.");
  found.model = plain.front();
  found.photos.assign(plain.begin() + 1, plain.end());
  return found;
}

void write_npy(const fs::path& path, const ptame::Result& result) {
  std::ostringstream shape;
  shape << "{'descr': '<f4', 'fortran_order': False, 'shape': (" << result.classes.size() << ", "
        << result.map_height << ", " << result.map_width << "), }";
  std::string head = shape.str();
  head.append(64 - (10 + head.size() + 1) % 64, ' ');
  head += '\n';
  const fs::path temporary = path.string() + ".part";
  {
    std::ofstream file(temporary, std::ios::binary);
    file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(head.size() & 255)
         << static_cast<char>(head.size() >> 8) << head;
    for (const auto& one : result.classes)
      file.write(reinterpret_cast<const char*>(one.saliency.data()),
                 static_cast<std::streamsize>(one.saliency.size() * sizeof(float)));
    if (!file.flush()) throw Error(Code::missing, path.string() + " cannot be written.");
  }
  fs::rename(temporary, path);
}

// Time runs of a batch; the first one is not counted, which finds the caches as others left them.
void time_turn(ptame::Explainer& explainer, const std::vector<ptame::Image>& images,
               const Arguments& arguments) {
  std::vector<double> times;
  for (int i = 0; i <= arguments.bench; ++i) {
    const auto began = std::chrono::steady_clock::now();
    explainer.explain_prepared(images, arguments.classes);
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - began;
    if (i > 0) times.push_back(spent.count());
  }
  nlohmann::json line = {{"runtime", explainer.runtime()},
                         {"batch", images.size()},
                         {"runs", times.size()},
                         {"ms", times}};
  std::sort(times.begin(), times.end());
  line["p50_ms"] = times[times.size() / 2];
  line["p90_ms"] = times[times.size() * 9 / 10];
  std::cout << line.dump() << std::endl;  // flushed: whoever takes turns waits for it
}

void bench(ptame::Explainer& explainer, const Arguments& arguments) {
  std::vector<ptame::Image> images;
  for (const auto& path : arguments.photos)
    images.push_back(explainer.prepare(ptame::read_photo(path)));
  if (images.size() > static_cast<std::size_t>(arguments.options.max_batch))
    throw Error(Code::invalid_input, "--bench takes " + std::to_string(images.size()) +
                                         " photos as one batch: raise --batch.");
  for (int i = 0; i < kWarmUp; ++i) explainer.explain_prepared(images, arguments.classes);
  if (!arguments.turns) return time_turn(explainer, images, arguments);
  for (std::string line; std::getline(std::cin, line);) time_turn(explainer, images, arguments);
}

int explain(ptame::Explainer& explainer, const Arguments& arguments) {
  if (!arguments.maps.empty()) fs::create_directories(arguments.maps);
  int skipped = 0;
  const auto batch = static_cast<std::size_t>(arguments.options.max_batch);
  for (std::size_t start = 0; start < arguments.photos.size(); start += batch) {
    std::vector<ptame::Image> images;
    std::vector<std::string> paths;
    for (std::size_t i = start; i < std::min(start + batch, arguments.photos.size()); ++i) {
      try {
        images.push_back(explainer.prepare(ptame::read_photo(arguments.photos[i])));
        paths.push_back(arguments.photos[i]);
      } catch (const Error& error) {
        std::cerr << "Skipped: " << error.what() << "\n";
        ++skipped;
      }
    }
    if (images.empty()) continue;
    const auto results = explainer.explain_prepared(images, arguments.classes);
    for (std::size_t i = 0; i < results.size(); ++i) {
      nlohmann::json line = {{"photo", paths[i]}, {"results", nlohmann::json::array()}};
      for (const auto& one : results[i].classes)
        line["results"].push_back({{"class_index", one.class_index},
                                   {"class_name", one.name},
                                   {"probability", one.probability}});
      if (!arguments.maps.empty())
        write_npy(fs::path(arguments.maps) / fs::path(paths[i]).stem().concat(".npy"), results[i]);
      // Names of files and classes may hold any bytes; JSON may not.
      std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
    }
  }
  return skipped == 0 ? 0 : static_cast<int>(Code::invalid_input);
}

}  // namespace

int main(int count, char** words) {
  try {
    for (int i = 1; i < count; ++i) {
      if (std::string(words[i]) == "--help") {
        std::cout << kUsage;
        return 0;
      }
    }
    const Arguments arguments = parse(count, words);
    ptame::Explainer explainer(arguments.model, arguments.options);
    for (const auto& caution : explainer.cautions()) std::cerr << "Warning: " << caution << "\n";
    if (arguments.bench > 0) {
      bench(explainer, arguments);
      return 0;
    }
    return explain(explainer, arguments);
  } catch (const Error& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return static_cast<int>(error.code());
  } catch (const fs::filesystem_error& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return static_cast<int>(Code::invalid_input);
  } catch (const std::bad_alloc&) {
    std::cerr << "Error: out of memory; take a smaller --batch.\n";
    return static_cast<int>(Code::missing);
  } catch (const std::exception& error) {
    std::cerr << "Error: " << error.what() << " (a bug in ptame-run)\n";
    return static_cast<int>(Code::bug);
  }
}
