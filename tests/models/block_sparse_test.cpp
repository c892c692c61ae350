#include "models/reference/block_sparse.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>

#include "models/operators/operator.hpp"
#include "tests/models/random_sharding.hpp"

namespace tessera::models {
namespace {

using reference::BlockSparse;
using reference::Gate;
using reference::HeadShape;
using reference::Rows;

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

Rows random_rows(std::int64_t rows, std::int64_t width, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Rows r;
  r.positions.resize(static_cast<std::size_t>(rows));
  std::iota(r.positions.begin(), r.positions.end(), 0);
  r.values.resize(static_cast<std::size_t>(rows * width));
  for (double& x : r.values) x = normal(random);
  return r;
}

struct Case {
  HeadShape shape;
  BlockSparse rule;
  Rows q, k, v;
};
Case random_case(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  Case c;
  c.shape.kv_heads = pick(1, 2);
  c.shape.heads = c.shape.kv_heads * pick(1, 3);
  c.shape.head_dim = pick(1, 9);
  const std::int64_t tokens = pick(0, 9) == 0 ? 1 : pick(1, 33);
  c.rule.block = pick(1, 12);
  c.rule.topk = pick(1, 8);
  c.rule.gate = static_cast<Gate>(pick(0, 3));
  c.rule.sinks = pick(1, 2);
  c.q = random_rows(tokens, c.shape.q_width(), random);
  c.k = random_rows(tokens, c.shape.kv_width(), random);
  c.v = random_rows(tokens, c.shape.kv_width(), random);
  return c;
}

/// Dense softmax over the keys that visible(head, row, key) shows.
template <class Visible>
std::vector<double> masked(const Case& c, const Visible& visible) {
  const auto n = static_cast<std::int64_t>(c.q.positions.size());
  const HeadShape& s = c.shape;
  std::vector<double> out(static_cast<std::size_t>(n * s.q_width()));
  for (std::int64_t h = 0; h < s.heads; ++h) {
    const std::int64_t g = h / (s.heads / s.kv_heads);
    for (std::int64_t t = 0; t < n; ++t) {
      double total = 0;
      double* const o = &out[static_cast<std::size_t>(t * s.q_width() + h * s.head_dim)];
      for (std::int64_t u = 0; u <= t; ++u) {
        if (!visible(h, t, u)) continue;
        double dot = 0;
        for (std::int64_t i = 0; i < s.head_dim; ++i)
          dot += c.q.values[static_cast<std::size_t>(t * s.q_width() + h * s.head_dim + i)] *
                 c.k.values[static_cast<std::size_t>(u * s.kv_width() + g * s.head_dim + i)];
        const double w = std::exp(dot / std::sqrt(static_cast<double>(s.head_dim)));
        total += w;
        for (std::int64_t i = 0; i < s.head_dim; ++i)
          o[i] += w * c.v.values[static_cast<std::size_t>(u * s.kv_width() + g * s.head_dim + i)];
      }
      for (std::int64_t i = 0; i < s.head_dim; ++i) o[i] /= total;
    }
  }
  return out;
}

/// Whether fewer than `taken` earlier blocks score more than `block` with query (h, t).
template <class Score>
bool among_best(const Case& c, std::int64_t t, std::int64_t block, std::int64_t taken, const Score& score) {
  std::int64_t better = 0;
  for (std::int64_t b = 0; b < t / c.rule.block; ++b) better += score(b) > score(block) ? 1 : 0;
  return better < taken;
}

TEST_CASE("block-sparse attention: naive = five steps = sharded, to 1e-12") {
  std::mt19937_64 random{2502};
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  for (int i = 0; i < 250; ++i) {
    const Case c = random_case(random);
    const auto tokens = static_cast<std::int64_t>(c.q.positions.size());
    INFO("case " << i << ": " << tokens << " tokens, block " << c.rule.block << ", top " << c.rule.topk
                 << ", gate " << static_cast<int>(c.rule.gate));
    const std::vector<double> naive = block_sparse(c.shape, c.rule, c.q, c.k, c.v);
    REQUIRE(largest_difference(naive, block_sparse_five_step(c.shape, c.rule, c.q, c.k, c.v)) < 1e-12);
    const Partition s = testing::random_partition(tokens, pick(1, 5), random);
    REQUIRE(largest_difference(naive, block_sparse_sharded(c.shape, c.rule, s, c.q, c.k, c.v)) < 1e-12);
  }
}

TEST_CASE("rows at some positions attend in full: naive = five steps = sharded, and dense where they do") {
  std::mt19937_64 random{2511};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>{least, most}(random);
  };
  for (int i = 0; i < 150; ++i) {
    Case c = random_case(random);
    const auto tokens = static_cast<std::int64_t>(c.q.positions.size());
    const std::vector<double> sparse = block_sparse(c.shape, c.rule, c.q, c.k, c.v),
                              dense = attention(c.shape, c.q, c.k, c.v, true);
    c.rule.full_from = pick(0, tokens - 1);
    c.rule.full_to = pick(c.rule.full_from, tokens + 3);
    INFO("case " << i << ": " << tokens << " tokens, block " << c.rule.block << ", top " << c.rule.topk
                 << ", full from " << c.rule.full_from << " to " << c.rule.full_to);
    const std::vector<double> naive = block_sparse(c.shape, c.rule, c.q, c.k, c.v);
    std::vector<double> expected = sparse;
    for (std::int64_t t = c.rule.full_from; t < std::min(tokens, c.rule.full_to); ++t)
      std::copy_n(dense.begin() + t * c.shape.q_width(), c.shape.q_width(),
                  expected.begin() + t * c.shape.q_width());
    REQUIRE(largest_difference(naive, expected) < 1e-12);
    REQUIRE(largest_difference(naive, block_sparse_five_step(c.shape, c.rule, c.q, c.k, c.v)) < 1e-12);
    const Partition s = testing::random_partition(tokens, static_cast<int>(pick(1, 5)), random);
    REQUIRE(largest_difference(naive, block_sparse_sharded(c.shape, c.rule, s, c.q, c.k, c.v)) < 1e-12);
  }
}

TEST_CASE("MoBA with as many blocks as there are is dense causal attention; with fewer it is not") {
  std::mt19937_64 random{7};
  for (int i = 0; i < 60; ++i) {
    Case c = random_case(random);
    const auto tokens = static_cast<std::int64_t>(c.q.positions.size());
    c.rule.gate = Gate::mean;
    c.rule.topk = (tokens + c.rule.block - 1) / c.rule.block;
    const std::vector<double> dense = reference::attention(c.shape, c.q, c.k, c.v, true);
    REQUIRE(largest_difference(dense, block_sparse(c.shape, c.rule, c.q, c.k, c.v)) < 1e-12);
    if (--c.rule.topk > 0)
      REQUIRE(largest_difference(dense, block_sparse(c.shape, c.rule, c.q, c.k, c.v)) > 1e-6);
  }
}

TEST_CASE("MoBA, sliding window, attention sink, Quest and LongHeads equal their direct forms") {
  std::mt19937_64 random{11};
  for (int i = 0; i < 60; ++i) {
    Case c = random_case(random);
    const HeadShape& s = c.shape;
    const std::int64_t width = c.rule.topk;
    const auto q = [&](std::int64_t h, std::int64_t t, std::int64_t e) {
      return c.q.values[static_cast<std::size_t>(t * s.q_width() + h * s.head_dim + e)];
    };
    const auto k = [&](std::int64_t h, std::int64_t u, std::int64_t e) {
      return c.k
          .values[static_cast<std::size_t>(u * s.kv_width() + h / (s.heads / s.kv_heads) * s.head_dim + e)];
    };
    const auto gated = [&](const auto& score, std::int64_t taken) {
      return masked(c, [&](std::int64_t h, std::int64_t t, std::int64_t u) {
        const std::int64_t block = u / c.rule.block;
        return block == t / c.rule.block ||
               among_best(c, t, block, taken, [&](std::int64_t b) { return score(h, t, b); });
      });
    };
    const auto mean = [&](std::int64_t h, std::int64_t t, std::int64_t b) {
      double sum = 0;
      for (std::int64_t u = b * c.rule.block; u < (b + 1) * c.rule.block; ++u)
        for (std::int64_t e = 0; e < s.head_dim; ++e) sum += q(h, t, e) * k(h, u, e);
      return sum;
    };
    c.rule.gate = Gate::mean;
    REQUIRE(largest_difference(gated(mean, width - 1), block_sparse(s, c.rule, c.q, c.k, c.v)) < 1e-12);
    c.rule.topk = 2;  // LongHeads
    REQUIRE(largest_difference(gated(mean, 1), block_sparse(s, c.rule, c.q, c.k, c.v)) < 1e-12);
    c.rule.topk = width;
    c.rule.gate = Gate::extent;
    const auto extent = [&](std::int64_t h, std::int64_t t, std::int64_t b) {
      double sum = 0;
      for (std::int64_t e = 0; e < s.head_dim; ++e) {
        double most = -1e300;
        // A corner of the box of keys: the largest product it can give.
        double least_key = 1e300, most_key = -1e300;
        for (std::int64_t u = b * c.rule.block; u < (b + 1) * c.rule.block; ++u) {
          least_key = std::min(least_key, k(h, u, e));
          most_key = std::max(most_key, k(h, u, e));
        }
        most = q(h, t, e) > 0 ? q(h, t, e) * most_key : q(h, t, e) * least_key;
        sum += most;
      }
      return sum;
    };
    REQUIRE(largest_difference(gated(extent, width - 1), block_sparse(s, c.rule, c.q, c.k, c.v)) < 1e-12);
    // With blocks of one token a window is exact.
    c.rule.block = 1;
    c.rule.gate = Gate::recent;
    REQUIRE(largest_difference(
                masked(c, [&](std::int64_t, std::int64_t t, std::int64_t u) { return u > t - width; }),
                block_sparse(s, c.rule, c.q, c.k, c.v)) < 1e-12);
    c.rule.gate = Gate::sink;
    c.rule.sinks = std::min(c.rule.sinks, width - 1);
    const std::int64_t sinks = c.rule.sinks;
    if (sinks > 0)
      REQUIRE(
          largest_difference(masked(c, [&](std::int64_t, std::int64_t t,
                                           std::int64_t u) { return u < sinks || u > t - (width - sinks); }),
                             block_sparse(s, c.rule, c.q, c.k, c.v)) < 1e-12);
  }
}

TEST_CASE("distributions route every row's share to earlier blocks only, the same each time") {
  for (const SelectionKind kind : {SelectionKind::uniform, SelectionKind::recent, SelectionKind::zipf}) {
    for (const std::int64_t topk : {1, 2, 3, 12, 300}) {
      for (const std::int64_t seq : {1, 100, 4096, 4096 * 256 + 17}) {
        const std::int64_t block = 4096;
        Selection s{.kind = kind, .skew = 1.2, .seed = 3};
        const RowsPerBlock rows = rows_per_block(seq, block);
        const std::vector<std::int64_t> counts = routed_rows(s, 5, topk, rows);
        INFO(name_of(kind) << " top " << topk << " of " << seq);
        REQUIRE(counts == routed_rows(s, 5, topk, rows));
        std::int64_t total = 0, later = 0;
        for (std::size_t b = rows.size(); b-- > 0; later += rows[b]) {
          REQUIRE(counts[b] >= 0);
          REQUIRE(counts[b] <= later);
          total += rows[b] * std::min<std::int64_t>(topk - 1, static_cast<std::int64_t>(b));
        }
        REQUIRE(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == total);
      }
    }
  }
}

TEST_CASE("a distribution's counts are those of rows drawn one by one") {
  // Draws without replacement, weight by weight, against the counts' means over heads.
  const std::int64_t block = 64, blocks = 24, topk = 5, draws = 40;
  const RowsPerBlock rows = rows_per_block(block * blocks, block);
  std::mt19937_64 random{5};
  for (const SelectionKind kind : {SelectionKind::uniform, SelectionKind::recent}) {
    const Selection s{.kind = kind, .skew = 1};
    std::vector<double> mean(rows.size()), drawn(rows.size());
    for (std::int64_t head = 0; head < draws; ++head) {
      const auto counts = routed_rows(s, head, topk, rows);
      for (std::size_t b = 0; b < rows.size(); ++b) mean[b] += static_cast<double>(counts[b]) / draws;
    }
    for (std::size_t own = 1; own < rows.size(); ++own) {
      for (std::int64_t r = 0; r < block * 10; ++r) {
        std::vector<double> weight(own);
        for (std::size_t b = 0; b < own; ++b)
          weight[b] = kind == SelectionKind::uniform ? 1 : 1 / static_cast<double>(own - b);
        for (std::size_t taken = 0; taken < std::min<std::size_t>(topk - 1, own); ++taken) {
          const std::size_t b = std::discrete_distribution<std::size_t>{weight.begin(), weight.end()}(random);
          weight[b] = 0;
          drawn[b] += 0.1;
        }
      }
    }
    for (std::size_t b = 0; b + 1 < rows.size(); ++b) {
      INFO(name_of(kind) << " block " << b);
      CHECK(mean[b] == Catch::Approx(drawn[b]).epsilon(0.1).margin(15));
    }
  }
}

TEST_CASE("a skewed distribution is uneven, and Zipf's hot blocks differ from head to head") {
  const RowsPerBlock rows = rows_per_block(1 << 20, 4096);
  const auto spread = [&](const Selection& s) {
    const auto counts = routed_rows(s, 0, 12, rows);
    return static_cast<double>(*std::max_element(counts.begin(), counts.begin() + 128)) /
           static_cast<double>(*std::min_element(counts.begin(), counts.begin() + 128));
  };
  CHECK(spread({.kind = SelectionKind::zipf, .skew = 1}) > 2 * spread({.kind = SelectionKind::uniform}));
  const Selection zipf{.kind = SelectionKind::zipf, .skew = 1};
  CHECK(routed_rows(zipf, 0, 12, rows) != routed_rows(zipf, 1, 12, rows));
}

TEST_CASE("lists are counted by block, and refused where they cannot be") {
  // Head 0: row 4 takes blocks 0 and 1, row 5 block 1; head 1: row 4 block 0.
  auto lists = std::make_shared<const SelectionLists>(
      SelectionLists{2, 6, {0, 0, 0, 0, 0, 2, 3, 3, 3, 3, 3, 4, 4}, {0, 1, 1, 0}});
  const Moba op{.seq = 6,
                .heads = 2,
                .kv_heads = 1,
                .head_dim = 8,
                .block = 2,
                .topk = 3,
                .selection = {.kind = SelectionKind::lists, .lists = lists}};
  check(op);
  CHECK(block_rows(op, 0, 0)[1].routed == 2);
  CHECK(block_rows(op, 0, 1)[0].routed == 1);
  // Pairs: three own blocks of 3 for both heads, (1 + 2) + 1 selected blocks of 2 keys; gate 2 (2 x 1 + 2 x
  // 2).
  CHECK(flops_of(op) == Catch::Approx(4 * 8 * (2 * 9 + 2 * 4) + 2 * 2 * 8 * 6 + 6 * 8));
  Moba narrow = op;
  narrow.topk = 2;
  CHECK_THROWS_AS(check(narrow), std::invalid_argument);
  // By layer: the only one stands for all; of several each must be there.
  Selection all{.kind = SelectionKind::lists,
                .layers = std::make_shared<const SelectionLayers>(SelectionLayers{{3, lists}})};
  CHECK(of_layer(all, 0).lists == lists);
  const auto other = std::make_shared<const SelectionLists>(*lists);
  all.layers = std::make_shared<const SelectionLayers>(SelectionLayers{{0, other}, {3, lists}});
  CHECK(of_layer(all, 3).lists == lists);
  CHECK(of_layer(all, 0).lists == other);
  CHECK_THROWS_AS(of_layer(all, 1), std::invalid_argument);
}

TEST_CASE("real gating gives lists that the operator takes; shards of it have all of its pairs") {
  std::mt19937_64 random{13};
  for (int i = 0; i < 40; ++i) {
    const Case c = random_case(random);
    const auto tokens = static_cast<std::int64_t>(c.q.positions.size());
    const auto summary = reference::pool(c.shape, c.rule, c.k, (tokens + c.rule.block - 1) / c.rule.block);
    const auto lists =
        std::make_shared<const SelectionLists>(reference::select(c.shape, c.rule, c.q, summary, tokens));
    const Selection selection{.kind = SelectionKind::lists, .lists = lists};
    const Moba whole{.seq = tokens,
                     .heads = c.shape.heads,
                     .kv_heads = c.shape.kv_heads,
                     .head_dim = c.shape.head_dim,
                     .block = c.rule.block,
                     .topk = c.rule.topk,
                     .selection = selection};
    check(whole);
    const Partition s = testing::random_partition(tokens, 3, random);
    double parts = 0;
    for (const auto& rows : s.sets) {
      for (const auto& columns : s.sets) {
        if (rows.empty() || columns.empty()) continue;
        const BlockSparseAttention part{
            .q_rows = static_cast<std::int64_t>(rows.size()),
            .kv_rows = static_cast<std::int64_t>(columns.size()),
            .heads = c.shape.heads,
            .kv_heads = c.shape.kv_heads,
            .head_dim = c.shape.head_dim,
            .block = c.rule.block,
            .topk = c.rule.topk,
            .q_positions = std::make_shared<const std::vector<std::int32_t>>(rows),
            .kv_positions = std::make_shared<const std::vector<std::int32_t>>(columns),
            .selection = selection};
        check(part);
        parts += flops_of(part);
      }
    }
    const BlockGate gate{.q_rows = tokens,
                         .heads = c.shape.heads,
                         .kv_heads = c.shape.kv_heads,
                         .head_dim = c.shape.head_dim,
                         .block = c.rule.block,
                         .topk = c.rule.topk};
    const BlockPool pool{
        .kv_rows = tokens, .kv_heads = c.shape.kv_heads, .head_dim = c.shape.head_dim, .block = c.rule.block};
    CHECK(parts + flops_of(gate) + flops_of(pool) == Catch::Approx(flops_of(whole)));
  }
}

TEST_CASE("which layers of a hybrid are full") {
  const Hybrid h{.first_full = 1, .last_full = 3, .full_from_step = 900};
  int full = 0;
  for (int layer = 0; layer < 32; ++layer) full += h.full(layer, 32) ? 1 : 0;
  CHECK(full == 4);
  CHECK(h.full(0, 32));
  CHECK(h.full(29, 32));
  CHECK_FALSE(h.full(28, 32));
  CHECK(h.full(28, 32, 900));
  CHECK_FALSE(h.full(28, 32, 899));
}

}  // namespace
}  // namespace tessera::models
