#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "tests/traces/mutate.hpp"
#include "tests/validate/complaint.hpp"
#include "traces/requests/parsers.hpp"
#include "traces/requests/reader.hpp"
#include "traces/requests/stream.hpp"
#include "traces/requests/writer.hpp"

using namespace tessera;
using namespace tessera::traces;
using validate::complaint;

namespace {

RequestReader reader(const std::string& text, RequestReader::Options options = {}, std::size_t piece = 7) {
  return {std::make_unique<TextSource>(text, piece), "t", options};
}

std::vector<Request> all(const std::string& text, RequestReader::Options options = {}) {
  RequestReader r = reader(text, options);
  std::vector<Request> out;
  for (Request request; r.next(request);) out.push_back(request);
  return out;
}

const std::string kMooncake =
    "{\"timestamp\": 5, \"input_length\": 700, \"output_length\": 3, \"hash_ids\": [0, 1]}\n"
    "{\"timestamp\": 5.5, \"input_length\": 512, \"output_length\": 9, \"hash_ids\": [0], \"more\": {\"x\": "
    "[1]}}\n";
const std::string kAzure =
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 "
    "18:15:50.9951690,396,109";
const std::string kBurst =
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation "
    "log\n"
    "45.25,GPT-4,1087,0,1087,API log\n";
const std::string kOurs = "arrival_s,input_tokens,output_tokens,blocks\n0.5,600,7,3 4\n2,1,0,\n";

/// The complaint about the last line of a trace that ends in `line`.
std::string about(const std::string& good, const std::string& line) {
  return complaint([&] { all(good + line); });
}

}  // namespace

