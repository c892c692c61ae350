#pragma once
// JSON, token by token, from a piece of text or from a file of any size. Strict (RFC 8259); nesting is
// limited, and so is the length of a string.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "traces/input/byte_source.hpp"

namespace tessera::traces {

/// What is wrong, without file or line.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class JsonToken : std::uint8_t {
  begin_object,
  end_object,
  begin_array,
  end_array,
  key,
  string,
  number,
  literal,
  end
};

class JsonPull {
 public:
  static constexpr std::size_t kMostDepth = 256, kMostText = std::size_t{1} << 20;

  JsonPull() = default;
  /// Reads from `source`, which must outlive this.
  explicit JsonPull(ByteSource& source) : source_{&source} {}
  /// Starts over with a whole text, which must outlive the reading of it.
  void reset(std::string_view text);

  /// Throws JsonError.
  JsonToken next();
  /// Of the last key, string, number or literal (true, false, null): unescaped. Valid until next().
  std::string_view text() const { return text_; }
  double number() const;  ///< of the last number
  /// Of the last number. Throws JsonError unless it is whole and fits.
  std::int64_t integer() const;
  /// After a key, or in an array: reads the next value whole. True if there was one: false at an array's end.
  bool skip_value();
  /// Reads on to the end of the value that the last token began.
  void finish_value(JsonToken begun);
  std::int64_t line() const { return line_; }

 private:
  enum class Expect : std::uint8_t { value, value_or_end, key, key_or_end, colon, comma_or_end, nothing };

  int peek();
  int take();
  void skip_space();
  void read_string();
  void read_escape();
  void read_number();
  void read_literal();
  void append(char c);
  std::uint32_t read_hex4();
  void append_utf8(std::uint32_t code);
  void check_utf8() const;
  JsonToken begin(bool object);
  JsonToken close(bool object);
  JsonToken value_done(JsonToken token);

  ByteSource* source_ = nullptr;
  std::string_view piece_;
  std::string text_;
  std::vector<bool> objects_;  // what is open: objects and arrays
  Expect expect_ = Expect::value;
  std::int64_t line_ = 1;
};

}  // namespace tessera::traces
