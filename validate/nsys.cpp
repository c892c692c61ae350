// Nsight Systems' SQLite export (docs.nvidia.com/nsight-systems, "SQLite Export Schema Reference").

#include <fmt/format.h>
#include <sqlite3.h>

#include <map>
#include <memory>
#include <stdexcept>

#include "validate/formats.hpp"
#include "validate/percentile.hpp"
#include "validate/shapes.hpp"
#include "validate/words.hpp"

namespace tessera::validate {

namespace {

constexpr const char* kPrefix = "tessera ";

// Ranges that a thread pushed and popped (59) or started and ended (60), with the kernels whose launch, an
// API call of that thread, lies within them. Times are in nanoseconds.
constexpr const char* kQuery = R"(
  SELECT coalesce(n.text, s.value) AS name, min(k.start), max(k.end), n.start
  FROM NVTX_EVENTS n
  LEFT JOIN StringIds s ON s.id = n.textId
  JOIN CUPTI_ACTIVITY_KIND_RUNTIME r ON r.globalTid = n.globalTid AND r.start >= n.start AND r.end <= n.end
  JOIN CUPTI_ACTIVITY_KIND_KERNEL k ON k.correlationId = r.correlationId
  WHERE n.eventType IN (59, 60) AND coalesce(n.text, s.value) LIKE 'tessera %'
  GROUP BY n.rowid
  ORDER BY n.start)";

struct Close {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

}  // namespace

void read_nsys(const std::filesystem::path& file, const ParseKernel& parse, Measurements& into) {
  sqlite3* opened = nullptr;
  const int status = sqlite3_open_v2(file.c_str(), &opened, SQLITE_OPEN_READONLY, nullptr);
  const std::unique_ptr<sqlite3, Close> database{opened};
  const auto fail = [&](const std::string& message) {
    return config::InputError{fmt::format("{}: {}", file.string(), message)};
  };
  if (status != SQLITE_OK) throw fail("no SQLite database that can be read");
  sqlite3_stmt* prepared = nullptr;
  if (sqlite3_prepare_v2(database.get(), kQuery, -1, &prepared, nullptr) != SQLITE_OK)
    throw fail(
        fmt::format("expected Nsight Systems' export with NVTX_EVENTS, CUPTI_ACTIVITY_KIND_RUNTIME and "
                    "CUPTI_ACTIVITY_KIND_KERNEL (nsys profile --trace=cuda,nvtx): {}",
                    sqlite3_errmsg(database.get())));
  const std::unique_ptr<sqlite3_stmt, Close> query{prepared};

  struct Calls {
    int first_range = 0;
    std::vector<double> us;
  };
  std::map<std::string, Calls> calls;  // by the range's text
  int range = 0, step = 0;
  while ((step = sqlite3_step(query.get())) == SQLITE_ROW) {
    ++range;
    const std::string name = reinterpret_cast<const char*>(sqlite3_column_text(query.get(), 0));
    const std::int64_t start = sqlite3_column_int64(query.get(), 1),
                       end = sqlite3_column_int64(query.get(), 2);
    if (end <= start)
      throw fail(fmt::format("range {} ('{}'): its kernels end before they start", range, name));
    Calls& of = calls[name.substr(std::string{kPrefix}.size())];
    if (of.us.empty()) of.first_range = range;
    of.us.push_back(static_cast<double>(end - start) * 1e-3);
  }
  if (step != SQLITE_DONE) throw fail(fmt::format("cannot be read: {}", sqlite3_errmsg(database.get())));
  if (calls.empty())
    throw fail(
        "no NVTX range begins with 'tessera ' and holds a kernel: expected ranges such as "
        "\"tessera gemm m=512 n=512 k=512\" around calls");

  for (auto& call : calls) {  // no bindings: a lambda may not capture them (clang 14, the fuzz preset)
    const std::string& text = call.first;
    auto& of = call.second;
    const std::vector<std::string> words = words_of(text);
    const auto complain = [&](const std::string& message) {
      return fail(fmt::format("range {} ('{}{}'): {}", of.first_range, kPrefix, text, message));
    };
    if (words.empty()) throw complain("expected a kind and its keys");
    std::vector<std::pair<std::string, std::string>> arguments;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const std::size_t equals = words[i].find('=');
      if (equals == std::string::npos) throw complain(fmt::format("expected key=value, not '{}'", words[i]));
      arguments.emplace_back(words[i].substr(0, equals), words[i].substr(equals + 1));
    }
    try {
      Measurement m = parse(words.front(), arguments);
      m.file = file;
      m.line = of.first_range;
      // The first call loads code and picks algorithms.
      if (of.us.size() > 1) of.us.erase(of.us.begin());
      m.measured_us = median(of.us);
      m.conditions.timing = Timing::device;
      require_possible(m, complain);
      into.rows.push_back(std::move(m));
    } catch (const std::domain_error& e) {
      into.skip(file, words.front(), e.what());
    } catch (const std::invalid_argument& e) {
      throw complain(e.what());
    }
  }
}

}  // namespace tessera::validate
