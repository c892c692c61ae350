#include "cli/sweep/expression.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

namespace tessera::cli {
namespace {

bool holds(const std::string& text) {
  return Expression{text}.holds([](const std::string& name) -> Term {
    if (name == "sharding.beta") return 4.0;
    if (name == "latency_us") return 1.5e4;
    if (name == "fabric") return std::string{"nvlink4"};
    return name;
  });
}

TEST_CASE("conditions are arithmetic, comparisons and logic") {
  CHECK(holds("sharding.beta <= 4"));
  CHECK_FALSE(holds("sharding.beta < 4"));
  CHECK(holds("sharding.beta * sharding.beta + 2 == 18 and latency_us < 2e4"));
  CHECK(holds("1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 7 % 4 == 3 and 8 / 4 - 1 == 1"));
  CHECK(holds("-sharding.beta < 0 and latency_us > 1.5e-2"));
  CHECK(holds("fabric == nvlink4 and fabric != 'wan' or 1 == 2"));
  CHECK(holds("not (sharding.beta == 5)"));
  CHECK(holds("16K == 16384 and 1M == 1024 * 1024"));
}

TEST_CASE("names are known before it is asked") {
  CHECK(Expression{"a.b < c and a.b > 2K"}.names() == std::vector<std::string>{"a.b", "c"});
}

TEST_CASE("what is no condition is refused, and why") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(Expression{"a <"}, ContainsSubstring("ends where a value is expected"));
  CHECK_THROWS_WITH(Expression{"(a < 2"}, ContainsSubstring("parenthesis"));
  CHECK_THROWS_WITH(Expression{"a < 2 3"}, ContainsSubstring("'3' was not expected"));
  CHECK_THROWS_WITH(Expression{"a == 'x"}, ContainsSubstring("no end"));
  CHECK_THROWS_WITH(Expression{"a = 2"}, ContainsSubstring("'=' was not expected"));
  const auto repeated = [](const std::string& piece, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += piece;
    return text;
  };
  CHECK(holds(repeated("(", 60) + "1" + repeated(")", 60)));
  for (const char* piece : {"(", "not ", "-"})
    CHECK_THROWS_WITH(Expression{repeated(piece, 1000) + "1"}, ContainsSubstring("nested more than 64 deep"));
  CHECK(holds("0 < " + repeated("1+", 2000) + "1"));
  CHECK_THROWS_WITH(Expression{repeated("1+", 100000) + "1"}, ContainsSubstring("at most 4096 characters"));
  CHECK_THROWS_WITH(holds("fabric < 3"), ContainsSubstring("'nvlink4' is no number"));
}

}  // namespace
}  // namespace tessera::cli
