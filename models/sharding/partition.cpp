#include "models/sharding/partition.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <stdexcept>

#include "models/sharding/sharding.hpp"

namespace tessera::models {

namespace {

void require_positive(std::int64_t value, std::string_view name) {
  if (value <= 0) throw std::invalid_argument{fmt::format("{} must be positive, not {}", name, value)};
}

template <class SetOf>
Partition deal(std::int64_t tokens, std::int64_t sets, SetOf set_of) {
  require_positive(tokens, "tokens");
  require_positive(sets, "sets");
  Partition p;
  p.tokens = tokens;
  p.sets.resize(static_cast<std::size_t>(sets));
  for (std::int64_t t = 0; t < tokens; ++t)
    p.sets[static_cast<std::size_t>(set_of(t))].push_back(static_cast<std::int32_t>(t));
  return p;
}

std::int64_t parse_token(std::string_view text, std::string_view whole) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  std::int64_t n = 0;
  const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (status != std::errc{} || rest != text.data() + text.size() || n < 0) {
    throw std::invalid_argument{
        fmt::format("'{}' is no list of tokens such as \"0-3,8,12-13\"", whole.substr(0, 40))};
  }
  return n;
}

}  // namespace

void check(const Partition& partition) {
  if (partition.tokens < 0)
    throw std::invalid_argument{fmt::format("tokens must not be negative, not {}", partition.tokens)};
  std::vector<std::int32_t> owner(static_cast<std::size_t>(partition.tokens), -1);
  for (std::size_t s = 0; s < partition.sets.size(); ++s) {
    for (const std::int32_t t : partition.sets[s]) {
      if (t < 0 || t >= partition.tokens) {
        throw std::invalid_argument{
            fmt::format("token {} of set {} is not among the {} tokens", t, s, partition.tokens)};
      }
      std::int32_t& o = owner[static_cast<std::size_t>(t)];
      if (o == static_cast<std::int32_t>(s))
        throw std::invalid_argument{fmt::format("token {} is twice in set {}", t, s)};
      if (o >= 0) throw std::invalid_argument{fmt::format("token {} is in set {} and in set {}", t, o, s)};
      o = static_cast<std::int32_t>(s);
    }
    if (!std::is_sorted(partition.sets[s].begin(), partition.sets[s].end())) {
      throw std::invalid_argument{fmt::format("set {} is not in increasing order", s)};
    }
  }
  const auto orphan = std::find(owner.begin(), owner.end(), -1);
  if (orphan != owner.end())
    throw std::invalid_argument{fmt::format("token {} is in no set", orphan - owner.begin())};
}

void check(const Sharding& sharding) {
  if (sharding.r.tokens != sharding.s.tokens) {
    throw std::invalid_argument{
        fmt::format("R shares out {} tokens but S {}", sharding.r.tokens, sharding.s.tokens)};
  }
  const auto checked = [](const char* which, const Partition& p) {
    try {
      check(p);
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument{fmt::format("{}: {}", which, e.what())};
    }
  };
  checked("R", sharding.r);
  checked("S", sharding.s);
}

Partition contiguous(std::int64_t tokens, int sets) {
  require_positive(sets, "sets");
  const std::int64_t size = tokens / sets, larger = tokens % sets;
  return deal(tokens, sets, [=](std::int64_t t) {
    return t < larger * (size + 1) ? t / (size + 1)
                                   : larger + (t - larger * (size + 1)) / std::max<std::int64_t>(size, 1);
  });
}

Partition round_robin(std::int64_t tokens, int sets, std::int64_t block) {
  require_positive(block, "block");
  return deal(tokens, sets, [=](std::int64_t t) { return t / block % sets; });
}

Partition c_delta(std::int64_t tokens, std::int64_t c, std::int64_t delta) {
  require_positive(c, "c");
  if (delta < 0) throw std::invalid_argument{fmt::format("delta must not be negative, not {}", delta)};
  const std::int64_t period = c + delta;
  return deal(tokens, (period + c - 1) / c, [=](std::int64_t t) { return t % period / c; });
}

Partition across_clusters(std::int64_t tokens, int sets, std::int64_t c, std::int64_t delta) {
  require_positive(c, "c");
  if (delta < 0) throw std::invalid_argument{fmt::format("delta must not be negative, not {}", delta)};
  if (sets > c)
    throw std::invalid_argument{
        fmt::format("{} sets across clusters of {} tokens leave some set empty", sets, c)};
  return deal(tokens, sets, [=](std::int64_t t) { return t % (c + delta) % c % sets; });
}

Partition explicit_sets(std::int64_t tokens, const std::vector<std::string>& sets, std::int64_t prompt) {
  require_positive(tokens, "tokens");
  Partition p;
  p.tokens = tokens;
  for (const std::string& text : sets) {
    auto& set = p.sets.emplace_back();
    for (std::size_t start = 0; start <= text.size() && !text.empty();) {
      const std::size_t comma = std::min(text.find(',', start), text.size());
      const std::string_view item = std::string_view{text}.substr(start, comma - start);
      const std::size_t dash = item.find('-');
      const std::int64_t first = parse_token(item.substr(0, dash), text);
      const std::int64_t last =
          dash == std::string_view::npos ? first : parse_token(item.substr(dash + 1), text);
      if (last < first) throw std::invalid_argument{fmt::format("range {} runs backwards", item)};
      if (last >= tokens)
        throw std::invalid_argument{
            fmt::format("token {} of set {} is not among the {} tokens", last, p.sets.size() - 1, tokens)};
      for (std::int64_t t = first; t <= last; ++t) set.push_back(static_cast<std::int32_t>(t));
      start = comma + 1;
    }
  }
  if (prompt < tokens && !p.sets.empty()) {
    std::vector<bool> named(static_cast<std::size_t>(tokens));
    for (const auto& set : p.sets) {
      for (const std::int32_t t : set) named[static_cast<std::size_t>(t)] = true;
    }
    for (std::int64_t t = std::max<std::int64_t>(prompt, 0); t < tokens; ++t) {
      if (!named[static_cast<std::size_t>(t)])
        p.sets[static_cast<std::size_t>(t - prompt) % p.sets.size()].push_back(static_cast<std::int32_t>(t));
    }
  }
  for (auto& set : p.sets) std::sort(set.begin(), set.end());
  check(p);
  return p;
}

Partition first_tokens(Partition partition, std::int64_t tokens) {
  for (auto& set : partition.sets) set.erase(std::lower_bound(set.begin(), set.end(), tokens), set.end());
  partition.tokens = std::min(partition.tokens, tokens);
  return partition;
}

std::vector<std::int32_t> owners(const Partition& partition) {
  std::vector<std::int32_t> owner(static_cast<std::size_t>(partition.tokens), -1);
  for (std::size_t s = 0; s < partition.sets.size(); ++s) {
    for (const std::int32_t t : partition.sets[s])
      owner[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(s);
  }
  return owner;
}

Exposure exposure(const std::vector<std::int32_t>& positions) {
  Exposure e;
  std::int64_t run = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::int64_t gap = i == 0 ? 0 : positions[i] - positions[i - 1] - 1;
    if (i == 0 || gap > 0) run = 0;
    if (gap > 0) e.smallest_gap = e.smallest_gap == 0 ? gap : std::min(e.smallest_gap, gap);
    e.largest_cluster = std::max(e.largest_cluster, ++run);
  }
  return e;
}

std::vector<std::int32_t> union_of(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  std::vector<std::int32_t> u;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(u));
  return u;
}

}  // namespace tessera::models
