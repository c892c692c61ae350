#include "traces/requests/reader.hpp"

#include <fmt/format.h>

#include <array>

#include "traces/input/line_reader.hpp"
#include "traces/input/utf8.hpp"
#include "traces/requests/parsers.hpp"

namespace tessera::traces {

namespace {

constexpr std::array<std::string_view, 4> kNames{"mooncake", "azure", "burstgpt", "csv"};

std::unique_ptr<RequestParser> parser_of(RequestFormat format, std::string_view header) {
  switch (format) {
    case RequestFormat::mooncake:
      return mooncake_parser();
    case RequestFormat::azure:
      return azure_parser(header);
    case RequestFormat::burstgpt:
      return burstgpt_parser(header);
    case RequestFormat::csv:
      break;
  }
  return csv_parser(header);
}

/// Excel's mark in front of UTF-8.
std::string_view without_mark(std::string_view line) {
  return line.starts_with("\xEF\xBB\xBF") ? line.substr(3) : line;
}

}  // namespace

std::string_view name_of(RequestFormat format) { return kNames[static_cast<std::size_t>(format)]; }

std::optional<RequestFormat> parse_request_format(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<RequestFormat>(i);
  }
  std::vector<std::string> all{"auto"};
  all.insert(all.end(), kNames.begin(), kNames.end());
  const std::string near = config::nearest(name, all);
  throw config::InputError{fmt::format("--format {}: expected {}{}", name, fmt::join(all, ", "),
                                       near.empty() ? "" : fmt::format("; did you mean '{}'?", near))};
}

struct RequestReader::Lines {
  LineReader reader;
};

RequestReader::RequestReader(std::unique_ptr<ByteSource> source, std::string name, const Options& options)
    : name_{std::move(name)}, lines_{new Lines{LineReader{std::move(source)}}}, skip_bad_{options.skip_bad} {
  begin(options);
}
RequestReader RequestReader::open(const std::filesystem::path& file, const Options& options) {
  return {open_file(file), file.string(), options};
}
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader::~RequestReader() = default;

std::int64_t RequestReader::block_tokens() const {
  return format_ == RequestFormat::mooncake || format_ == RequestFormat::csv ? kMooncakeBlockTokens : 0;
}

void RequestReader::fail(const std::string& message) const {
  throw config::InputError{fmt::format("{}:{}: {}", name_, lines_->reader.number(), message)};
}

/// The next line that is not blank.
bool RequestReader::read_line() {
  while (lines_->reader.next()) {
    if (lines_->reader.line().find_first_not_of(" \t\r") != std::string_view::npos) return true;
  }
  return false;
}

void RequestReader::begin(const Options& options) {
  if (!read_line())
    throw config::InputError{fmt::format("{}: is empty; expected a trace of requests", name_)};
  const std::string_view line = without_mark(lines_->reader.line());
  if (options.format) {
    format_ = *options.format;
    parser_ = parser_of(format_, line);
  } else if (line.front() == '{') {
    format_ = RequestFormat::mooncake;
    parser_ = mooncake_parser();
  } else {
    for (const RequestFormat format : {RequestFormat::azure, RequestFormat::burstgpt, RequestFormat::csv}) {
      parser_ = parser_of(format, line);
      format_ = format;
      if (parser_) break;
    }
  }
  if (!parser_) {
    fail(
        fmt::format("no header of {}; expected TIMESTAMP,ContextTokens,GeneratedTokens (azure), "
                    "Timestamp,...,Request tokens,Response tokens,... (burstgpt), "
                    "arrival_s,input_tokens,output_tokens (csv) or JSON lines (mooncake)",
                    options.format ? name_of(*options.format) : "a trace that is known"));
  }
  pending_ = format_ == RequestFormat::mooncake;
}

void RequestReader::accept(Request& request) {
  const LineReader& reader = lines_->reader;
  if (reader.too_long()) fail(fmt::format("more than {} bytes long", LineReader::kMostBytes));
  const std::string_view line = reader.number() == 1 ? without_mark(reader.line()) : reader.line();
  if (const std::size_t bad = line.find('\0'); bad != std::string_view::npos)
    fail(fmt::format("byte 0x00 at column {} is no text", bad + 1));
  if (const std::size_t bad = first_bad_utf8(line); bad != std::string_view::npos) {
    fail(fmt::format("byte 0x{:02X} at column {} is no UTF-8", static_cast<unsigned char>(line[bad]),
                     bad + 1));
  }
  try {
    parser_->parse(line, request);
  } catch (const std::runtime_error& e) {
    fail(fmt::format("{}{}", e.what(),
                     reader.ended() ? "" : " (the file ends within this line: it may be truncated)"));
  }
  request.line = reader.number();
  if (last_line_ != 0 && request.arrival_ns < last_ns_) {
    fail(fmt::format("arrives {:.6f} s before line {}: requests must be in order of arrival",
                     static_cast<double>(last_ns_ - request.arrival_ns) * 1e-9, last_line_));
  }
}

bool RequestReader::next(Request& request) {
  for (;;) {
    if (!pending_ && !read_line()) return false;
    pending_ = false;
    try {
      accept(request);
      break;
    } catch (const config::InputError& e) {
      if (!skip_bad_) throw;
      ++skipped_.lines;
      if (skipped_.first.size() < Skipped::kMostShown) skipped_.first.emplace_back(e.what());
    }
  }
  if (last_line_ == 0) first_ns_ = request.arrival_ns;
  last_ns_ = request.arrival_ns;
  last_line_ = request.line;
  request.arrival_ns -= first_ns_;
  return true;
}

}  // namespace tessera::traces
