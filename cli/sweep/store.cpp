#include "cli/sweep/store.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <memory>
#include <stdexcept>

#include "cli/command.hpp"

namespace tessera::cli {

namespace {

struct Finish {
  void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finish>;

void bind_text(sqlite3_stmt* s, int at, const std::string& text) {
  sqlite3_bind_text(s, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

std::string text_in(sqlite3_stmt* s, int column) {
  const auto* text = sqlite3_column_text(s, column);
  return text == nullptr ? std::string{}
                         : std::string{reinterpret_cast<const char*>(text),
                                       static_cast<std::size_t>(sqlite3_column_bytes(s, column))};
}

constexpr int kFixed = 8;  // columns before the metrics
const char* const kColumns = "id, fidelity, axes, config_hash, status, error, wall_s, bottleneck";

std::string metric_list(const char* suffix) {
  std::string text;
  for (const char* m : kMetrics) text += fmt::format(", {}{}", m, suffix);
  return text;
}

}  // namespace

Store::Store(const std::filesystem::path& file) {
  open(file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  // In write-ahead mode what a transaction wrote survives the death of the process.
  run("PRAGMA journal_mode = WAL");
  run("PRAGMA synchronous = NORMAL");
  // One sweep at a time; a second one finds it locked.
  run("PRAGMA locking_mode = EXCLUSIVE");
  run("CREATE TABLE IF NOT EXISTS sweep (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID");
  run(fmt::format(
      "CREATE TABLE IF NOT EXISTS points (id INTEGER NOT NULL, fidelity TEXT NOT NULL, axes TEXT NOT NULL, "
      "config_hash TEXT NOT NULL, status TEXT NOT NULL, error TEXT NOT NULL, wall_s REAL NOT NULL, "
      "bottleneck TEXT NOT NULL{}, stages TEXT NOT NULL, PRIMARY KEY (fidelity, id)) WITHOUT ROWID",
      metric_list(" REAL")));
}

Store::~Store() { sqlite3_close(db_); }

Store Store::read_only(const std::filesystem::path& file) {
  if (!std::filesystem::is_regular_file(file))
    throw UsageError{fmt::format("{}: no such file", file.string())};
  Store store;
  store.open(file, SQLITE_OPEN_READWRITE);  // write-ahead files need to be recovered
  if (store.about().count("hash") == 0)
    throw UsageError{fmt::format("{}: holds no results of a sweep", file.string())};
  return store;
}

void Store::open(const std::filesystem::path& file, int flags) {
  file_ = file;
  if (sqlite3_open_v2(file.c_str(), &db_, flags, nullptr) != SQLITE_OK) fail("cannot be opened");
  sqlite3_busy_timeout(db_, 2000);
}

void Store::fail(const std::string& what) const {
  if (const int code = sqlite3_errcode(db_); code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    throw UsageError{
        fmt::format("{}: is damaged, or no file of tessera sweep: {}", file_.string(), sqlite3_errmsg(db_))};
  }
  throw std::runtime_error{fmt::format("{}: {}: {}", file_.string(), what, sqlite3_errmsg(db_))};
}

void Store::run(const std::string& sql) const {
  if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    if (sqlite3_errcode(db_) == SQLITE_BUSY) fail("another sweep is at work in it");
    fail("SQLite");
  }
}

sqlite3_stmt* Store::prepare(const std::string& sql) const {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    if (sqlite3_errcode(db_) == SQLITE_ERROR)
      throw UsageError{
          fmt::format("{}: holds no results of a sweep ({})", file_.string(), sqlite3_errmsg(db_))};
    fail("SQLite");
  }
  return statement;
}

bool Store::next(sqlite3_stmt* statement) const {
  const int code = sqlite3_step(statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE) fail("cannot be read");
  return code == SQLITE_ROW;
}

std::map<std::string, std::string> Store::about() const {
  std::map<std::string, std::string> about;
  const Statement s{prepare("SELECT key, value FROM sweep")};
  while (next(s.get())) about[text_in(s.get(), 0)] = text_in(s.get(), 1);
  return about;
}

void Store::claim(const std::map<std::string, std::string>& about) {
  const Statement s{prepare("INSERT OR REPLACE INTO sweep VALUES (?, ?)")};
  run("BEGIN");
  for (const auto& [key, value] : about) {
    bind_text(s.get(), 1, key);
    bind_text(s.get(), 2, value);
    if (sqlite3_step(s.get()) != SQLITE_DONE) fail("cannot be written");
    sqlite3_reset(s.get());
  }
  run("COMMIT");
}

void Store::claim(const Sweep& sweep, bool resume) {
  const auto there = about();
  if (const auto hash = there.find("hash"); hash != there.end()) {
    if (hash->second != sweep.hash)
      throw UsageError{fmt::format(
          "{}: holds results of another sweep, or of {} before it was changed; give another --out",
          file_.string(), sweep.file.string())};
    if (!resume)
      throw UsageError{fmt::format("{}: holds results already; --resume goes on with them", file_.string())};
  }
  Json objectives = Json::object();
  for (const Objective& o : sweep.objectives) objectives[o.metric] = o.most ? "max" : "min";
  claim({{"hash", sweep.hash}, {"name", sweep.name}, {"objectives", objectives.dump()}});
}

void Store::add(const std::vector<Row>& rows) {
  if (rows.empty()) return;
  std::string marks = "?";
  for (int i = 1; i < kFixed + static_cast<int>(kMetricCount) + 1; ++i) marks += ", ?";
  const Statement s{prepare(
      fmt::format("INSERT INTO points ({}{}, stages) VALUES ({}) ON CONFLICT (fidelity, id) DO NOTHING",
                  kColumns, metric_list(""), marks))};
  run("BEGIN");
  for (const Row& row : rows) {
    sqlite3_bind_int64(s.get(), 1, row.id);
    bind_text(s.get(), 2, row.fidelity);
    bind_text(s.get(), 3, row.axes.dump());
    bind_text(s.get(), 4, row.config_hash);
    bind_text(s.get(), 5, row.status);
    bind_text(s.get(), 6, row.error);
    sqlite3_bind_double(s.get(), 7, row.wall_s);
    bind_text(s.get(), 8, row.bottleneck);
    int at = kFixed;
    for (const auto& m : row.metrics) {
      ++at;
      if (m)
        sqlite3_bind_double(s.get(), at, *m);
      else
        sqlite3_bind_null(s.get(), at);
    }
    bind_text(s.get(), at + 1, row.stages.dump());
    if (sqlite3_step(s.get()) != SQLITE_DONE) fail("cannot be written");
    sqlite3_reset(s.get());
  }
  run("COMMIT");
}

std::set<std::pair<std::string, std::int64_t>> Store::known() const {
  std::set<std::pair<std::string, std::int64_t>> known;
  const Statement s{prepare("SELECT fidelity, id FROM points")};
  while (next(s.get())) known.emplace(text_in(s.get(), 0), sqlite3_column_int64(s.get(), 1));
  return known;
}

std::vector<Row> Store::rows() const {
  std::vector<Row> rows;
  const Statement s{prepare(
      fmt::format("SELECT {}{}, stages FROM points ORDER BY fidelity, id", kColumns, metric_list("")))};
  while (next(s.get())) {
    Row row{.id = sqlite3_column_int64(s.get(), 0),
            .fidelity = text_in(s.get(), 1),
            .axes = Json::parse(text_in(s.get(), 2)),
            .config_hash = text_in(s.get(), 3),
            .status = text_in(s.get(), 4),
            .error = text_in(s.get(), 5),
            .wall_s = sqlite3_column_double(s.get(), 6),
            .bottleneck = text_in(s.get(), 7)};
    int at = kFixed;
    for (auto& m : row.metrics) {
      if (sqlite3_column_type(s.get(), at) != SQLITE_NULL) m = sqlite3_column_double(s.get(), at);
      ++at;
    }
    row.stages = Json::parse(text_in(s.get(), at));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<Objective> objectives_in(const std::map<std::string, std::string>& about) {
  std::vector<Objective> objectives;
  const auto at = about.find("objectives");
  if (at == about.end()) return objectives;
  const Json stated = Json::parse(at->second);
  for (const auto& [metric, way] : stated.items()) objectives.push_back({metric, way == "max"});
  return objectives;
}

}  // namespace tessera::cli
