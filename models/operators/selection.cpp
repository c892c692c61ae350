#include "models/operators/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

namespace tessera::models {

namespace {

constexpr std::size_t kSpans = 64;

/// SplitMix64 (Steele et al., OOPSLA 2014).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}
std::uint64_t hashed(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  return mixed(mixed(mixed(a) ^ b) ^ c);
}
double uniform(std::uint64_t h) { return (static_cast<double>(h >> 11U) + 0.5) * 0x1p-53; }
/// Box-Muller.
double normal(std::uint64_t h) {
  return std::sqrt(-2 * std::log(uniform(h))) * std::cos(2 * std::numbers::pi * uniform(mixed(h)));
}

/// Weights of all blocks as the rows of `own` see them: of past blocks only.
class Weights {
 public:
  Weights(const Selection& s, std::int64_t head, std::size_t blocks) : kind_{s.kind} {
    if (kind_ == SelectionKind::uniform) return;
    by_rank_.resize(blocks);
    for (std::size_t r = 0; r < blocks; ++r) by_rank_[r] = std::pow(1.0 + static_cast<double>(r), -s.skew);
    if (kind_ != SelectionKind::zipf) return;
    rank_.resize(blocks);
    std::iota(rank_.begin(), rank_.end(), std::size_t{0});
    for (std::size_t i = blocks; i > 1; --i)
      std::swap(rank_[i - 1], rank_[hashed(s.seed, static_cast<std::uint64_t>(head), i) % i]);
  }
  double of(std::size_t block, std::size_t own) const {
    if (kind_ == SelectionKind::uniform) return 1;
    return by_rank_[kind_ == SelectionKind::recent ? own - 1 - block : rank_[block]];
  }

 private:
  SelectionKind kind_;
  std::vector<double> by_rank_;
  std::vector<std::size_t> rank_;
};

/// t with sum over past blocks of 1 - exp(-weight t) = taken, by Newton's method from below: the sum is
/// concave.
double arrival_time(const Weights& weights, std::size_t own, double taken) {
  double total = 0;
  for (std::size_t i = 0; i < own; ++i) total += weights.of(i, own);
  double t = taken / total;
  for (int step = 0; step < 60; ++step) {
    double sum = 0, slope = 0;
    for (std::size_t i = 0; i < own; ++i) {
      const double w = weights.of(i, own), left = std::exp(-w * t);
      sum += 1 - left;
      slope += w * left;
    }
    const double change = (taken - sum) / slope;
    t += change;
    if (std::abs(change) < 1e-9 * t) break;
  }
  return t;
}

std::vector<std::int64_t> counted(const SelectionLists& lists, std::int64_t head, std::size_t blocks,
                                  const Positions& positions) {
  std::vector<std::int64_t> counts(blocks);
  const std::int64_t rows = positions ? static_cast<std::int64_t>(positions->size()) : lists.rows;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t row = positions ? (*positions)[static_cast<std::size_t>(r)] : r;
    const auto at = static_cast<std::size_t>(head * lists.rows + row);
    for (std::uint64_t i = lists.offsets.at(at); i < lists.offsets.at(at + 1); ++i) {
      // A block beyond the last of which this node holds or asks anything counts for nothing here.
      if (const auto b = static_cast<std::size_t>(lists.blocks[i]); b < blocks) ++counts[b];
    }
  }
  return counts;
}

}  // namespace

std::string_view name_of(SelectionKind kind) {
  switch (kind) {
    case SelectionKind::uniform:
      return "uniform";
    case SelectionKind::recent:
      return "recent";
    case SelectionKind::zipf:
      return "zipf";
    case SelectionKind::lists:
      return "lists";
  }
  return "";
}

Selection of_layer(const Selection& selection, int layer) {
  if (!selection.layers) return selection;
  const SelectionLayers& layers = *selection.layers;
  const auto at = layers.size() == 1 ? layers.begin() : layers.find(layer);
  if (at == layers.end())
    throw std::invalid_argument{fmt::format("the recorded selection has no layer {}", layer)};
  Selection s = selection;
  s.lists = at->second;
  s.layers = nullptr;
  return s;
}

