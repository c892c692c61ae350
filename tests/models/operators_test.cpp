#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <random>
#include <stdexcept>

#include "models/operators/operator.hpp"
#include "tests/models/random_sharding.hpp"

namespace tessera::models {
namespace {

TEST_CASE("FLOPs and bytes of a GEMM") {
  const Gemm g{3, 5, 7};
  CHECK(flops_of(g) == 2 * 3 * 5 * 7);
  CHECK(min_bytes_of(g) == 2 * (3 * 7 + 5 * 7 + 3 * 5));
}

TEST_CASE("causal attention counts visible pairs") {
  Attention a{.q_rows = 4, .kv_rows = 4, .heads = 2, .kv_heads = 1, .head_dim = 8, .causal = true};
  CHECK(a.visible_pairs() == 10);
  CHECK(flops_of(a) == 4.0 * 2 * 8 * 10);
  a.kv_rows = 6;  // the q rows are the last four of six
  CHECK(a.visible(0) == 3);
  CHECK(a.visible_pairs() == 3 + 4 + 5 + 6);
  a.causal = false;
  CHECK(a.visible_pairs() == 24);
}

TEST_CASE("shards see together exactly what the whole sees") {
  std::mt19937_64 random{11};
  for (int i = 0; i < 200; ++i) {
    const std::int64_t tokens = 1 + i % 50;
    const Partition s = testing::random_partition(tokens, 1 + i % 4, random);
    std::int64_t pairs = 0;
    for (const auto& rows : s.sets) {
      for (const auto& columns : s.sets) {
        const Attention a{.q_rows = static_cast<std::int64_t>(rows.size()),
                          .kv_rows = static_cast<std::int64_t>(columns.size()),
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 1,
                          .causal = true,
                          .q_positions = std::make_shared<const std::vector<std::int32_t>>(rows),
                          .kv_positions = std::make_shared<const std::vector<std::int32_t>>(columns)};
        pairs += a.visible_pairs();
      }
    }
    CHECK(pairs == tokens * (tokens + 1) / 2);
  }
}

TEST_CASE("signatures tell operators apart, and positions by content") {
  const auto at = [](std::vector<std::int32_t> p) {
    return std::make_shared<const std::vector<std::int32_t>>(std::move(p));
  };
  Attention a{.q_rows = 2,
              .kv_rows = 2,
              .heads = 1,
              .kv_heads = 1,
              .head_dim = 8,
              .causal = true,
              .q_positions = at({0, 5}),
              .kv_positions = at({0, 5})};
  Attention b = a;
  b.q_positions = at({0, 5});
  CHECK(signature_of(a) == signature_of(b));
  b.q_positions = at({0, 6});
  CHECK(signature_of(a) != signature_of(b));
  CHECK(signature_of(Gemm{1, 2, 3}) != signature_of(Gemm{1, 3, 2}));
}

TEST_CASE("impossible shapes are refused by name") {
  CHECK_THROWS_AS(check(Gemm{0, 1, 1}), std::invalid_argument);
  CHECK_THROWS_AS(check(Attention{.q_rows = 1, .kv_rows = 1, .heads = 0, .kv_heads = 1, .head_dim = 8}),
                  std::invalid_argument);
  CHECK_THROWS_AS(check(Attention{.q_rows = 1, .kv_rows = 1, .heads = 3, .kv_heads = 2, .head_dim = 8}),
                  std::invalid_argument);
  CHECK_THROWS_AS(check(AttentionDecode{.context = 0, .heads = 1, .kv_heads = 1, .head_dim = 8}),
                  std::invalid_argument);
  CHECK_NOTHROW(check(Norm{1, 8}));
  Attention paged{.q_rows = 4, .kv_rows = 4, .causal = true, .paged = true};
  paged.heads = 2, paged.kv_heads = 1, paged.head_dim = 8;
  CHECK_NOTHROW(check(paged));
  CHECK(operands_of(paged).size() == 7);
  paged.flash_version = 2;
  CHECK_THROWS_AS(check(paged), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models
