#include "ptame/ptame.h"

#include <exception>
#include <new>
#include <string>

#include "ptame/ptame.hpp"

struct ptame_explainer {
  ptame::Explainer explainer;
};

struct ptame_result {
  ptame::Result result;
};

namespace {

thread_local std::string last_error;

ptame_code fail(ptame_code code, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return code;
}

// Run what may throw; nothing leaves through C.
template <typename Call>
ptame_code guarded(Call call) noexcept {
  try {
    last_error.clear();
    call();
    return PTAME_OK;
  } catch (const ptame::Error& error) {
    return fail(static_cast<ptame_code>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(PTAME_MISSING, "Out of memory.");
  } catch (const std::exception& error) {
    return fail(PTAME_BUG, error.what());
  } catch (...) {
    return fail(PTAME_BUG, "Something was thrown that is no exception.");
  }
}

std::vector<std::int64_t> listed(const std::int64_t* classes, std::size_t count) {
  if (classes == nullptr && count != 0)
    throw ptame::Error(ptame::Code::invalid_input, "classes is NULL.");
  return classes == nullptr ? std::vector<std::int64_t>{}
                            : std::vector<std::int64_t>(classes, classes + count);
}

void check(const void* pointer, const char* name) {
  if (pointer == nullptr)
    throw ptame::Error(ptame::Code::invalid_input, std::string(name) + " is NULL.");
}

const ptame::Explanation* at(const ptame_result* result, std::size_t rank) noexcept {
  if (result == nullptr || rank >= result->result.classes.size()) return nullptr;
  return &result->result.classes[rank];
}

}  // namespace

extern "C" {

ptame_code ptame_open(const char* directory, int threads, ptame_explainer** explainer) {
  return guarded([&] {
    check(explainer, "explainer");
    *explainer = nullptr;
    check(directory, "directory");
    ptame::Options options;
    options.threads = threads;
    *explainer = new ptame_explainer{ptame::Explainer(directory, options)};
  });
}

void ptame_close(ptame_explainer* explainer) { delete explainer; }

ptame_code ptame_explain_file(ptame_explainer* explainer, const char* path, const int64_t* classes,
                              size_t count, ptame_result** result) {
  return guarded([&] {
    check(result, "result");
    *result = nullptr;
    check(explainer, "explainer");
    check(path, "path");
    *result = new ptame_result{
        explainer->explainer.explain(ptame::read_photo(path), listed(classes, count))};
  });
}

ptame_code ptame_explain_rgb(ptame_explainer* explainer, const uint8_t* rgb, int width, int height,
                             const int64_t* classes, size_t count, ptame_result** result) {
  return guarded([&] {
    check(result, "result");
    *result = nullptr;
    check(explainer, "explainer");
    check(rgb, "rgb");
    if (width < 1 || height < 1)
      throw ptame::Error(ptame::Code::invalid_input, "An image needs at least one pixel.");
    const auto size = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3;
    const ptame::Image image{width, height, {rgb, rgb + size}};
    *result = new ptame_result{explainer->explainer.explain(image, listed(classes, count))};
  });
}

void ptame_free(ptame_result* result) { delete result; }

size_t ptame_class_count(const ptame_result* result) {
  return result == nullptr ? 0 : result->result.classes.size();
}

int64_t ptame_class_index(const ptame_result* result, size_t rank) {
  const auto* one = at(result, rank);
  return one == nullptr ? -1 : one->class_index;
}

const char* ptame_class_name(const ptame_result* result, size_t rank) {
  const auto* one = at(result, rank);
  return one == nullptr ? nullptr : one->name.c_str();
}

float ptame_probability(const ptame_result* result, size_t rank) {
  const auto* one = at(result, rank);
  return one == nullptr ? 0.0F : one->probability;
}

const float* ptame_saliency(const ptame_result* result, size_t rank, int* height, int* width) {
  const auto* one = at(result, rank);
  if (one == nullptr) return nullptr;
  if (height != nullptr) *height = result->result.map_height;
  if (width != nullptr) *width = result->result.map_width;
  return one->saliency.data();
}

const char* ptame_last_error(void) { return last_error.c_str(); }

}  // extern "C"
