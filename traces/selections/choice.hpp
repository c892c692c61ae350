#pragma once
// Recorded choices: of blocks (MoBA), or of experts. The formats, JSON lines and a binary one, are in
// docs/traces/selections.md; both are read a piece at a time.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "traces/input/byte_source.hpp"

namespace tessera::traces {

enum class ChoiceKind : std::uint8_t { blocks = 1, experts = 2 };

struct ChoiceHeader {
  ChoiceKind kind = ChoiceKind::blocks;
  std::int64_t tokens = 0, heads = 0, block = 0;  ///< of blocks: of a sequence, of a batch, tokens of one
  std::int64_t experts = 0, topk = 0;             ///< of experts
  bool operator==(const ChoiceHeader&) const = default;
};

/// What every token from `first` up to, not including, `end` takes.
struct ChoiceRecord {
  std::int64_t layer = 0, head = 0;  ///< no head of experts
  std::int64_t first = 0, end = 0;
  std::vector<std::int32_t> items;  ///< blocks or experts
  bool operator==(const ChoiceRecord&) const = default;
};

/// One format: knows how records are written, not what they may say. Throws std::invalid_argument that names
/// the place; after that it goes on behind what was wrong, or says that there is no more.
class ChoiceSource {
 public:
  virtual ~ChoiceSource() = default;
  virtual ChoiceHeader header() = 0;
  /// The next record, into storage that is used again; false at the end.
  virtual bool next(ChoiceRecord& record) = 0;
  /// "NAME:LINE: message", or "NAME: byte N: message".
  [[noreturn]] virtual void complain(const std::string& message) const = 0;
};

std::unique_ptr<ChoiceSource> json_choices(std::unique_ptr<ByteSource> in, std::string name,
                                           std::optional<ChoiceKind> wanted);
std::unique_ptr<ChoiceSource> binary_choices(std::unique_ptr<ByteSource> in, std::string name);

/// Either format, told by its first byte; one record at a time, each held to what makes sense.
class ChoiceReader {
 public:
  /// Reads the header. `name` begins every complaint. Throws std::invalid_argument for whatever is wrong,
  /// also for another kind than `wanted`.
  ChoiceReader(std::unique_ptr<ByteSource> in, const std::string& name,
               std::optional<ChoiceKind> wanted = std::nullopt);
  const ChoiceHeader& header() const { return header_; }
  bool binary() const { return binary_; }
  /// From now on next() counts and passes over what is wrong, and does not throw.
  void skip_bad() { skip_bad_ = true; }
  std::int64_t skipped() const { return skipped_; }
  bool next(ChoiceRecord& record);

 private:
  bool read(ChoiceRecord& record);
  void require(const char* what, std::int64_t n, std::int64_t least, std::int64_t most) const;
  void check_items(const ChoiceRecord& record);

  std::unique_ptr<ChoiceSource> source_;
  ChoiceHeader header_;
  bool binary_ = false, skip_bad_ = false;
  std::int64_t skipped_ = 0;
  std::vector<std::int32_t> sorted_;  // a record's items, to see whether one is there twice
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> ends_;  // of (layer, head)
};

/// The maximum over the mean (1: even), and the share of the total that the fullest tenth has (at least one).
struct Spread {
  double imbalance = 1, hot_share = 0;
};
Spread spread_of(std::vector<std::int64_t> counts);

}  // namespace tessera::traces
