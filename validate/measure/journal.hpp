#pragma once
// The file of measured rows: only ever appended to, a whole line at a time, and read again to go on where an
// interrupted measurement stopped.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace tessera::measure {

using Json = nlohmann::ordered_json;

class Journal {
 public:
  /// Reads what `file` has. A last line that an interruption left unfinished is cut off: `mended()`.
  /// `revision`: of the source that is to measure. config::InputError if the file is no journal;
  /// std::runtime_error if it cannot be written.
  Journal(std::filesystem::path file, const std::string& revision);

  /// Whether a row with this key is there: measured, skipped, or failed with the same revision. What failed
  /// with another one may have been mended.
  bool has(const std::string& key) const { return keys_.contains(key); }
  /// Writes one line with one system call and waits for it to be on disk.
  void append(const Json& row);
  bool mended() const { return mended_; }
  std::size_t rows() const { return keys_.size(); }

 private:
  std::filesystem::path file_;
  std::set<std::string> keys_;
  bool mended_ = false;
};

}  // namespace tessera::measure
