#include "configs/reader/document.hpp"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <random>

namespace tessera::config {
namespace {

template <class F>
std::string complaint(F f) {
  try {
    f();
  } catch (const InputError& e) {
    const std::string what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    return what;
  }
  return "";
}

Value parse(const std::string& text, const char* name = "f.yaml") {
  return Document::parse(text, name).root();
}

TEST_CASE("values are typed and errors name file, line and key") {
  const Value v = parse("a: 3\nb:\n  c: hello\n  d: [1, 2K]\n  e: true\n");
  CHECK(v.at("a").as_integer() == 3);
  CHECK(v.at("b").at("c").as_string() == "hello");
  CHECK(v.at("b").at("d").items()[1].as_integer() == 2048);
  CHECK(v.at("b").at("e").as_bool());
  CHECK(complaint([&] { (void)v.at("b").at("c").as_integer(); }) ==
        "f.yaml:3: b.c: expected an integer (K, M, G stand for powers of 1024), not 'hello'");
  CHECK(complaint([&] { (void)v.at("a").as_integer(5, 9); }) == "f.yaml:1: a: must be at least 5, not 3");
  CHECK(complaint([&] {
          (void)v.at("b").at("cc");
        }).find("key 'cc' is missing ('c' is there: is it misspelt?)") != std::string::npos);
  CHECK(complaint([&] {
          v.at("b").allow_only({"c", "d", "ee"});
        }).find("b.e: unknown key; did you mean '") != std::string::npos);
  CHECK(complaint([&] {
          (void)v.at("b").at("c").as_one_of({"hullo", "bye"});
        }).find("did you mean 'hullo'?") != std::string::npos);
}

TEST_CASE("malformed documents are one-line errors") {
  CHECK(complaint([] { parse("a: [1, 2\n"); }).rfind("f.yaml:", 0) == 0);
  CHECK(complaint([] { parse("a: 1\na: 2\n"); }) == "f.yaml:2: a: key given twice");
  CHECK(complaint([] { parse(""); }) == "f.yaml:1: the file is empty");
  CHECK(complaint([] { parse("{\"a\": 1,\n \"b\": ", "f.json"); }).rfind("f.json:2: not valid JSON", 0) == 0);
  CHECK(complaint([] { parse("{\"a\": 1,\n \"b\": 1e512}", "f.json"); }) ==
        "f.json:2: not valid JSON: number overflow parsing '1e512'");
  CHECK(complaint([] { (void)Document::read("/"); }).find("is a directory") != std::string::npos);
  CHECK(complaint([] { (void)Document::read("no/such/file.yaml"); }).find("cannot be read") !=
        std::string::npos);
}

TEST_CASE("the option --set replaces and adds, and its errors say so") {
  Document d = Document::parse("a:\n  b: 1\n", "f.yaml");
  d.set("a.b", "7");
  d.set("c.d", "x");
  CHECK(d.root().at("a").at("b").as_integer() == 7);
  CHECK(d.root().at("c").at("d").as_string() == "x");
  d.set("a.b", "seven");
  CHECK(complaint([&] {
          (void)d.root().at("a").at("b").as_integer();
        }).rfind("--set: a.b: expected an integer", 0) == 0);
  CHECK(complaint([&] { d.set("a.b.c", "1"); }).rfind("--set", 0) == 0);
  CHECK(complaint([&] { d.set("..", "1"); }).rfind("--set", 0) == 0);
}

/// Reads everything, as any type; only InputError may come out.
void read_all(const Value& v, int depth = 0) {
  if (v.is_map()) {
    for (const auto& [key, child] : v.entries()) read_all(child, depth + 1);
  } else if (v.is_sequence()) {
    for (const Value& child : v.items()) read_all(child, depth + 1);
  }
  for (const auto& as :
       {+[](const Value& x) { (void)x.as_integer(); }, +[](const Value& x) { (void)x.as_number(); },
        +[](const Value& x) { (void)x.as_bool(); }, +[](const Value& x) { (void)x.as_string(); }}) {
    (void)complaint([&] { as(v); });
  }
}

TEST_CASE("mutated documents never do worse than an input error") {
  const std::string sample =
      "name: x\nsm:\n  a: {value: 3, source: \"y\"}\n  list: [1, 2, {k: v}]\nother: &anchor {p: 1e3}\nuse: "
      "*anchor\n";
  const std::string json = R"({"a": [1, 2.5, "x", null, true], "b": {"c": "\u00e9"}})";
  std::mt19937_64 random{42};
  for (int i = 0; i < 4000; ++i) {
    std::string text = i % 2 == 0 ? sample : json;
    for (std::uint64_t n = 1 + random() % 4; n > 0; --n) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, 1 + random() % 5);
          break;
        case 2:
          text.insert(at, 1, "{}[]:,\"'&*#-?|>%@\n\t\0"[random() % 20]);
          break;
        default:
          text = text.substr(0, at);
          break;
      }
      if (text.empty()) text = "x";
    }
    (void)complaint([&] { read_all(Document::parse(text, i % 2 == 0 ? "f.yaml" : "f.json").root()); });
  }
  SUCCEED();
}

}  // namespace
}  // namespace tessera::config