TEST_CASE("each format is told by its first line and read") {
  auto r = all(kMooncake);
  REQUIRE(r.size() == 2);
  CHECK(r[0].arrival_ns == 0);
  CHECK(r[1].arrival_ns == 500'000);
  CHECK(r[0].blocks == std::vector<std::uint64_t>{0, 1});
  CHECK(reader(kMooncake).format() == RequestFormat::mooncake);

  r = all(kAzure);
  REQUIRE(r.size() == 2);
  CHECK(r[1].arrival_ns == 4'314'579'000);
  CHECK(r[1].input_tokens == 396);
  CHECK(r[1].output_tokens == 109);
  CHECK(r[1].line == 3);

  r = all(kBurst);
  REQUIRE(r.size() == 2);
  CHECK(reader(kBurst).format() == RequestFormat::burstgpt);
  CHECK(r[1].arrival_ns == 40'250'000'000);
  CHECK(r[1].output_tokens == 0);

  r = all(kOurs);
  REQUIRE(r.size() == 2);
  CHECK(reader(kOurs).format() == RequestFormat::csv);
  CHECK(r[0].blocks == std::vector<std::uint64_t>{3, 4});
  CHECK(r[1].arrival_ns == 1'500'000'000);
  CHECK(r[1].blocks.empty());
}

TEST_CASE("dates may carry a zone, as in Azure's trace of 2024") {
  const std::int64_t noon = parse_date("2024-05-12 12:00:00");
  CHECK(parse_date("2024-05-12T14:00:00.25+02:00") == noon + 250'000'000);
  CHECK(parse_date("2024-05-12 12:00:00Z") == noon);
  for (const char* bad : {"", "2024-13-01 00:00:00", "2024-02-30 00:00:00", "2024-05-12",
                          "2024-05-12 25:00:00", "2024-05-12 00:00:00.", "NaN"})
    CHECK_THROWS(parse_date(bad));
}

TEST_CASE("a bad line is named with its number and what was expected") {
  const auto named = [](const std::string& what, const char* line, const char* text) {
    INFO(what);
    CHECK(what.find(line) != std::string::npos);
    CHECK(what.find(text) != std::string::npos);
  };
  // Truncated.
  named(about(kMooncake, "{\"timestamp\": 7, \"input_l"), "t:3: ", "truncated");
  named(about(kOurs, "3,4"), "t:4: ", "expected 4 cells");
  named(about(kOurs, "3,4"), "t:4: ", "truncated");
  // Reordered.
  named(about(kOurs, "1.5,4,4,\n"), "t:4: ", "before line 3");
  named(about(kMooncake, "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 3}\n"),
        "t:3: ", "before line 2");
  // Negative.
  named(about(kOurs, "3,-4,4,\n"), "t:4: ", "input_tokens: -4 is not from 1");
  named(about(kOurs, "-3,4,4,\n"), "t:4: ", "not negative");
  named(about(kMooncake, "{\"timestamp\": 9, \"input_length\": -5, \"output_length\": 3}\n"),
        "t:3: ", "input_length: -5");
  named(about(kMooncake, "{\"timestamp\": -9, \"input_length\": 5, \"output_length\": 3}\n"),
        "t:3: ", "timestamp: -9");
  named(
      about(kMooncake, "{\"timestamp\": 9, \"input_length\": 5, \"output_length\": 3, \"hash_ids\": [-1]}\n"),
      "t:3: ", "negative");
  // NaN.
  named(about(kOurs, "nan,4,4,\n"), "t:4: ", "expected seconds, found 'nan'");
  named(about(kOurs, "3,NaN,4,\n"), "t:4: ", "expected a whole number, found 'NaN'");
  named(about(kMooncake, "{\"timestamp\": NaN, \"input_length\": 5, \"output_length\": 3}\n"),
        "t:3: ", "NaN");
  // Huge.
  named(about(kOurs, "3,99999999999999999999999,4,\n"), "t:4: ", "is not from 1 to 1000000000");
  named(about(kOurs, "99999999999999999999,4,4,\n"), "t:4: ", "100 years");
  named(about(kMooncake, "{\"timestamp\": 1e300, \"input_length\": 5, \"output_length\": 3}\n"),
        "t:3: ", "100 years");
  named(about(kMooncake, "{\"timestamp\": 1e999, \"input_length\": 5, \"output_length\": 3}\n"),
        "t:3: ", "beyond");
  named(about(kOurs, std::string(5'000'000, '1') + "\n"), "t:4: ", "bytes long");
  // Not UTF-8.
  named(about(kOurs, "3,4,\xFF,\n"), "t:4: ", "byte 0xFF at column 5 is no UTF-8");
  named(about(kOurs, std::string{"3,\0,4,\n", 7}), "t:4: ", "byte 0x00 at column 3 is no text");
  // Others.
  named(about(kMooncake, "{\"timestamp\": 9, \"output_length\": 3}\n"), "t:3: ", "'input_length' is missing");
  named(about(kMooncake, "{\"timestamp\": 9, \"timestamp\": 9, \"output_length\": 3}\n"), "t:3: ", "twice");
  named(about(kMooncake,
              "{\"timestamp\": 9, \"input_length\": 513, \"output_length\": 3, \"hash_ids\": [1]}\n"),
        "t:3: ", "take 2 blocks");
  named(about(kOurs, "3,4,4,a\n"), "t:4: ", "blocks");
  named(complaint([] { all(""); }), "t: ", "empty");
  named(complaint([] { all("a,b\n1,2\n"); }), "t:1: ", "no header");
}

TEST_CASE("bad lines can be counted and passed over") {
  const std::string text = kOurs + "3,x,4,\n1,2,3,\n4,5,6,\n";  // outlives its reader
  RequestReader r = reader(text, {.format = {}, .skip_bad = true});
  int requests = 0;
  for (Request request; r.next(request);) ++requests;
  CHECK(requests == 3);
  CHECK(r.skipped().lines == 2);
  REQUIRE(r.skipped().first.size() == 2);
  CHECK(r.skipped().first[0].find("t:4:") == 0);
  CHECK(r.skipped().first[1].find("before line 3") != std::string::npos);
}

TEST_CASE("names of formats") {
  CHECK_FALSE(parse_request_format("auto"));
  CHECK(parse_request_format("azure") == RequestFormat::azure);
  CHECK(complaint([] { parse_request_format("mooncak"); }).find("did you mean 'mooncake'") !=
        std::string::npos);
}

TEST_CASE("whatever the bytes, a reader gives requests in order or one complaint with a line") {
  for (const std::string& good : {kMooncake, kAzure, kBurst, kOurs}) {
    tessera::traces_test::Mutator mutate{11};
    for (int i = 0; i < 2000; ++i) {
      const std::string text = mutate(good);
      for (const bool skip : {false, true}) {
        std::int64_t last = 0, given = 0;
        const std::string what = complaint([&] {
          RequestReader r = reader(text, {.format = {}, .skip_bad = skip});
          for (Request request; r.next(request); ++given) {
            REQUIRE(request.arrival_ns >= last);
            REQUIRE(request.input_tokens >= 1);
            REQUIRE(request.output_tokens >= 0);
            last = request.arrival_ns;
          }
        });
        if (!what.empty()) REQUIRE(what.starts_with("t:"));
      }
    }
  }
}

TEST_CASE("a stream is a window of the trace, stretched, thinned or multiplied, the same for the same seed") {
  const auto stream = [](StreamOptions options) {
    std::int64_t n = 0;
    RequestStream s{[&n](Request& r) {
                      if (n == 4000) return false;
                      r = {.line = n + 1,
                           .arrival_ns = n * 1'000'000,
                           .input_tokens = 600,
                           .output_tokens = 1,
                           .blocks = {5, 6}};
                      ++n;
                      return true;
                    },
                    options};
    std::vector<Request> out;
    for (Request r; s.next(r);) {
      REQUIRE((out.empty() || r.arrival_ns >= out.back().arrival_ns));
      out.push_back(r);
    }
    return out;
  };
  CHECK(stream({}).size() == 4000);
  const auto window = stream({.from_s = 1, .until_s = 2, .time_scale = 0.5});
  REQUIRE(window.size() == 1000);
  CHECK(window.front().arrival_ns == 0);
  CHECK(window.back().arrival_ns == 499'500'000);
  CHECK(stream({.limit = 7}).size() == 7);

  const auto fewer = stream({.rate_scale = 0.25, .seed = 3});
  CHECK(fewer.size() > 900);
  CHECK(fewer.size() < 1100);
  const auto more = stream({.rate_scale = 2.5, .seed = 3}), again = stream({.rate_scale = 2.5, .seed = 3});
  CHECK(more.size() > 9800);
  CHECK(more.size() < 10200);
  REQUIRE(again.size() == more.size());
  std::int64_t originals = 0;
  for (std::size_t i = 0; i < more.size(); ++i) {
    CHECK(more[i].arrival_ns == again[i].arrival_ns);
    originals += more[i].blocks == std::vector<std::uint64_t>{5, 6};
  }
  CHECK(originals == 4000);
  CHECK(stream({.rate_scale = 2.5, .seed = 4})[5].arrival_ns != more[5].arrival_ns);
}

TEST_CASE("requests are written as they are read") {
  for (const RequestFormat format : {RequestFormat::csv, RequestFormat::mooncake}) {
    const std::vector<Request> first = all(kOurs);
    std::string text = header_of(format, true);
    for (const Request& r : first)
      text += line_of(format, r, format == RequestFormat::csv || !r.blocks.empty());
    const std::vector<Request> second = all(text);
    REQUIRE(second.size() == first.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      CHECK(second[i].arrival_ns == first[i].arrival_ns);
      CHECK(second[i].input_tokens == first[i].input_tokens);
      CHECK(second[i].output_tokens == first[i].output_tokens);
      CHECK(second[i].blocks == first[i].blocks);
    }
  }
}
