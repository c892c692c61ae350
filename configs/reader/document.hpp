#pragma once
// A configuration document (YAML or JSON) with positions: every complaint names file, line and key,
// says what was expected and, for a misspelt name, the nearest valid one.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera::config {

/// Bad input. what() is one line: "FILE:LINE: KEY: message". The command line exits with 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The entry of `valid` nearest to `name` by edit distance, or "" if none is near enough to suggest.
std::string nearest(std::string_view name, const std::vector<std::string>& valid);

/// One value of a document: knows where it stands. Cheap to copy.
class Value {
 public:
  /// The value of `key`; InputError if this is no map or the key is missing (a near misspelling is named).
  Value at(std::string_view key) const;
  /// The value of `key` if present. (A key present with value null counts as absent.)
  std::optional<Value> find(std::string_view key) const;
  /// InputError if this map has a key that is not in `known`.
  void allow_only(const std::vector<std::string>& known) const;

  bool is_map() const;
  bool is_sequence() const;
  bool is_scalar() const;
  std::vector<Value> items() const;                            ///< of a sequence
  std::vector<std::pair<std::string, Value>> entries() const;  ///< of a map, in file order

  std::string as_string() const;
  bool as_bool() const;
  std::int64_t as_integer() const;  ///< also "8K" (= "8Ki" = 8192), "2M", "1G": powers of 1024
  std::int64_t as_integer(std::int64_t least, std::int64_t most = INT64_MAX) const;
  double as_number() const;
  double as_number(double least, double most) const;
  /// One of `names`; else InputError with the nearest.
  std::string as_one_of(const std::vector<std::string>& names) const;

  /// An InputError that points here.
  InputError error(std::string_view message) const;
  const std::string& path() const;  ///< "sharding.comp.sets[2]"
  int line() const;
  bool overridden() const;  ///< given by --set
  const std::filesystem::path& file() const;

 private:
  friend class Document;
  struct Impl;
  explicit Value(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

/// A whole file: one YAML document. `.json` is checked to be strict JSON first. Keys given twice are errors.
class Document {
 public:
  /// InputError if the path is missing, a directory, unreadable, empty or malformed.
  static Document read(const std::filesystem::path& file);
  /// For tests, and for `--set`: text with a name to use in messages.
  static Document parse(const std::string& text, const std::filesystem::path& name);
  /// Replaces or adds the value at a dotted path ("prefill.tokens"); the value is YAML. Errors in it then
  /// name
  /// "--set" instead of file and line. Values read before keep what they were.
  void set(std::string_view dotted_path, std::string_view value);

  /// A copy that `set` changes alone. Cheap: the values are shared.
  Document copy() const;

  Value root() const;

 private:
  friend class Value;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tessera::config
