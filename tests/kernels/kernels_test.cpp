#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <utility>

#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/attention_paged/schedule.hpp"
#include "kernels/gemm/gemm.hpp"
#include "kernels/library/lower.hpp"
#include "tests/kernels/complete.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::addresses_for;
using tile::testing::ampere;
using tile::testing::check_operator;
using tile::testing::hopper;

TEST_CASE("GEMMs of random shapes store every output once and do every FLOP") {
  std::mt19937_64 random{1};
  const auto pick = [&](std::int64_t most) {
    return static_cast<std::int64_t>(1 + random() % static_cast<std::uint64_t>(most));
  };
  for (int i = 0; i < 60; ++i) {
    const models::Gemm g{pick(700), 8 * pick(90), 8 * pick(60)};
    check_operator(g, hopper(), g.m > 4);
    check_operator(g, ampere(), g.m > 4);
  }
}

constexpr std::pair<std::uint32_t, std::uint32_t> kClusters[] = {{1, 1}, {2, 1}, {1, 2}, {4, 1},
                                                                 {2, 2}, {4, 2}, {2, 4}};

TEST_CASE("a cluster of GEMM tiles loads what its rows and columns share once") {
  const models::Gemm g{512, 512, 256};
  for (const auto& [rows, cols] : kClusters) {
    const auto kernels = make_gemm(
        g, hopper(), addresses_for(g),
        {.tile_m = 64, .tile_n = 64, .tile_k = 64, .cluster = rows, .cluster_cols = cols, .stages = 2});
    const std::uint64_t a = 512 / 64 / cols, w = 512 / 64 / rows;  // how often each operand is loaded
    CHECK(kernels.front()->shape().cluster == rows * cols);
    CHECK(tile::testing::count(*kernels.front()).loaded == (a + w) * 512 * 256 * 2);
    CHECK(kernels.front()->outline().load_bytes == (a + w) * 512 * 256 * 2);
  }
}

TEST_CASE("every tiling of a GEMM is complete, clusters and split-K included") {
  const models::Gemm g{300, 520, 1096};
  const Addresses addresses = addresses_for(g);
  for (const std::uint32_t tile_m : {64U, 128U, 192U, 256U}) {
    for (const std::uint32_t tile_n : {16U, 64U, 176U, 256U}) {
      for (const auto& [rows, cols] : kClusters) {
        for (const std::uint32_t split : {1U, 3U}) {
          const auto kernels = make_gemm(g, hopper(), addresses,
                                         {.tile_m = tile_m,
                                          .tile_n = tile_n,
                                          .tile_k = 64,
                                          .cluster = rows,
                                          .cluster_cols = cols,
                                          .split_k = split,
                                          .stages = 2,
                                          .transposed = (tile_m + tile_n + split) % 2 == 0});
          const tile::testing::Counts c = tile::testing::count(*kernels.front());
          CHECK(c.stored == static_cast<std::uint64_t>(g.m * g.n) * (split > 1 ? 4 * split : 2));
          CHECK(c.tensor_flops >= models::flops_of(g));
        }
      }
    }
  }
}

TEST_CASE("attention of random shapes, masks, GQA ratios and shards is complete") {
  std::mt19937_64 random{2};
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
  };
  constexpr std::int64_t kHeadDims[] = {64, 96, 128, 192, 256};
  for (int i = 0; i < 60; ++i) {
    models::Attention a{.batch = pick(1, 2),
                        .q_rows = pick(1, 400),
                        .kv_heads = pick(1, 2),
                        .head_dim = kHeadDims[i % 5],
                        .causal = i % 2 == 0,
                        .partial = i % 3 == 0,
                        .flash_version = i % 4 == 3 ? 2 : 3};
    a.heads = a.kv_heads * pick(1, 4);
    a.kv_rows = a.q_rows + pick(0, 200);
    if (a.causal && i % 4 == 0) {  // a shard: some rows may see nothing
      tile::testing::place_apart(a);
    }
    check_operator(a, hopper(), true);
    check_operator(a, ampere(), true);
  }
}

TEST_CASE("decode attention is complete for any number of splits") {
  for (const std::int64_t context : {1, 127, 128, 129, 1000, 5000}) {
    for (const std::int64_t heads : {2, 8}) {
      for (const bool partial : {false, true}) {
        const models::AttentionDecode a{.batch = 2,
                                        .context = context,
                                        .heads = heads,
                                        .kv_heads = 2,
                                        .head_dim = 128,
                                        .partial = partial};
        check_operator(a, hopper(), true);
        check_operator(a, ampere(), true);
      }
    }
  }
  CHECK(choose_splits(200, 132, 64) == 1);
  CHECK(choose_splits(8, 132, 64) > 8);
  CHECK(choose_splits(1, 132, 3) <= 3);
}

