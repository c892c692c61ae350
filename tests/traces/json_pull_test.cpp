#include "traces/input/json_pull.hpp"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/traces/mutate.hpp"
#include "traces/input/utf8.hpp"

using namespace tessera::traces;

namespace {

/// The tokens with their texts; "error" at the end if it ended in one.
std::string tokens(JsonPull& json) {
  std::string out;
  try {
    for (;;) {
      switch (json.next()) {
        case JsonToken::begin_object:
          out += "{";
          break;
        case JsonToken::end_object:
          out += "}";
          break;
        case JsonToken::begin_array:
          out += "[";
          break;
        case JsonToken::end_array:
          out += "]";
          break;
        case JsonToken::key:
          out += "k:" + std::string{json.text()} + " ";
          break;
        case JsonToken::string:
          out += "s:" + std::string{json.text()} + " ";
          break;
        case JsonToken::number:
          json.number();  // may be too large
          out += "n:" + std::string{json.text()} + " ";
          break;
        case JsonToken::literal:
          out += "l:" + std::string{json.text()} + " ";
          break;
        case JsonToken::end:
          return out;
      }
    }
  } catch (const JsonError& e) {
    return out + "error";
  }
}

std::string tokens(const std::string& text) {
  JsonPull json;
  json.reset(text);
  return tokens(json);
}

}  // namespace

TEST_CASE("JSON is read token by token") {
  CHECK(tokens(R"( {"a": [1, -2.5e3, true], "b" : {} } )") == "{k:a [n:1 n:-2.5e3 l:true ]k:b {}}");
  CHECK(tokens(R"(["\u00e4\n\ud83d\ude00"])") == "[s:\xC3\xA4\n\xF0\x9F\x98\x80 ]");
  CHECK(tokens("[]") == "[]");
}

TEST_CASE("what is no JSON is refused") {
  for (const char* text :
       {"",        "{",          "[1,]",       "{\"a\":1,}", "{\"a\" 1}", "[1 2]",         "[01]", "[1.]",
        "[.5]",    "[+1]",       "[NaN]",      "[\"\\x\"]",  "[\"a",      "[\"\\ud800\"]", "[1]]", "[}",
        "{\"a\"}", "[\"\x01\"]", "[\"\xFF\"]", "[1e]",       "tru",       "{1:2}"}) {
    INFO(text);
    CHECK(tokens(text).ends_with("error"));
  }
  CHECK(tokens(std::string(1000, '[')).ends_with("error"));
}

TEST_CASE("pieces of any length give the same tokens, and nlohmann's verdict") {
  const std::string good = R"({"t": 12.5, "in": [1, {"k": "v\u00e9"}], "x": null, "y": [[], {}], "s": "ab"})";
  tessera::traces_test::Mutator mutate{7};
  for (int i = 0; i < 3000; ++i) {
    const std::string text = i == 0 ? good : mutate(good);
    const std::string whole = tokens(text);
    TextSource source{text, static_cast<std::size_t>(1 + i % 5)};
    JsonPull pieces{source};
    REQUIRE(tokens(pieces) == whole);
    INFO(text);
    REQUIRE(nlohmann::json::accept(text) == !whole.ends_with("error"));
  }
}

TEST_CASE("values are passed over whole") {
  JsonPull json;
  json.reset(R"({"a": {"b": [1, {"c": 2}]}, "d": 3})");
  REQUIRE(json.next() == JsonToken::begin_object);
  REQUIRE(json.next() == JsonToken::key);
  CHECK(json.skip_value());
  REQUIRE(json.next() == JsonToken::key);
  CHECK(json.text() == "d");
  REQUIRE(json.next() == JsonToken::number);
  CHECK(json.integer() == 3);
}

TEST_CASE("well-formed UTF-8 is told from the rest") {
  CHECK(first_bad_utf8("aä€😀") == std::string_view::npos);
  for (const char* bad :
       {"\x80", "\xC0\xAF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC3", "\xE2\x82", "\xFF"}) {
    CHECK(first_bad_utf8(std::string{"ab"} + bad) == 2);
  }
}
