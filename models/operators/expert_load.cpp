#include "models/operators/expert_load.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

namespace tessera::models {

namespace {

using Loads = std::vector<std::int32_t>;

/// [0, 1): what std::uniform_real_distribution gives differs between libraries.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11U) * 0x1p-53; }
std::size_t below(std::mt19937_64& random, std::size_t n) {
  return static_cast<std::size_t>(uniform(random) * static_cast<double>(n));
}

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

Loads balanced(const Routing& r) {
  Loads loads(index(r.experts), 0);
  const std::int64_t stride = (r.experts + r.topk - 1) / r.topk;
  // As many tokens as there are experts take each of them topk times.
  const std::int64_t turns = r.tokens >= stride ? r.tokens / r.experts : 0;
  for (std::int32_t& load : loads) load = static_cast<std::int32_t>(turns * r.topk);
  // Fewer tokens than experts of a stride are spread over it.
  for (std::int64_t t = turns * r.experts; t < r.tokens; ++t) {
    const std::int64_t first = r.tokens >= stride ? t % r.experts : t * stride / r.tokens;
    for (std::int64_t i = 0; i < r.topk; ++i) ++loads[index((first + i * stride) % r.experts)];
  }
  return loads;
}

Loads uniform_draws(const Routing& r, std::uint64_t seed) {
  Loads loads(index(r.experts), 0);
  std::mt19937_64 random{seed};
  std::vector<std::size_t> deck(index(r.experts));
  std::iota(deck.begin(), deck.end(), std::size_t{0});
  for (std::int64_t t = 0; t < r.tokens; ++t) {
    for (std::size_t i = 0; i < index(r.topk); ++i) {
      std::swap(deck[i], deck[i + below(random, deck.size() - i)]);
      ++loads[deck[i]];
    }
  }
  return loads;
}

/// `count` rows more (step 1) or less (-1) in [first, last): each to the expert with the fewest, or from the
/// one with the most, the first of several. All at once: up to a level, and one more for the first ones
/// there.
void level_out(Loads::iterator first, Loads::iterator last, std::int64_t count, std::int32_t step) {
  std::vector<std::int64_t> sorted;
  for (auto load = first; load != last; ++load) sorted.push_back(std::int64_t{step} * *load);
  std::sort(sorted.begin(), sorted.end());
  std::int64_t level = sorted.front(), reached = 1;  // by so many experts
  while (index(reached) < sorted.size() && (sorted[index(reached)] - level) * reached <= count) {
    count -= (sorted[index(reached)] - level) * reached;
    level = sorted[index(reached++)];
  }
  level += count / reached;
  std::int64_t beyond = count % reached;
  for (auto load = first; load != last; ++load) {
    if (std::int64_t{step} * *load > level) continue;
    *load = static_cast<std::int32_t>(step * (level + (beyond > 0 ? 1 : 0)));
    beyond -= beyond > 0 ? 1 : 0;
  }
}

/// One row more (step 1) or less (-1) at a time, on one node after the other, for its expert with the fewest
/// or the most, as the collector does: counted by node, then done at once.
void adjust(Loads& loads, const Routing& r, std::int64_t left, std::int32_t step) {
  const std::int64_t each = r.experts / r.nodes;
  std::vector<std::int64_t> room(index(r.nodes), 0), taken(index(r.nodes), 0);
  for (std::int64_t e = 0; e < r.experts; ++e)
    room[index(e / each)] += step > 0 ? r.tokens - loads[index(e)] : loads[index(e)];
  while (left > 0) {
    // As many rounds as all nodes that have room take part in; a part of a round at the end.
    std::int64_t nodes = 0, least = left;
    for (const std::int64_t n : room) {
      if (n <= 0) continue;
      ++nodes;
      least = std::min(least, n);
    }
    if (nodes == 0) break;
    const std::int64_t rounds = std::min(least, left / nodes);
    for (std::size_t n = 0; n < room.size() && left > 0; ++n) {
      if (room[n] <= 0) continue;
      const std::int64_t rows = std::max<std::int64_t>(rounds, 1);
      room[n] -= rows;
      taken[n] += rows;
      left -= rows;
    }
  }
  for (std::int64_t node = 0; node < r.nodes; ++node) {
    const auto first = loads.begin() + node * each;
    if (taken[index(node)] > 0) level_out(first, first + each, taken[index(node)], step);
  }
}

Loads power_law(const Routing& r, double exponent, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  const bool many = r.tokens * r.topk > r.experts;
  const double least = many ? 1 : 0.01, most = many ? static_cast<double>(r.tokens) * 0.8 : 2;
  const double a = 1 - exponent;
  std::vector<double> draws(index(r.experts));
  for (std::size_t e = 0; e < draws.size(); ++e) {
    const double u = (static_cast<double>(e) + uniform(random)) / static_cast<double>(draws.size());
    draws[e] = std::abs(a) < 1e-9
                   ? least * std::pow(most / least, u)
                   : std::pow((std::pow(most, a) - std::pow(least, a)) * u + std::pow(least, a), 1 / a);
  }
  for (std::size_t e = draws.size(); e-- > 1;) std::swap(draws[e], draws[below(random, e + 1)]);

  const double sum = std::accumulate(draws.begin(), draws.end(), 0.0);
  const std::int64_t rows = r.tokens * r.topk;
  Loads loads(draws.size());
  std::int64_t given = 0;
  for (std::size_t e = 0; e < loads.size(); ++e) {
    const double share = std::nearbyint(draws[e] / sum * static_cast<double>(rows));
    loads[e] = static_cast<std::int32_t>(std::min(share, static_cast<double>(r.tokens)));
    given += loads[e];
  }
  adjust(loads, r, std::abs(rows - given), given < rows ? 1 : -1);

  const std::int64_t each = r.experts / r.nodes;
  std::int64_t fullest = 0, greatest = -1;
  for (std::int64_t node = 0; node < r.nodes; ++node) {
    const auto first = loads.begin() + node * each;
    const std::int64_t here = std::accumulate(first, first + each, std::int64_t{0});
    if (here > greatest) {
      greatest = here;
      fullest = node;
    }
  }
  std::swap_ranges(loads.begin(), loads.begin() + each, loads.begin() + fullest * each);
  return loads;
}

/// Of the recorded counts each expert its share, whole ones first, then by what is left of each.
Loads recorded(const Routing& r, const LoadDistribution& d) {
  if (!d.counts || d.counts->empty()) throw std::invalid_argument{"a recorded routing without counts"};
  const auto at = d.counts->size() == 1 ? d.counts->begin() : d.counts->find(d.layer);
  if (at == d.counts->end())
    throw std::invalid_argument{fmt::format("the recorded routing has no layer {}", d.layer)};
  const std::vector<std::int64_t>& counts = at->second;
  const std::int64_t all = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  if (static_cast<std::int64_t>(counts.size()) != r.experts || all <= 0)
    throw std::invalid_argument{
        fmt::format("the recorded routing is of {} experts, not of {}", counts.size(), r.experts)};
  Loads loads(counts.size());
  std::vector<double> left(counts.size());
  std::int64_t rows = r.tokens * r.topk;
  for (std::size_t e = 0; e < loads.size(); ++e) {
    const double share =
        static_cast<double>(counts[e]) / static_cast<double>(all) * static_cast<double>(r.tokens * r.topk);
    loads[e] = static_cast<std::int32_t>(std::min(std::floor(share), static_cast<double>(r.tokens)));
    left[e] = share - loads[e];
    rows -= loads[e];
  }
  std::vector<std::size_t> order(loads.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return left[a] > left[b]; });
  for (std::size_t i = 0; rows > 0; i = (i + 1) % order.size()) {
    if (loads[order[i]] >= r.tokens) continue;
    ++loads[order[i]];
    --rows;
  }
  return loads;
}

}  // namespace

