#include "traces/input/json_pull.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "traces/input/utf8.hpp"

namespace tessera::traces {

namespace {

constexpr int kEnd = -1;

std::string shown(int c) {
  if (c == kEnd) return "the end of the text";
  if (c >= 0x20 && c < 0x7F) return fmt::format("'{}'", static_cast<char>(c));
  return fmt::format("byte 0x{:02X}", c);
}

bool is_digit(int c) { return c >= '0' && c <= '9'; }

}  // namespace

void JsonPull::reset(std::string_view text) {
  source_ = nullptr;
  piece_ = text;
  objects_.clear();
  expect_ = Expect::value;
  line_ = 1;
}

int JsonPull::peek() {
  if (piece_.empty()) {
    if (source_ == nullptr) return kEnd;
    piece_ = source_->read();
    if (piece_.empty()) {
      source_ = nullptr;
      return kEnd;
    }
  }
  return static_cast<unsigned char>(piece_.front());
}

int JsonPull::take() {
  const int c = peek();
  if (c != kEnd) piece_.remove_prefix(1);
  if (c == '\n') ++line_;
  return c;
}

void JsonPull::skip_space() {
  for (int c = peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek()) take();
}

void JsonPull::append(char c) {
  if (text_.size() >= kMostText) throw JsonError{fmt::format("a text of more than {} bytes", kMostText)};
  text_ += c;
}

JsonToken JsonPull::begin(bool object) {
  if (objects_.size() >= kMostDepth) throw JsonError{fmt::format("nested more than {} deep", kMostDepth)};
  objects_.push_back(object);
  expect_ = object ? Expect::key_or_end : Expect::value_or_end;
  return object ? JsonToken::begin_object : JsonToken::begin_array;
}

JsonToken JsonPull::close(bool object) {
  if (objects_.empty() || objects_.back() != object)
    throw JsonError{fmt::format("expected a value, found '{}'", object ? '}' : ']')};
  objects_.pop_back();
  return value_done(object ? JsonToken::end_object : JsonToken::end_array);
}

JsonToken JsonPull::value_done(JsonToken token) {
  expect_ = objects_.empty() ? Expect::nothing : Expect::comma_or_end;
  return token;
}

JsonToken JsonPull::next() {
  skip_space();
  int c = peek();
  if (expect_ == Expect::nothing) {
    if (c != kEnd) throw JsonError{fmt::format("expected nothing more, found {}", shown(c))};
    return JsonToken::end;
  }
  if (expect_ == Expect::comma_or_end) {
    if (c == '}' || c == ']') {
      take();
      return close(c == '}');
    }
    if (c != ',')
      throw JsonError{fmt::format("expected ',' or '{}', found {}", objects_.back() ? '}' : ']', shown(c))};
    take();
    expect_ = objects_.back() ? Expect::key : Expect::value;
    skip_space();
    c = peek();
  }
  if (expect_ == Expect::key || expect_ == Expect::key_or_end) {
    if (c == '}' && expect_ == Expect::key_or_end) {
      take();
      return close(true);
    }
    if (c != '"') throw JsonError{fmt::format("expected a key in quotes, found {}", shown(c))};
    read_string();
    skip_space();
    if (peek() != ':') throw JsonError{fmt::format("expected ':' after the key, found {}", shown(peek()))};
    take();
    expect_ = Expect::value;
    return JsonToken::key;
  }
  switch (c) {
    case '{':
      take();
      return begin(true);
    case '[':
      take();
      return begin(false);
    case ']':
      if (expect_ != Expect::value_or_end) break;
      take();
      return close(false);
    case '"':
      read_string();
      return value_done(JsonToken::string);
    default:
      if (c == '-' || is_digit(c)) {
        read_number();
        return value_done(JsonToken::number);
      }
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        read_literal();
        return value_done(JsonToken::literal);
      }
  }
  throw JsonError{fmt::format("expected a value, found {}", shown(c))};
}

void JsonPull::read_string() {
  take();
  text_.clear();
  for (;;) {
    // Up to the next quote, escape or control character at once.
    std::size_t plain = 0;
    while (plain < piece_.size() && piece_[plain] != '"' && piece_[plain] != '\\' &&
           static_cast<unsigned char>(piece_[plain]) >= 0x20) {
      ++plain;
    }
    if (text_.size() + plain > kMostText)
      throw JsonError{fmt::format("a text of more than {} bytes", kMostText)};
    text_.append(piece_.substr(0, plain));
    piece_.remove_prefix(plain);
    const int c = peek();
    if (c == kEnd) throw JsonError{"the text ends within a string"};
    if (c == '"') {
      take();
      break;
    }
    if (c == '\\') {
      take();
      read_escape();
    } else if (c < 0x20) {
      throw JsonError{fmt::format("a string holds control character {}", shown(c))};
    }
  }
  check_utf8();
}

