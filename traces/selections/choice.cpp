#include "traces/selections/choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "traces/selections/writer.hpp"

namespace tessera::traces {

namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 31U, kMostLayers = 100'000, kMostHeads = 1'000'000;
constexpr std::int64_t kMostExperts = 1'000'000, kMostTokens = std::int64_t{1} << 40U;
constexpr std::int64_t kMostCounts = std::int64_t{1} << 26U;  // of a layer's heads and blocks: 512 MiB

std::int64_t blocks_of(const ChoiceHeader& h) { return (h.tokens + h.block - 1) / h.block; }

/// A source of which the first piece has been looked at.
class Peeked : public ByteSource {
 public:
  explicit Peeked(std::unique_ptr<ByteSource> in) : in_{std::move(in)}, first_{in_->read()} {}
  char first() const { return first_.empty() ? '\0' : first_.front(); }
  std::string_view read() override {
    return std::exchange(given_, true) ? in_->read() : std::exchange(first_, {});
  }

 private:
  std::unique_ptr<ByteSource> in_;
  std::string_view first_;
  bool given_ = false;
};

}  // namespace

ChoiceReader::ChoiceReader(std::unique_ptr<ByteSource> in, const std::string& name,
                           std::optional<ChoiceKind> wanted) {
  auto peeked = std::make_unique<Peeked>(std::move(in));
  binary_ = peeked->first() == kBinaryMark.front();
  source_ = binary_ ? binary_choices(std::move(peeked), name) : json_choices(std::move(peeked), name, wanted);
  header_ = source_->header();
  if (wanted && header_.kind != *wanted)
    source_->complain(*wanted == ChoiceKind::blocks ? "a trace of experts; expected one of blocks"
                                                    : "a trace of blocks; expected one of experts");
  if (header_.kind == ChoiceKind::experts) {
    require("experts", header_.experts, 1, kMostExperts);
    require("topk", header_.topk, 1, header_.experts);
    return;
  }
  require("tokens", header_.tokens, 1, kMost - 1);
  require("heads", header_.heads, 1, kMostHeads);
  require("block", header_.block, 1, kMost - 1);
  if (header_.heads * blocks_of(header_) > kMostCounts)
    source_->complain(fmt::format("{} heads with {} blocks each: expected at most {} of both together",
                                  header_.heads, blocks_of(header_), kMostCounts));
}

void ChoiceReader::require(const char* what, std::int64_t n, std::int64_t least, std::int64_t most) const {
  if (n < least || n > most)
    source_->complain(fmt::format("{}: must be from {} to {}, not {}", what, least, most, n));
}

bool ChoiceReader::next(ChoiceRecord& r) {
  for (;;) {
    try {
      return read(r);
    } catch (const std::invalid_argument&) {
      if (!skip_bad_) throw;
      ++skipped_;
    }
  }
}

bool ChoiceReader::read(ChoiceRecord& r) {
  if (!source_->next(r)) return false;
  const bool of_blocks = header_.kind == ChoiceKind::blocks;
  require("layer", r.layer, 0, kMostLayers);
  if (of_blocks) require("head", r.head, 0, header_.heads - 1);
  const std::int64_t most = of_blocks ? header_.tokens : kMostTokens;
  if (r.first < 0 || r.end <= r.first || r.end > most)
    source_->complain(
        fmt::format("tokens: expected 0 <= first < end <= {}, not [{}, {}]", most, r.first, r.end));
  std::int64_t& end = ends_[{r.layer, r.head}];
  if (r.first < end)
    source_->complain(fmt::format("tokens: layer {}{} is already told up to token {}, not from {} on",
                                  r.layer, of_blocks ? fmt::format(" head {}", r.head) : "", end, r.first));
  end = r.end;
  check_items(r);
  return true;
}

void ChoiceReader::check_items(const ChoiceRecord& r) {
  const bool of_blocks = header_.kind == ChoiceKind::blocks;
  const char* name = of_blocks ? "blocks" : "experts";
  const std::int64_t count = of_blocks ? blocks_of(header_) : header_.experts;
  for (std::size_t i = 0; i < r.items.size(); ++i) {
    if (r.items[i] < 0 || r.items[i] >= count)
      source_->complain(
          fmt::format("{}: expected numbers from 0 to {}, not {}", name, count - 1, r.items[i]));
  }
  sorted_ = r.items;
  std::sort(sorted_.begin(), sorted_.end());
  if (const auto twice = std::adjacent_find(sorted_.begin(), sorted_.end()); twice != sorted_.end())
    source_->complain(fmt::format("{}: {} is listed twice", name, *twice));
  if (!of_blocks) {
    if (static_cast<std::int64_t>(r.items.size()) != header_.topk)
      source_->complain(
          fmt::format("experts: expected {}, as the header has it, not {}", header_.topk, r.items.size()));
    return;
  }
  const std::int64_t own = r.first / header_.block;
  for (const std::int32_t b : r.items) {
    if (b >= own)
      source_->complain(
          fmt::format("blocks: token {} lies in block {}; {} is no past block of it", r.first, own, b));
  }
}

Spread spread_of(std::vector<std::int64_t> counts) {
  const std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  if (total == 0) return {};
  std::sort(counts.begin(), counts.end(), std::greater<>{});
  const auto hot = static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, counts.size() / 10));
  const auto all = static_cast<double>(total);
  return {
      .imbalance = static_cast<double>(counts.front()) * static_cast<double>(counts.size()) / all,
      .hot_share =
          static_cast<double>(std::accumulate(counts.begin(), counts.begin() + hot, std::int64_t{0})) / all};
}

}  // namespace tessera::traces