std::string signature(const Selection& s) {
  if (s.kind != SelectionKind::lists)
    return s.kind == SelectionKind::uniform ? fmt::format("uniform seed {}", s.seed)
                                            : fmt::format("{} {} seed {}", name_of(s.kind), s.skew, s.seed);
  std::uint64_t h = 0;
  for (const std::uint64_t o : s.lists->offsets) h = mixed(h ^ o);
  for (const std::int32_t b : s.lists->blocks) h = mixed(h ^ static_cast<std::uint64_t>(b));
  return fmt::format("lists {:016x}", h);
}

RowsPerBlock rows_per_block(std::int64_t rows, std::int64_t block, const Positions& positions) {
  if (positions) {
    RowsPerBlock r(positions->empty() ? 0 : static_cast<std::size_t>(positions->back() / block + 1));
    auto first = positions->begin();
    for (std::size_t b = 0; b < r.size(); ++b) {
      const auto end = static_cast<std::int64_t>(b + 1) * block;
      const auto last = std::partition_point(first, positions->end(), [&](std::int32_t p) { return p < end; });
      r[b] = last - first;
      first = last;
    }
    return r;
  }
  RowsPerBlock r(static_cast<std::size_t>((rows + block - 1) / block), block);
  if (rows % block != 0) r.back() = rows % block;
  return r;
}

std::vector<std::int64_t> routed_rows(const Selection& selection, std::int64_t head, std::int64_t topk,
                                      const RowsPerBlock& rows, const Positions& positions) {
  const std::size_t blocks = rows.size();
  if (selection.kind == SelectionKind::lists) return counted(*selection.lists, head, blocks, positions);
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(topk - 1, 0));
  std::vector<double> mean(blocks), variance(blocks);
  std::int64_t total = 0;
  for (std::size_t own = 0; own < blocks; ++own)
    total += rows[own] * static_cast<std::int64_t>(std::min(most, own));

  // Own blocks up to `most` take every past block.
  const Weights weights{selection, head, blocks};
  const std::size_t all = std::min(most + 1, blocks), rest = blocks - all;
  std::int64_t later = 0;  // rows in own blocks after i, of those that take everything
  for (std::size_t i = all; i-- > 0; later += rows[i]) mean[i] = static_cast<double>(later);
  const std::size_t spans = most == 0 ? 0 : std::min(kSpans, rest);
  for (std::size_t s = 0; s < spans; ++s) {
    const std::size_t begin = all + rest * s / spans, end = all + rest * (s + 1) / spans,
                      own = (begin + end) / 2;
    double span_rows = 0;
    for (std::size_t b = begin; b < end; ++b) span_rows += static_cast<double>(rows[b]);
    const double t = arrival_time(weights, own, static_cast<double>(most));
    const auto add = [&](std::size_t i, double weight, double of_rows) {
      const double chance = 1 - std::exp(-weight * t);
      mean[i] += of_rows * chance;
      variance[i] += of_rows * chance * (1 - chance);
    };
    for (std::size_t i = 0; i < begin; ++i) add(i, weights.of(i, own), span_rows);
    for (std::size_t i = begin; i + 1 < end; ++i) {
      span_rows -= static_cast<double>(rows[i]);
      add(i, weights.of(std::min(i, own - 1), own), span_rows);
    }
  }
  // At most every later row; in all exactly `total`.
  std::vector<std::int64_t> counts(blocks), room(blocks);
  later = 0;
  for (std::size_t i = blocks; i-- > 0; later += rows[i]) room[i] = later;
  double sum = 0;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::uint64_t h = hashed(selection.seed, static_cast<std::uint64_t>(head), i);
    mean[i] = std::clamp(mean[i] + std::sqrt(variance[i]) * normal(h), 0.0, static_cast<double>(room[i]));
    sum += mean[i];
  }
  std::int64_t left = total;
  for (std::size_t i = 0; i < blocks && sum > 0; ++i) {
    counts[i] = std::min(room[i], static_cast<std::int64_t>(mean[i] / sum * static_cast<double>(total)));
    left -= counts[i];
  }
  for (std::size_t i = 0; left > 0; i = (i + 1) % blocks) {
    const std::int64_t more = std::min(room[i] - counts[i], (left + static_cast<std::int64_t>(blocks) - 1) /
                                                                static_cast<std::int64_t>(blocks));
    counts[i] += more;
    left -= more;
  }
  return counts;
}

}  // namespace tessera::models
