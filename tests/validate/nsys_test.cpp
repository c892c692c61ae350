// A database with the tables and columns of Nsight Systems' export that are read.

#include <sqlite3.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdlib>
#include <filesystem>

#include "tests/validate/complaint.hpp"
#include "validate/read.hpp"

namespace tessera::validate {

namespace {

struct Export {
  std::filesystem::path file;
  explicit Export(const std::string& rows) {
    std::string name = (std::filesystem::temp_directory_path() / "nsys_XXXXXX").string();
    ::close(::mkstemp(name.data()));
    file = name;
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open(file.c_str(), &database) == SQLITE_OK);
    const std::string tables =
        "CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);"
        "CREATE TABLE NVTX_EVENTS (start INT, end INT, eventType INT, text TEXT, textId INT, globalTid INT);"
        "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INT, end INT, globalTid INT, correlationId INT);"
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, end INT, correlationId INT);";
    REQUIRE(sqlite3_exec(database, (tables + rows).c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(database);
  }
  ~Export() { std::filesystem::remove(file); }
};

Measurements read(const Export& from) {
  const auto parse = [](const std::string& kind,
                        const std::vector<std::pair<std::string, std::string>>& arguments) {
    if (kind != "gemm") throw std::domain_error{"not simulated"};
    Measurement m;
    m.kind = kind;
    m.arguments = arguments;
    m.op = models::Gemm{.m = 8, .n = 8, .k = 8};
    return m;
  };
  return read_measurements({from.file}, parse);
}

// Three ranges of one call, the first slower; the second has two kernels. A range of text in StringIds, one
// of another thread that holds nothing, and one that is not ours.
const char* const kRows =
    "INSERT INTO StringIds VALUES (7, 'tessera moe tokens=4');"
    "INSERT INTO NVTX_EVENTS VALUES (0, 100, 59, 'tessera gemm m=8 n=8 k=8', NULL, 1), (200, 300, 59, "
    "'tessera gemm m=8 "
    "n=8 k=8', NULL, 1), (400, 500, 60, 'tessera gemm m=8 n=8 k=8', NULL, 1), (600, 700, 59, NULL, 7, 1), "
    "(0, 900, 59, "
    "'tessera gemm m=9 n=8 k=8', NULL, 2), (0, 900, 59, 'step', NULL, 1);"
    "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (10, 20, 1, 1), (210, 220, 1, 2), (230, 240, 1, 3), "
    "(410, 420, 1, 4), "
    "(610, 620, 1, 5);"
    "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000, 91000, 1), (100000, 104000, 2), (105000, 110000, "
    "3), (200000, "
    "212000, 4), (300000, 301000, 5);";

}  // namespace

TEST_CASE("marked calls of a profiled program are rows") {
  const Export e{kRows};
  const Measurements m = read(e);
  REQUIRE(m.rows.size() == 1);
  CHECK(m.rows[0].measured_us == 11);  // of 10 and 12: the first call is left out
  CHECK(m.rows[0].conditions.timing == Timing::device);
  CHECK(shape_text(m.rows[0]) == "m=8 n=8 k=8");
  REQUIRE(m.skipped.size() == 1);
  CHECK(m.skipped[0].kind == "moe");
}

TEST_CASE("a profile without marks, or no profile, is told so") {
  using Catch::Matchers::ContainsSubstring;
  const Export empty{""};
  CHECK_THAT(complaint([&] { read(empty); }), ContainsSubstring("no NVTX range begins with 'tessera '"));
  const Export bad{
      "INSERT INTO NVTX_EVENTS VALUES (0, 100, 59, 'tessera gemm m', NULL, 1);"
      "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (10, 20, 1, 1);"
      "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (0, 5, 1);"};
  CHECK_THAT(complaint([&] { read(bad); }), ContainsSubstring("expected key=value, not 'm'"));
  const Export other{"DROP TABLE NVTX_EVENTS;"};
  CHECK_THAT(complaint([&] { read(other); }), ContainsSubstring("Nsight Systems"));
}

}  // namespace tessera::validate
