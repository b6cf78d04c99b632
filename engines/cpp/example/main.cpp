// What is in the photo, and where does the classifier see it?
//
//   build/example PHOTO [CLASS...]     classes only for graphs exported with --classes input
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <ptame/ptame.hpp>

int main(int count, char** words) {
  if (count < 2) {
    std::cerr << "Usage: " << words[0] << " PHOTO [CLASS...]\n";
    return 2;
  }
  try {
    ptame::Explainer explainer("model");  // the folder beside this program's sources
    for (const auto& caution : explainer.cautions()) std::cerr << "Warning: " << caution << "\n";
    std::vector<std::int64_t> classes;
    for (int i = 2; i < count; ++i) classes.push_back(std::atoll(words[i]));
    const ptame::Result result = explainer.explain(ptame::read_photo(words[1]), classes);
    for (const auto& one : result.classes) {
      const auto peak = std::max_element(one.saliency.begin(), one.saliency.end());
      const auto at = static_cast<int>(peak - one.saliency.begin());
      std::cout << one.class_index << " " << one.name << ", probability " << one.probability
                << ", seen most at row " << at / result.map_width << " of " << result.map_height
                << ", column " << at % result.map_width << " of " << result.map_width << "\n";
    }
    return 0;
  } catch (const ptame::Error& error) {
    std::cerr << "Error: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