LoadDistribution parse_load(std::string_view text) {
  constexpr std::string_view kPowerLaw = "power_law_";
  if (text == "balanced") return {};
  if (text == "uniform") return {.kind = LoadKind::uniform};
  if (text.starts_with(kPowerLaw)) {
    const std::string_view number = text.substr(kPowerLaw.size());
    double exponent = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), exponent);
    if (error == std::errc{} && end == number.data() + number.size() && exponent > 0 && exponent <= 10)
      return {.kind = LoadKind::power_law, .exponent = exponent};
  }
  throw std::invalid_argument{
      fmt::format("expected balanced, uniform or power_law_ with an exponent up to 10, not '{}'", text)};
}

std::vector<std::int32_t> expert_loads(const LoadDistribution& distribution, const Routing& r) {
  if (r.tokens <= 0 || r.experts <= 0 || r.topk <= 0 || r.topk > r.experts || r.nodes <= 0 ||
      r.experts % r.nodes != 0) {
    throw std::invalid_argument{
        fmt::format("a routing of {} tokens to {} of {} experts on {} nodes is impossible", r.tokens, r.topk,
                    r.experts, r.nodes)};
  }
  switch (distribution.kind) {
    case LoadKind::balanced:
      return balanced(r);
    case LoadKind::uniform:
      return uniform_draws(r, distribution.seed);
    case LoadKind::power_law:
      return power_law(r, distribution.exponent, distribution.seed);
    case LoadKind::recorded:
      return recorded(r, distribution);
  }
  return {};
}

std::vector<std::int32_t> count_rows(const std::vector<std::int32_t>& choices, std::int64_t experts) {
  Loads loads(index(experts), 0);
  for (const std::int32_t e : choices) {
    if (e < 0 || e >= experts)
      throw std::invalid_argument{fmt::format("a token chose expert {} of {}", e, experts)};
    ++loads[index(e)];
  }
  return loads;
}

ExpertLoads loads_of(const std::vector<std::int32_t>& loads, std::int64_t first, std::int64_t last) {
  if (first < 0 || first >= last || last > static_cast<std::int64_t>(loads.size())) {
    throw std::invalid_argument{fmt::format("experts [{}, {}) of {} are none", first, last, loads.size())};
  }
  return std::make_shared<const Loads>(loads.begin() + first, loads.begin() + last);
}

}  // namespace tessera::models
