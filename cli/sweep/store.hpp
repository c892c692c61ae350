#pragma once
// Results of a sweep in an SQLite file: table `points`, a row per point and fidelity, and `sweep`, what they
// are of.

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cli/sweep/row.hpp"
#include "cli/sweep/sweep.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace tessera::cli {

class Store {
 public:
  /// Opens the file, or makes it. Throws std::runtime_error naming it: not one of ours, or locked by another
  /// sweep.
  explicit Store(const std::filesystem::path& file);
  ~Store();
  Store(Store&& other) noexcept : file_{std::move(other.file_)}, db_{std::exchange(other.db_, nullptr)} {}
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// For reading only; throws UsageError if there is no such file.
  static Store read_only(const std::filesystem::path& file);

  /// What the results are of: "hash", "name", "objectives" (JSON), ...
  std::map<std::string, std::string> about() const;
  /// Writes what the results are of. UsageError if they are of another sweep, or there are some and not
  /// `resume`.
  void claim(const Sweep& sweep, bool resume);
  /// The same, copied from another store.
  void claim(const std::map<std::string, std::string>& about);

  /// Adds rows in one transaction: a killed process leaves all of them or none. A row that is there stays.
  void add(const std::vector<Row>& rows);
  std::set<std::pair<std::string, std::int64_t>> known() const;  ///< fidelity and id
  /// In the order of fidelity and id.
  std::vector<Row> rows() const;

 private:
  Store() = default;
  void open(const std::filesystem::path& file, int flags);
  void run(const std::string& sql) const;
  sqlite3_stmt* prepare(const std::string& sql) const;
  bool next(sqlite3_stmt* statement) const;  // to a row; false after the last
  [[noreturn]] void fail(const std::string& what) const;

  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
};

/// The objectives a store was made with.
std::vector<Objective> objectives_in(const std::map<std::string, std::string>& about);

}  // namespace tessera::cli
