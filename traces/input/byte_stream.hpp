#pragma once
// A ByteSource as a standard stream, for readers that take one.

#include <istream>
#include <memory>
#include <streambuf>

#include "traces/input/byte_source.hpp"

namespace tessera::traces {

/// What the source throws goes through whatever reads the stream.
class ByteStream : public std::istream {
 public:
  explicit ByteStream(std::unique_ptr<ByteSource> source)
      : std::istream{nullptr}, buffer_{std::move(source)} {
    rdbuf(&buffer_);
    exceptions(std::ios::badbit);
  }

 private:
  class Buffer : public std::streambuf {
   public:
    explicit Buffer(std::unique_ptr<ByteSource> source) : source_{std::move(source)} {}

   private:
    int_type underflow() override {
      const std::string_view piece = source_->read();
      if (piece.empty()) return traits_type::eof();
      char* begin = const_cast<char*>(piece.data());  // setg asks for it; nothing is ever put back
      setg(begin, begin, begin + piece.size());
      return traits_type::to_int_type(*begin);
    }
    std::unique_ptr<ByteSource> source_;
  };
  Buffer buffer_;
};

}  // namespace tessera::traces