void JsonPull::check_utf8() const {
  const std::size_t bad = first_bad_utf8(text_);
  if (bad != std::string_view::npos) {
    throw JsonError{
        fmt::format("a string is no UTF-8: byte 0x{:02X}", static_cast<unsigned char>(text_[bad]))};
  }
}

std::uint32_t JsonPull::read_hex4() {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const int c = take();
    const int digit = is_digit(c)            ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0)
      throw JsonError{fmt::format("expected four hexadecimal digits after \\u, found {}", shown(c))};
    value = value * 16 + static_cast<std::uint32_t>(digit);
  }
  return value;
}

void JsonPull::append_utf8(std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { append(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | (code >> 6));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

void JsonPull::read_escape() {
  const int c = take();
  constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
  if (c == 'u') {
    std::uint32_t code = read_hex4();
    if (code >= 0xD800 && code < 0xDC00) {
      if (take() != '\\' || take() != 'u') throw JsonError{"half of a surrogate pair"};
      const std::uint32_t low = read_hex4();
      if (low < 0xDC00 || low >= 0xE000) throw JsonError{"half of a surrogate pair"};
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code < 0xE000) {
      throw JsonError{"half of a surrogate pair"};
    }
    return append_utf8(code);
  }
  const std::size_t at = c == kEnd ? std::string_view::npos : from.find(static_cast<char>(c));
  if (at == std::string_view::npos) throw JsonError{fmt::format("no such escape: \\ and {}", shown(c))};
  append(to[at]);
}

void JsonPull::read_number() {
  text_.clear();
  const auto digits = [&](const char* where) {
    if (!is_digit(peek()))
      throw JsonError{fmt::format("expected a digit {}, found {}", where, shown(peek()))};
    while (is_digit(peek())) append(static_cast<char>(take()));
  };
  if (peek() == '-') append(static_cast<char>(take()));
  if (peek() == '0') {
    append(static_cast<char>(take()));
    if (is_digit(peek())) throw JsonError{"a number begins with 0"};
  } else {
    digits("in a number");
  }
  if (peek() == '.') {
    append(static_cast<char>(take()));
    digits("after the point");
  }
  if (peek() == 'e' || peek() == 'E') {
    append(static_cast<char>(take()));
    if (peek() == '+' || peek() == '-') append(static_cast<char>(take()));
    digits("in the exponent");
  }
}

void JsonPull::read_literal() {
  text_.clear();
  for (int c = peek(); (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); c = peek()) {
    append(static_cast<char>(take()));
    if (text_.size() > 16) break;
  }
  if (text_ != "true" && text_ != "false" && text_ != "null")
    throw JsonError{fmt::format("expected a value, found {}", text_)};
}

double JsonPull::number() const {
  double value = 0;
  const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
  if (error == std::errc::result_out_of_range || !std::isfinite(value))
    throw JsonError{fmt::format("{} is beyond what a number may be", text_)};
  return value;
}

std::int64_t JsonPull::integer() const {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
  if (error == std::errc::result_out_of_range)
    throw JsonError{fmt::format("{} is beyond what a number may be", text_)};
  if (error != std::errc{} || end != text_.data() + text_.size()) {
    // 3.0 and 2e3 are whole too.
    const double real = number();
    if (real != std::floor(real) || std::abs(real) > 9e15)
      throw JsonError{fmt::format("expected a whole number, found {}", text_)};
    value = static_cast<std::int64_t>(real);
  }
  return value;
}

void JsonPull::finish_value(JsonToken begun) {
  if (begun != JsonToken::begin_object && begun != JsonToken::begin_array) return;
  const std::size_t depth = objects_.size();
  while (objects_.size() >= depth) next();
}

bool JsonPull::skip_value() {
  const JsonToken token = next();
  if (token == JsonToken::end_array || token == JsonToken::end_object || token == JsonToken::end)
    return false;
  finish_value(token);
  return true;
}

}  // namespace tessera::traces
