// NSA and DSA against the dense forms that they become when everything is taken.

#include "models/reference/token_sparse.hpp"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "models/operators/operator.hpp"
#include "tests/models/random_values.hpp"

namespace tessera::models {
namespace {

using namespace reference;
using testing::largest_difference;
using testing::random_rows;
using testing::random_values;

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

struct NativeCase {
  HeadShape shape;
  std::int64_t rows = 0;
  Rows q, k, v;
};
NativeCase native_case(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  NativeCase c;
  const std::int64_t kv_heads = pick(1, 2);
  c.shape = {kv_heads * pick(1, 3), kv_heads, pick(1, 6)};
  c.rows = pick(1, 40);
  c.q = random_rows(c.rows, c.shape.q_width(), random);
  c.k = random_rows(c.rows, c.shape.kv_width(), random);
  c.v = random_rows(c.rows, c.shape.kv_width(), random);
  return c;
}

/// Gates that are `value` for one branch and 0 for the others.
std::vector<double> only(const NativeCase& c, std::int64_t branch) {
  std::vector<double> gates(z(c.rows * c.shape.heads * 3));
  for (std::size_t i = z(branch); i < gates.size(); i += 3) gates[i] = 1;
  return gates;
}

TEST_CASE("each branch of NSA is dense attention if it leaves nothing out") {
  std::mt19937_64 random{1};
  for (int i = 0; i < 30; ++i) {
    const NativeCase c = native_case(random);
    const std::vector<double> dense = attention(c.shape, c.q, c.k, c.v, true);
    const NativeSparseRule all{
        .compressed = 1, .stride = 1, .block = 4, .selected = c.rows, .window = c.rows};
    for (std::int64_t branch = 0; branch < 3; ++branch)
      CHECK(largest_difference(native_sparse(c.shape, all, c.q, c.k, c.v, only(c, branch)), dense) < 1e-12);
    // Gates weigh: any that sum to one.
    std::vector<double> gates = random_values(c.rows * c.shape.heads * 3, random);
    for (std::size_t g = 0; g < gates.size(); g += 3) gates[g + 2] = 1 - gates[g] - gates[g + 1];
    CHECK(largest_difference(native_sparse(c.shape, all, c.q, c.k, c.v, gates), dense) < 1e-11);
  }
}

TEST_CASE("what NSA's branches leave out") {
  std::mt19937_64 random{2};
  for (int i = 0; i < 20; ++i) {
    const NativeCase c = native_case(random);
    const NativeSparseRule rule{.compressed = 4, .stride = 2, .block = 4, .selected = 3, .window = 5};
    const Rows short_k = compress(rule, c.k, c.shape.kv_width());
    REQUIRE(static_cast<std::int64_t>(short_k.positions.size()) == (c.rows < 4 ? 0 : (c.rows - 4) / 2 + 1));
    const auto lists = selected_blocks(c.shape, rule, c.q, short_k);
    for (std::int64_t r = 0; r < c.rows; ++r) {
      for (std::int64_t g = 0; g < c.shape.kv_heads; ++g) {
        const auto& list = lists[z(r * c.shape.kv_heads + g)];
        const auto own = static_cast<std::int32_t>(r / 4);
        REQUIRE(list.size() == z(std::min<std::int64_t>(3, own + 1)));
        REQUIRE(list.front() == 0);  // the first block, the own one, the one before
        REQUIRE(list.back() == own);
        if (own > 0) REQUIRE(std::find(list.begin(), list.end(), own - 1) != list.end());
        REQUIRE(std::adjacent_find(list.begin(), list.end()) == list.end());
      }
    }
    // The window is dense attention with the keys outside it taken away.
    const std::vector<double> window = native_sparse(c.shape, rule, c.q, c.k, c.v, only(c, 2));
    for (std::int64_t r = 0; r < c.rows; ++r) {
      const std::int64_t from = std::max<std::int64_t>(0, r - 4), kv = c.shape.kv_width(),
                         q = c.shape.q_width();
      const auto cut = [&](const Rows& all, std::int64_t first, std::int64_t last, std::int64_t width) {
        return Rows{{all.positions.begin() + first, all.positions.begin() + last},
                    {all.values.begin() + first * width, all.values.begin() + last * width}};
      };
      const std::vector<double> one = attention(c.shape, cut(c.q, r, r + 1, q), cut(c.k, from, r + 1, kv),
                                                cut(c.v, from, r + 1, kv), true);
      CHECK(largest_difference({window.begin() + r * q, window.begin() + (r + 1) * q}, one) < 1e-12);
    }
  }
}

TEST_CASE("NSA takes the block that the compressed keys point at") {
  // One head; the query matches the keys of block 2 of 6 and no others.
  const NativeSparseRule rule{
      .compressed = 2, .stride = 2, .block = 4, .selected = 4, .first = 1, .local = 2};
  Rows q, k;
  for (std::int32_t r = 0; r < 24; ++r) {
    q.positions.push_back(r);
    k.positions.push_back(r);
    q.values.push_back(3);
    k.values.push_back(r / 4 == 2 ? 2 : -1);
  }
  const auto lists = selected_blocks({1, 1, 1}, rule, q, compress(rule, k, 1));
  CHECK(lists[23] == std::vector<std::int32_t>{0, 2, 4, 5});
}

struct LatentCase {
  LatentShape shape;
  LatentWeights weights;
  Rows queries, cache;
  Indexer indexer;
  std::vector<double> index_q, index_weights, index_k;
};
LatentCase latent_case(std::mt19937_64& random) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  LatentCase c;
  c.shape = {pick(1, 4), pick(1, 8), pick(1, 5), pick(1, 4), pick(1, 5)};
  const LatentShape& s = c.shape;
  const std::int64_t rows = pick(1, 30);
  c.weights = {random_values(s.heads * s.nope * s.latent, random),
               random_values(s.heads * s.value * s.latent, random)};
  c.queries = random_rows(rows, s.query_width(), random);
  c.cache = random_rows(rows, s.cache_width(), random);
  c.indexer = {pick(1, 3), pick(1, 4), pick(1, 12)};
  c.index_q = random_values(rows * c.indexer.heads * c.indexer.dim, random);
  c.index_weights = random_values(rows * c.indexer.heads, random);
  c.index_k = random_values(rows * c.indexer.dim, random);
  return c;
}

TEST_CASE("DSA that takes as many rows as there are is dense latent attention") {
  std::mt19937_64 random{3};
  for (int i = 0; i < 40; ++i) {
    LatentCase c = latent_case(random);
    const auto rows = static_cast<std::int64_t>(c.queries.positions.size());
    c.indexer.selected = rows + i % 2;
    const auto lists = indexed_rows(c.indexer, rows, c.index_q, c.index_weights, c.index_k);
    const std::vector<double> sparse =
        indexed_latent_attention(c.shape, c.weights, c.queries, c.cache, lists);
    CHECK(largest_difference(
              sparse, naive_latent_attention(c.shape, c.weights, c.queries, c.cache, true).out) < 1e-11);
  }
}

TEST_CASE("DSA takes past rows only, the greatest first, and leaves the others out") {
  std::mt19937_64 random{4};
  for (int i = 0; i < 30; ++i) {
    const LatentCase c = latent_case(random);
    const auto rows = static_cast<std::int64_t>(c.queries.positions.size());
    const auto lists = indexed_rows(c.indexer, rows, c.index_q, c.index_weights, c.index_k);
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto& list = lists[z(r)];
      REQUIRE(list.size() == z(std::min(c.indexer.selected, r + 1)));
      REQUIRE(list.back() <= r);
      double least = std::numeric_limits<double>::infinity(), most_left = -least;
      for (std::int64_t at = 0; at <= r; ++at) {
        double score = 0;
        for (std::int64_t h = 0; h < c.indexer.heads; ++h) {
          double dot = 0;
          for (std::int64_t d = 0; d < c.indexer.dim; ++d)
            dot += c.index_q[z((r * c.indexer.heads + h) * c.indexer.dim + d)] *
                   c.index_k[z(at * c.indexer.dim + d)];
          score += c.index_weights[z(r * c.indexer.heads + h)] * std::max(0.0, dot);
        }
        if (std::binary_search(list.begin(), list.end(), static_cast<std::int32_t>(at)))
          least = std::min(least, score);
        else
          most_left = std::max(most_left, score);
      }
      CHECK(least >= most_left);
    }
    // Equal to the naive form over a cache of the listed rows alone.
    const std::vector<double> sparse =
        indexed_latent_attention(c.shape, c.weights, c.queries, c.cache, lists);
    const std::int64_t last = rows - 1, width = c.shape.cache_width(), q = c.shape.query_width();
    Rows listed, query{{static_cast<std::int32_t>(last)},
                       {c.queries.values.begin() + last * q, c.queries.values.end()}};
    for (const std::int32_t at : lists[z(last)]) {
      listed.positions.push_back(at);
      listed.values.insert(listed.values.end(), c.cache.values.begin() + at * width,
                           c.cache.values.begin() + (at + 1) * width);
    }
    const std::vector<double> naive = naive_latent_attention(c.shape, c.weights, query, listed, true).out;
    CHECK(largest_difference({sparse.end() - static_cast<std::ptrdiff_t>(naive.size()), sparse.end()},
                             naive) < 1e-11);
  }
}