TEST_CASE("attention through a paged cache stores every output once, for any split and packing") {
  for (const std::int64_t head_dim : {64, 96, 128, 192, 256}) {
    for (const std::int64_t group : {1, 3, 16, 96}) {
      for (const std::int64_t rows : {1, 50, 700}) {
        if (group * rows > 10'000) continue;
        models::Attention a{.batch = 2, .q_rows = rows, .kv_rows = rows + 70, .causal = true, .paged = true};
        a.heads = 2 * group, a.kv_heads = 2, a.head_dim = head_dim;
        check_operator(a, hopper(), true);
      }
      for (const std::int64_t context : {1, 80, 3000}) {
        models::AttentionDecode a{.batch = 3, .context = context, .paged = true};
        a.heads = 2 * group, a.kv_heads = 2, a.head_dim = head_dim;
        check_operator(a, hopper(), true);
      }
    }
  }
  const models::AttentionDecode a{.context = 64, .heads = 2, .kv_heads = 2, .head_dim = 128, .paged = true};
  CHECK_THROWS_AS(lower(a, ampere(), addresses_for(a)), std::invalid_argument);
}

TEST_CASE("a paged call is scheduled as FlashAttention-3 does") {
  const auto of = [](PagedCall call) { return schedule_of(call, 132); };
  // Few packed rows: one warpgroup. More: two, or three with heads of 64.
  CHECK(of({.new_rows = 1, .context = 100, .heads = 64, .kv_heads = 1, .head_dim = 128}).tile_q == 64);
  CHECK(of({.new_rows = 1, .context = 100, .heads = 96, .kv_heads = 1, .head_dim = 128}).tile_q == 128);
  CHECK(of({.new_rows = 99, .context = 99, .heads = 1, .kv_heads = 1, .head_dim = 64}).tile_q == 192);
  CHECK(of({.new_rows = 1, .context = 100, .heads = 8, .kv_heads = 1, .head_dim = 256}).tile_kv == 80);
  // Up to four key tiles are not split; the bound is for one sequence, the splits are for the batch.
  CHECK(of({.new_rows = 1, .context = 512, .heads = 8, .kv_heads = 1, .head_dim = 128}).most_splits == 1);
  const PagedSchedule one = of({.new_rows = 1, .context = 8192, .heads = 8, .kv_heads = 1, .head_dim = 128});
  CHECK((one.most_splits > 32 && one.splits == one.most_splits));
  const PagedSchedule many =
      of({.batch = 256, .new_rows = 1, .context = 8192, .heads = 8, .kv_heads = 1, .head_dim = 128});
  CHECK((many.most_splits == one.most_splits && many.splits == 1 && many.overlapped));
  CHECK(!of({.batch = 1024, .new_rows = 1, .context = 64, .heads = 8, .kv_heads = 1, .head_dim = 128})
             .overlapped);
}

TEST_CASE(
    "paged tiles are taken in sections of heads, split ones a head and split at a time, longest first") {
  std::uint64_t pieces = 0;
  std::uint32_t rises = 0;  // of the number of trips, from piece to piece: where a section begins
  const auto rounds_of = [&](const models::Attention& a) {
    std::uint64_t rounds = 0;
    for (const auto& kernel : lower(a, hopper(), addresses_for(a))) {
      if (kernel->shape().name.find("flash3 paged") == std::string::npos) continue;
      const tile::Outline o = kernel->outline();
      rounds = o.rounds;
      pieces = rises = 0;
      for (const tile::Pieces& p : o.pieces) pieces += p.count;
      for (std::size_t i = 1; i < o.pieces.size(); ++i) rises += o.pieces[i].trips > o.pieces[i - 1].trips;
    }
    return rounds;
  };
  models::Attention a{.batch = 2, .q_rows = 6144, .kv_rows = 6144, .causal = true, .paged = true};
  a.head_dim = 256;
  a.heads = a.kv_heads = 8;  // 77 key tiles of a head: one at a time leaves the other's in the L2
  CHECK(rounds_of(a) == 2 * 8);
  CHECK((pieces == 48 && rises == 0));
  a.q_rows = a.kv_rows = 1536;  // 20 key tiles: four heads at a time
  CHECK(rounds_of(a) == 2 * 2);
  CHECK((pieces == 4 * 12 && rises == 0));
  a.heads = a.kv_heads = 11;  // 4, 4 and 3
  CHECK(rounds_of(a) == 2);
  CHECK((pieces == 11 * 12 && rises == 2));
  a.q_rows = a.kv_rows = 6144, a.heads = a.kv_heads = 1;  // 96 tiles on 132 SMs: two splits
  CHECK(rounds_of(a) == 2);
  CHECK((pieces == 2 * 48 && rises == 1));
}

TEST_CASE("streaming kernels of random widths are complete") {
  std::mt19937_64 random{3};
  for (int i = 0; i < 40; ++i) {
    const auto rows = static_cast<std::int64_t>(1 + random() % 50),
               width = static_cast<std::int64_t>(8 * (1 + random() % 700));
    for (const models::Operator& op : std::vector<models::Operator>{
             models::Norm{rows, width}, models::Norm{rows, width, models::NormKind::layer, true},
             models::Activation{rows, width}, models::Activation{rows, width, models::ActivationKind::gelu},
             models::Softmax{rows, width}, models::Embedding{rows, width},
             models::Rope{rows, 4, 2, width / 8 * 2}, models::Merge{rows, 2, width, 1 + i % 4}}) {
      check_operator(op, hopper(), false);
    }
  }
  for (const std::int64_t bytes : {1, 1000, 4096, 10'000, 1'000'003})
    check_operator(models::Copy{bytes}, hopper(), false);
}

}  // namespace
}  // namespace tessera::kernels
