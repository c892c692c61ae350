#include "validate/csv.hpp"

#include "tests/validate/complaint.hpp"

namespace tessera::validate {
namespace {

TEST_CASE("cells are typed, and errors name file, line, column and what was expected") {
  const CsvTable table{"a, b ,c\r\n1,2.5,True\r\n\r\nx,-1,maybe\r\n", "f.csv"};
  REQUIRE(table.size() == 2);
  CHECK(table.header() == std::vector<std::string>{"a", "b", "c"});
  CHECK(table.has_all({"a", "c"}));
  CHECK_FALSE(table.has("d"));
  const CsvRow good = table.row(0), bad = table.row(1);
  CHECK(good.integer("a") == 1);
  CHECK(good.number("b") == 2.5);
  CHECK(good.truth("c"));
  CHECK(bad.line() == 4);
  CHECK(complaint([&] { (void)bad.integer("a"); }) ==
        "f.csv:4: a: expected a whole number from 1 to 2^31, not 'x'");
  CHECK(complaint([&] { (void)bad.number("b"); }) == "f.csv:4: b: expected a number of at least 0, not '-1'");
  CHECK(complaint([&] { (void)bad.truth("c"); }) == "f.csv:4: c: expected True or False, not 'maybe'");
  CHECK(complaint([&] { (void)bad.text("d"); }) == "f.csv:4: d: the column is missing");
  CHECK(complaint([&] { (void)CsvTable("x\nnan\n", "f.csv").row(0).number("x"); }).find("not 'nan'") !=
        std::string::npos);
  CHECK(complaint([&] { (void)CsvTable("x\n99999999999999999999\n", "f.csv").row(0).integer("x"); }) != "");
}

TEST_CASE("quoted cells hold commas and quotes") {
  const CsvTable table{"a,b\n\"1,2\",\"say \"\"x\"\"\"\n", "f.csv"};
  CHECK(table.row(0).text("a") == "1,2");
  CHECK(table.row(0).text("b") == "say \"x\"");
}

TEST_CASE("malformed tables are one-line errors") {
  const auto parse = [](const char* text) { return complaint([&] { (void)CsvTable(text, "f.csv"); }); };
  CHECK(parse("") == "f.csv:1: the file is empty: expected a header");
  CHECK(parse("a,b\n1,2\n1\n") == "f.csv:3: expected 2 cells, as in the header, not 1");
  CHECK(parse("a,b\n1,2,3\n") == "f.csv:2: expected 2 cells, as in the header, not 3");
  CHECK(parse("a,a\n") == "f.csv:1: column 'a' is there twice");
  CHECK(parse("a\n\"1\n") == "f.csv:2: a quote is not closed on its line");
}

}  // namespace
}  // namespace tessera::validate
