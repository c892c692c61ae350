#pragma once
// Lines of a text file, one at a time.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "traces/input/byte_source.hpp"

namespace tessera::traces {

class LineReader {
 public:
  /// A longer line is cut to this, and `too_long` says so; the rest of it is passed over.
  static constexpr std::size_t kMostBytes = std::size_t{1} << 22;

  explicit LineReader(std::unique_ptr<ByteSource> source) : source_{std::move(source)} {}

  /// Goes to the next line; false at the end of the file.
  bool next();

  /// Without its line feed, or carriage return and line feed. Valid until the next call of next().
  std::string_view line() const { return line_; }
  std::int64_t number() const { return number_; }  ///< 1, 2, ...
  bool ended() const { return ended_; }            ///< false: the file ends without a line feed
  bool too_long() const { return too_long_; }

 private:
  std::unique_ptr<ByteSource> source_;
  std::string_view piece_, line_;
  std::string kept_;  // of a line that goes over pieces
  std::int64_t number_ = 0;
  bool ended_ = true, too_long_ = false;
};

}  // namespace tessera::traces