TEST_CASE("FLOPs of NSA and DSA by hand; impossible shapes") {
  // 64K rows: the last row sees 4095 compressed keys, 16 blocks and 512 rows.
  const NativeSparse nsa{.seq = 65536, .heads = 64, .kv_heads = 4, .head_dim = 128};
  CHECK(nsa.compressed_keys() == 4095);
  CHECK(nsa.selected_seen(65535) == 16 * 64);
  CHECK(nsa.selected_seen(70) == 64 + 7);
  const NativeSparse tiny{.seq = 3,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_dim = 8,
                          .compressed = 2,
                          .stride = 1,
                          .block = 2,
                          .selected = 1,
                          .window = 2};
  // Compressed 0 + 1 + 2, selected 1 + 2 + 1, window 1 + 2 + 2 pairs; two means of two rows.
  CHECK(flops_of(tiny) == Catch::Approx(4 * 8 * 2 * (3 + 4 + 5) + 2 * 2 * 2 * 8));
  const IndexedLatent dsa{.context = 10,
                          .q_rows = 2,
                          .heads = 3,
                          .index_heads = 4,
                          .index_dim = 5,
                          .selected = 6,
                          .latent = 7,
                          .rope = 2};
  CHECK(flops_of(dsa) == Catch::Approx(2 * (9 + 10) * 4 * 5 + 2 * 12 * 3 * 16));
  CHECK(kind_of(dsa) == "dsa_prefill");
  CHECK(kind_of(IndexedLatent{.context = 10, .heads = 1}) == "dsa_decode");
  CHECK_NOTHROW(check(dsa));
  NativeSparse odd = tiny;
  odd.block = 3;
  odd.stride = 2;
  CHECK_THROWS_AS(check(odd), std::invalid_argument);
  IndexedLatent beyond = dsa;
  beyond.q_rows = 11;
  CHECK_THROWS_AS(check(beyond), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models
