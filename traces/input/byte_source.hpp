#pragma once
// Where the bytes of a trace come from. A piece at a time: memory does not grow with the file.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace tessera::traces {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// The next bytes, valid until the next call; empty at the end. Throws config::InputError naming the file.
  virtual std::string_view read() = 0;
};

/// A file, as it is or unpacked if its content is gzip.
std::unique_ptr<ByteSource> open_file(const std::filesystem::path& file);

/// Text in memory, given out in pieces of at most `piece` bytes.
class TextSource : public ByteSource {
 public:
  explicit TextSource(std::string_view text, std::size_t piece = std::string_view::npos)
      : text_{text}, piece_{piece} {}
  std::string_view read() override {
    const std::string_view out = text_.substr(0, piece_);
    text_.remove_prefix(out.size());
    return out;
  }

 private:
  std::string_view text_;
  std::size_t piece_;
};

}  // namespace tessera::traces
