#pragma once
// "gemm m=1,16 n=4096 k=4096": the words of `tessera kernel`, in which a value may be a list. Plain data, and
// none of the simulator.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tessera::measure {

/// The words of one kernel call.
struct Request {
  std::string kind;
  std::vector<std::pair<std::string, std::string>> given;  ///< in the order of the text

  std::string text() const;
};

/// Every combination of the listed values, the last key varying fastest. std::invalid_argument for a word
/// that is not key=value, or a key given twice.
std::vector<Request> expand(const std::string& words);

struct Key {
  const char* name;
  const char* value = nullptr;  ///< the default, or the name of a key before it; null: required
};

/// The arguments of a call: every key of its kind has a value.
class Arguments {
 public:
  /// std::invalid_argument: an unknown key (with the nearest), a missing one.
  Arguments(const Request& request, const std::vector<Key>& keys);

  /// Above 0, with Ki, Mi or Gi after it or not. std::invalid_argument otherwise, here and below.
  std::int64_t integer(const std::string& key) const;
  bool truth(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  bool is(const std::string& key, const std::string& value) const { return text(key) == value; }
  /// `text(key)`, which must be among `choices`.
  std::string choice(const std::string& key, const std::vector<std::string>& choices) const;

 private:
  std::string kind_;
  std::vector<std::pair<std::string, std::string>> values_;
};

}  // namespace tessera::measure
