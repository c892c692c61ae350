#pragma once
// Protocol buffers' wire format (https://protobuf.dev/programming-guides/encoding), read and written field by
// field, memory for one message only.
//
// Why not libprotobuf: of an execution trace ten fields are read and the rest of a node, tensors and dozens
// of attributes, is passed over in place where generated code would copy it into objects; of a timeline's
// packets there are four shapes, written millions of times. Two schemas' generated code, the library and its
// compiler would be more to build than this, and what is wrong could no longer be told by its byte in the
// file.

#include <bit>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "traces/input/byte_source.hpp"

namespace tessera::traces {

/// What is wrong, without file or place.
class WireError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A number of seven bits a byte, the least significant first, and what `from` begins with. Throws WireError.
std::uint64_t take_varint(std::string_view& from);
void put_varint(std::string& out, std::uint64_t value);

/// The fields of one message.
class WireFields {
 public:
  enum class Type : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  explicit WireFields(std::string_view message) : rest_{message} {}

  /// Goes to the next field; false at the end. Throws WireError.
  bool next();
  std::uint32_t number() const { return number_; }
  Type type() const { return type_; }
  // Of the field; WireError if it has another type.
  std::uint64_t varint() const;
  double number64() const;  ///< a double
  std::string_view bytes() const;
  /// Of a repeated integer: calls `each` once for a varint, or for each of a packed list.
  template <class Each>
  void integers(Each each) const {
    if (type_ == Type::varint) return each(value_);
    for (std::string_view list = bytes(); !list.empty();) each(take_varint(list));
  }

 private:
  std::string_view rest_, bytes_;
  std::uint64_t value_ = 0;
  std::uint32_t number_ = 0;
  Type type_ = Type::varint;
};

/// Messages one after another, each behind its length as a varint.
class WireMessages {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{1} << 26;

  explicit WireMessages(std::unique_ptr<ByteSource> source) : source_{std::move(source)} {}
  /// Into `message`; false at the end. Throws WireError.
  bool next(std::string& message);
  /// So many bytes that are no message, into `bytes`; false if there are fewer.
  bool take(std::size_t count, std::string& bytes);
  std::int64_t offset() const { return offset_; }  ///< of what was read last

 private:
  int take_byte();
  std::unique_ptr<ByteSource> source_;
  std::string_view piece_;
  std::int64_t offset_ = 0, at_ = 0;
};

/// Builds a message.
class WireWriter {
 public:
  void clear() { out_.clear(); }
  const std::string& text() const { return out_; }

  void varint(std::uint32_t field, std::uint64_t value) {
    put_varint(out_, std::uint64_t{field} << 3);
    put_varint(out_, value);
  }
  void fixed32(std::uint32_t field, std::uint32_t value) {
    put_varint(out_, (std::uint64_t{field} << 3) | 5);
    for (int i = 0; i < 4; ++i) out_ += static_cast<char>(value >> (8 * i));
  }
  void fixed64(std::uint32_t field, std::uint64_t value) {
    put_varint(out_, (std::uint64_t{field} << 3) | 1);
    for (int i = 0; i < 8; ++i) out_ += static_cast<char>(value >> (8 * i));
  }
  void number(std::uint32_t field, double value) { fixed64(field, std::bit_cast<std::uint64_t>(value)); }
  void bytes(std::uint32_t field, std::string_view value) {
    put_varint(out_, (std::uint64_t{field} << 3) | 2);
    put_varint(out_, value.size());
    out_ += value;
  }

 private:
  std::string out_;
};

}  // namespace tessera::traces
