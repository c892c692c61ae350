#include "traces/input/wire.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::traces {

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

std::uint64_t take_varint(std::string_view& from) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (from.empty()) throw WireError{"the message ends within a number"};
    const auto byte = static_cast<unsigned char>(from.front());
    from.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  throw WireError{"a number of more than ten bytes"};
}

bool WireFields::next() {
  if (rest_.empty()) return false;
  const std::uint64_t tag = take_varint(rest_);
  if ((tag >> 3) == 0 || (tag >> 3) > 0x1FFFFFFF)
    throw WireError{fmt::format("no field is numbered {}", tag >> 3)};
  number_ = static_cast<std::uint32_t>(tag >> 3);
  const auto take = [&](std::uint64_t count) {
    if (count > rest_.size())
      throw WireError{fmt::format("field {} is cut short: {} bytes of {}", number_, rest_.size(), count)};
    bytes_ = rest_.substr(0, static_cast<std::size_t>(count));
    rest_.remove_prefix(static_cast<std::size_t>(count));
  };
  type_ = static_cast<Type>(tag & 7);
  switch (type_) {
    case Type::varint:
      value_ = take_varint(rest_);
      return true;
    case Type::fixed64:
    case Type::fixed32: {
      take(type_ == Type::fixed64 ? 8 : 4);
      value_ = 0;
      for (std::size_t i = bytes_.size(); i-- > 0;)
        value_ = (value_ << 8) | static_cast<unsigned char>(bytes_[i]);
      return true;
    }
    case Type::bytes:
      take(take_varint(rest_));
      return true;
  }
  throw WireError{fmt::format("field {} has wire type {}, which is none", number_, tag & 7)};
}

std::uint64_t WireFields::varint() const {
  if (type_ != Type::varint) throw WireError{fmt::format("field {} is no whole number", number_)};
  return value_;
}

double WireFields::number64() const {
  if (type_ != Type::fixed64) throw WireError{fmt::format("field {} is no double", number_)};
  return std::bit_cast<double>(value_);
}

std::string_view WireFields::bytes() const {
  if (type_ != Type::bytes) throw WireError{fmt::format("field {} is no text or message", number_)};
  return bytes_;
}

int WireMessages::take_byte() {
  if (piece_.empty()) {
    piece_ = source_->read();
    if (piece_.empty()) return -1;
  }
  const auto byte = static_cast<unsigned char>(piece_.front());
  piece_.remove_prefix(1);
  ++at_;
  return byte;
}

bool WireMessages::take(std::size_t count, std::string& bytes) {
  offset_ = at_;
  bytes.clear();
  while (bytes.size() < count) {
    const int byte = take_byte();
    if (byte < 0) return false;
    bytes += static_cast<char>(byte);
  }
  return true;
}

bool WireMessages::next(std::string& message) {
  offset_ = at_;
  std::uint64_t length = 0;
  for (unsigned shift = 0;; shift += 7) {
    const int byte = take_byte();
    if (byte < 0 && shift == 0) return false;
    if (byte < 0) throw WireError{"the file ends within a message's length"};
    if (shift > 28) throw WireError{"no message's length"};
    length |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) break;
  }
  if (length > kMostBytes)
    throw WireError{fmt::format("a message of {} bytes; at most {}", length, kMostBytes)};
  message.clear();
  while (message.size() < length) {
    if (piece_.empty()) piece_ = source_->read();
    if (piece_.empty())
      throw WireError{fmt::format("the file ends within a message: {} bytes of {}", message.size(), length)};
    const std::string_view part = piece_.substr(0, static_cast<std::size_t>(length) - message.size());
    message += part;
    piece_.remove_prefix(part.size());
    at_ += static_cast<std::int64_t>(part.size());
  }
  return true;
}

}  // namespace tessera::traces
