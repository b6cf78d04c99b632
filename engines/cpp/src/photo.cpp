// JPEG and PNG, decoded as Pillow does by its defaults: the accurate DCT, smooth chroma.
#include <csetjmp>
#include <cstdio>  // libjpeg's header needs it first
#include <cstring>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#include <fstream>
#include <iterator>
#include <memory>

#include "ptame/ptame.hpp"

namespace ptame {
namespace {

constexpr std::size_t kMaxPixels = 89478485;  // as on the Python side: 256 MiB of RGB

[[noreturn]] void refuse(const std::string& name, const std::string& reason) {
  throw Error(Code::invalid_input, name + ": " + reason);
}

void check_size(const std::string& name, std::size_t width, std::size_t height) {
  if (width == 0 || height == 0) refuse(name, "it has no pixels");
  if (width > kMaxPixels / height)
    refuse(name, std::to_string(width) + "x" + std::to_string(height) + " is over the limit of " +
                     std::to_string(kMaxPixels) + " pixels");
}

// Orientation 1 to 8 by EXIF (TIFF tag 0x0112); 1 where there is none that can be read.
int orientation_of(const std::uint8_t* exif, std::size_t size) {
  if (size < 8) return 1;
  const bool little = exif[0] == 'I' && exif[1] == 'I';
  if (!little && !(exif[0] == 'M' && exif[1] == 'M')) return 1;
  const auto number = [&](std::size_t at, std::size_t bytes) -> std::size_t {
    std::size_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value |= static_cast<std::size_t>(exif[at + i]) << 8 * (little ? i : bytes - 1 - i);
    return value;
  };
  const std::size_t directory = number(4, 4);
  if (number(2, 2) != 42 || directory > size - 2) return 1;
  const std::size_t entries = number(directory, 2);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t at = directory + 2 + entry * 12;
    if (at + 12 > size) return 1;
    if (number(at, 2) != 0x0112) continue;
    const std::size_t value = number(at + 8, 2);
    return number(at + 2, 2) == 3 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool turned = orientation >= 5;
  Image out;
  out.width = turned ? image.height : image.width;
  out.height = turned ? image.width : image.height;
  out.rgb.resize(image.rgb.size());
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      int from_x = turned ? y : x;
      int from_y = turned ? x : y;
      // 2 and 7, 3, 4 and so on: mirrored along x, along y, or both, after the axes were swapped.
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
        from_x = image.width - 1 - from_x;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
        from_y = image.height - 1 - from_y;
      const auto from = (static_cast<std::size_t>(from_y) * image.width + from_x) * 3;
      const auto to = (static_cast<std::size_t>(y) * out.width + x) * 3;
      std::memcpy(&out.rgb[to], &image.rgb[from], 3);
    }
  }
  return out;
}

struct JpegErrors {
  jpeg_error_mgr manager;  // first, so that libjpeg's pointer to it is one to all of this
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void on_jpeg_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  (*info->err->format_message)(info, errors->message);
  std::longjmp(errors->jump, 1);
}

void on_jpeg_warning(j_common_ptr info, int level) {
  // A file that is cut short is only a warning to libjpeg, which goes on with grey. What else it
  // warns of (bytes too many, odd markers) Pillow lets pass, and so does this.
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) on_jpeg_error(info);
}

// Everything that a jump may leave behind lives outside the function that it jumps to.
struct JpegDecoder {
  jpeg_decompress_struct info{};
  JpegErrors errors{};
  bool made = false;
  ~JpegDecoder() {
    if (made) jpeg_destroy_decompress(&info);
  }
};

// Returns false where libjpeg gave up; its reason is in the decoder.
bool start_jpeg(JpegDecoder& decoder, const std::uint8_t* bytes, std::size_t size) {
  decoder.info.err = jpeg_std_error(&decoder.errors.manager);
  decoder.errors.manager.error_exit = on_jpeg_error;
  decoder.errors.manager.emit_message = on_jpeg_warning;
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  decoder.made = true;
  jpeg_mem_src(&decoder.info, bytes, static_cast<unsigned long>(size));
  jpeg_save_markers(&decoder.info, JPEG_APP0 + 1, 0xFFFF);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

bool read_jpeg_rows(JpegDecoder& decoder, Image& image) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_start_decompress(&decoder.info);
  while (decoder.info.output_scanline < decoder.info.output_height) {
    JSAMPROW row = &image.rgb[static_cast<std::size_t>(decoder.info.output_scanline) *
                              static_cast<std::size_t>(image.width) * 3];
    jpeg_read_scanlines(&decoder.info, &row, 1);
  }
  jpeg_finish_decompress(&decoder.info);
  return true;
}

Image decode_jpeg(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  JpegDecoder decoder;
  const auto give_up = [&] {
    refuse(name, std::string("cannot be decoded (") + decoder.errors.message + ")");
  };
  if (!start_jpeg(decoder, bytes, size)) give_up();
  check_size(name, decoder.info.image_width, decoder.info.image_height);
  if (decoder.info.num_components == 4)
    refuse(name, "a JPEG in CMYK, which this program does not read: save it as RGB");
  int orientation = 1;  // libjpeg forgets markers at the end
  for (auto marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker == JPEG_APP0 + 1 && marker->data_length > 6 &&
        std::memcmp(marker->data, "Exif\0\0", 6) == 0) {
      orientation = orientation_of(marker->data + 6, marker->data_length - 6);
      break;
    }
  }
  decoder.info.out_color_space = JCS_RGB;
  Image image{static_cast<int>(decoder.info.image_width),
              static_cast<int>(decoder.info.image_height),
              {}};
  image.rgb.resize(static_cast<std::size_t>(image.width) * image.height * 3);
  if (!read_jpeg_rows(decoder, image)) give_up();
  return upright(std::move(image), orientation);
}

struct PngImage : png_image {
  PngImage() : png_image{} { version = PNG_IMAGE_VERSION; }
  ~PngImage() { png_image_free(this); }
};

Image decode_png(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  PngImage png;
  if (!png_image_begin_read_from_memory(&png, bytes, size))
    refuse(name, std::string("cannot be decoded (") + png.message + ")");
  check_size(name, png.width, png.height);
  if (png.format & PNG_FORMAT_FLAG_LINEAR)
    refuse(name, "a PNG of 16 bits a channel, which this program does not read: save it in 8");
  png.format = PNG_FORMAT_RGBA;
  std::vector<std::uint8_t> rgba(PNG_IMAGE_SIZE(png));
  if (!png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) ||
      PNG_IMAGE_FAILED(png))
    refuse(name, std::string("cannot be decoded (") + png.message + ")");
  Image image{static_cast<int>(png.width), static_cast<int>(png.height), {}};
  image.rgb.resize(rgba.size() / 4 * 3);
  for (std::size_t pixel = 0; pixel < rgba.size() / 4; ++pixel) {
    const unsigned alpha = rgba[pixel * 4 + 3];
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const unsigned value = rgba[pixel * 4 + channel] * alpha + 255 * (255 - alpha);
      image.rgb[pixel * 3 + channel] = static_cast<std::uint8_t>((value + 127) / 255);
    }
  }
  return image;
}

}  // namespace

Image decode_photo(const std::uint8_t* bytes, std::size_t size, const std::string& name) {
  if (size >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF)
    return decode_jpeg(bytes, size, name);
  if (size >= 8 && png_sig_cmp(bytes, 0, 8) == 0) return decode_png(bytes, size, name);
  refuse(name, "not a JPEG and not a PNG");
}

Image read_photo(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(path, "cannot be opened");
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) refuse(path, "cannot be read");
  return decode_photo(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), path);
}

}  // namespace ptame
