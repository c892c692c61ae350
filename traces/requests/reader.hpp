#pragma once
// Request traces, one request at a time: memory does not grow with the file.
//
// Formats (docs/traces.md), told apart by their first line:
//   mooncake  JSON lines: timestamp (ms), input_length, output_length, hash_ids of blocks of 512 tokens
//   azure     TIMESTAMP,ContextTokens,GeneratedTokens (2023 and 2024)
//   burstgpt  Timestamp (s),...,Request tokens,Response tokens,...
//   csv       arrival_s,input_tokens,output_tokens[,blocks]: ours
// Any of them may be gzip.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/reader/document.hpp"
#include "traces/input/byte_source.hpp"
#include "traces/requests/request.hpp"

namespace tessera::traces {

enum class RequestFormat : std::uint8_t { mooncake, azure, burstgpt, csv };
std::string_view name_of(RequestFormat format);
/// "auto" gives none. Throws config::InputError with the nearest name.
std::optional<RequestFormat> parse_request_format(const std::string& name);

/// What a reader passed over.
struct Skipped {
  static constexpr std::size_t kMostShown = 10;
  std::int64_t lines = 0;
  std::vector<std::string> first;  ///< the complaints about the first of them
};

/// Parses what is on a line; made for one file, since columns are told by its header.
class RequestParser {
 public:
  virtual ~RequestParser() = default;
  /// Fills all but `line`; arrival_ns from any origin. Throws std::runtime_error saying what is wrong.
  virtual void parse(std::string_view line, Request& request) = 0;
};

class RequestReader {
 public:
  struct Options {
    std::optional<RequestFormat> format;  ///< none: told by the first line
    bool skip_bad = false;                ///< count bad lines and go on
  };

  /// Reads the first line. `name` begins every complaint. Throws config::InputError: "FILE:LINE: message".
  RequestReader(std::unique_ptr<ByteSource> source, std::string name, const Options& options);
  static RequestReader open(const std::filesystem::path& file, const Options& options);
  RequestReader(RequestReader&&) noexcept;
  ~RequestReader();

  /// The next request into `request`, whose storage is used again; false at the end. Arrivals never fall.
  bool next(Request& request);

  RequestFormat format() const { return format_; }
  /// Of each of Request::blocks; 0 if the format names none.
  std::int64_t block_tokens() const;
  const Skipped& skipped() const { return skipped_; }

 private:
  struct Lines;
  bool read_line();
  [[noreturn]] void fail(const std::string& message) const;
  void begin(const Options& options);
  void accept(Request& request);

  std::string name_;
  std::unique_ptr<Lines> lines_;
  std::unique_ptr<RequestParser> parser_;
  RequestFormat format_ = RequestFormat::csv;
  bool skip_bad_ = false,
       pending_ = false;  // pending: the first line is a request that was not given out yet
  std::int64_t first_ns_ = 0, last_ns_ = 0, last_line_ = 0;
  Skipped skipped_;
};

}  // namespace tessera::traces
