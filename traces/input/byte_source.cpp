#include "traces/input/byte_source.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "configs/reader/document.hpp"

namespace tessera::traces {

namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;

class FileSource : public ByteSource {
 public:
  explicit FileSource(const std::filesystem::path& file) : name_{file.string()}, buffer_(kPiece) {
    if (std::filesystem::is_directory(file))
      throw config::InputError{fmt::format("{}: is a directory", name_)};
    errno = 0;
    file_ = gzopen(file.c_str(), "rb");
    if (file_ == nullptr)
      throw config::InputError{fmt::format("{}: {}", name_, errno != 0 ? std::strerror(errno) : "no memory")};
    gzbuffer(file_, kPiece);
  }
  ~FileSource() override { gzclose_r(file_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  std::string_view read() override {
    const int n = gzread(file_, buffer_.data(), static_cast<unsigned>(buffer_.size()));
    int status = Z_OK;
    const char* text = gzerror(file_, &status);
    // A gzip file that ends early gives what there is, and then this.
    if (n < 0 || (n == 0 && status == Z_BUF_ERROR)) {
      std::string_view what = status == Z_ERRNO       ? std::strerror(errno)
                              : status == Z_BUF_ERROR ? "the gzip data is cut short"
                                                      : text;
      if (what.starts_with(name_ + ": ")) what.remove_prefix(name_.size() + 2);  // zlib says so too
      throw config::InputError{fmt::format("{}: {}", name_, what)};
    }
    return {buffer_.data(), static_cast<std::size_t>(n)};
  }

 private:
  std::string name_;
  std::vector<char> buffer_;
  gzFile file_ = nullptr;
};

}  // namespace

std::unique_ptr<ByteSource> open_file(const std::filesystem::path& file) {
  return std::make_unique<FileSource>(file);
}

}  // namespace tessera::traces
