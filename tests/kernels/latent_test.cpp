// The kernels of latent attention: completeness of every form, the schedule, outlines against whole kernels.

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>

#include "kernels/attention_paged/schedule.hpp"
#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/latent/latent_flash.hpp"
#include "kernels/latent/triton_decode.hpp"
#include "tests/kernels/complete.hpp"

namespace tessera::kernels {
namespace {

using tile::testing::addresses_for;
using tile::testing::ampere;
using tile::testing::check_operator;
using tile::testing::hopper;

TEST_CASE("absorbed latent attention stores every output once, for any heads, rows and splits") {
  for (const std::int64_t heads : {1, 3, 16, 64, 128}) {
    for (const std::int64_t context : {1, 64, 65, 700, 5000}) {
      for (const bool paged : {false, true}) {
        check_operator(models::LatentDecode{.batch = 2, .context = context, .heads = heads, .paged = paged},
                       hopper(), true);
      }
      check_operator(models::LatentDecode{.batch = 3, .context = context, .heads = heads, .partial = true},
                     hopper(), true);
    }
    for (const std::int64_t rows : {2, 33, 150}) {
      models::LatentDecode a{.batch = 2, .context = rows + 70, .heads = heads, .q_rows = rows, .paged = true};
      check_operator(a, hopper(), true);
      a.paged = false, a.partial = a.causal = rows == 33;
      check_operator(a, hopper(), true);
    }
  }
  for (const std::int64_t latent : {128, 256, 384})
    check_operator(models::LatentDecode{.context = 300, .heads = 9, .latent = latent, .rope = 32}, hopper(),
                   true);
}

TEST_CASE("Triton's latent decode stores every output once, for any heads and splits") {
  for (const std::int64_t heads : {1, 3, 16, 17, 64, 128}) {
    for (const std::int64_t context : {1, 31, 64, 65, 700, 5000, 40'000}) {
      if (context > 5000 && heads > 3) continue;
      for (const bool paged : {false, true}) {
        check_operator(models::LatentDecode{.batch = 2, .context = context, .heads = heads, .paged = paged},
                       ampere(), true);
      }
      check_operator(models::LatentDecode{.batch = 3, .context = context, .heads = heads, .partial = true},
                     ampere(), true);
    }
  }
  for (const std::int64_t latent : {128, 256, 384})
    check_operator(models::LatentDecode{.context = 300, .heads = 9, .latent = latent, .rope = 32}, ampere(),
                   true);
  // On request, on Hopper.
  check_operator(
      models::LatentDecode{.context = 3000, .heads = 20, .algorithm = models::LatentAlgorithm::triton},
      hopper(), true);
}

TEST_CASE("Triton's splits are vLLM's: a power of two, of 512 rows at least, two CTAs an SM at most") {
  CHECK(triton_splits(1, 108) == 1);
  CHECK(triton_splits(1023, 108) == 1);
  CHECK(triton_splits(1024, 108) == 2);
  CHECK(triton_splits(4607, 188) == 8);
  CHECK(triton_splits(4608, 188) == 16);
  CHECK(triton_splits(32'768, 108) == 64);
  CHECK(triton_splits(1'000'000, 108) == 216);
  // Rows over splits, rounded up: the last ones may have none.
  const TritonLatentCall call{.context = 1025, .splits = 216};
  CHECK(call.keys_per_split() == 5);
  CHECK(call.used_splits() == 205);
}

TEST_CASE("the outlines of Triton's latent decode tell what its programs load and store") {
  for (const models::LatentDecode& a :
       {models::LatentDecode{.batch = 3, .context = 3000, .heads = 16},
        models::LatentDecode{.batch = 2, .context = 20'001, .heads = 24, .paged = true},
        models::LatentDecode{.batch = 40, .context = 130, .heads = 64, .partial = true}}) {
    INFO(models::signature_of(a));
    for (const auto& kernel : lower(a, ampere(), addresses_for(a))) {
      if (kernel->shape().name.find("triton") == std::string::npos) continue;
      INFO(kernel->shape().name);
      const tile::Outline o = kernel->outline();
      const tile::testing::Counts c = tile::testing::count(*kernel);
      CHECK(o.store_bytes == c.stored);
      CHECK(c.loaded >= o.load_bytes);  // lengths and page numbers are not in the outline
      CHECK(static_cast<double>(c.loaded) <
            1.001 * static_cast<double>(o.load_bytes) + 4.0 * kernel->shape().grid);
      std::uint64_t pieces = 0;
      for (const tile::Pieces& p : o.pieces) pieces += p.count;
      CHECK(pieces == kernel->shape().grid);
    }
  }
}

TEST_CASE("FlashAttention-2's tiles are those of its launch template") {
  const auto of = [](std::int64_t head_dim, const GpuSpec& gpu) {
    const models::Attention a{.q_rows = 256,
                              .kv_rows = 256,
                              .heads = 1,
                              .kv_heads = 1,
                              .head_dim = head_dim,
                              .causal = true,
                              .flash_version = 2};
    const auto kernels = lower(a, gpu, addresses_for(a));
    const tile::LaunchShape& s = kernels.at(0)->shape();
    return std::pair{s.name, s.threads() / 32};
  };
  for (const GpuSpec& gpu : {ampere(), hopper()}) {
    CHECK(of(64, gpu) == std::pair{std::string{"flash2 128x128 d64 causal"}, 4U});
    CHECK(of(128, gpu) == std::pair{std::string{"flash2 128x64 d128 causal"}, 4U});
    CHECK(of(192, gpu) == std::pair{std::string{"flash2 128x64 d192 causal"}, 8U});
  }
  CHECK(of(256, ampere()) == std::pair{std::string{"flash2 128x64 d256 causal"}, 8U});
  CHECK(of(256, hopper()) == std::pair{std::string{"flash2 64x64 d256 causal"}, 4U});
}

TEST_CASE("FlashAttention-2 takes latent attention's values padded to the keys' width") {
  models::LatentAttention a{.q_rows = 300, .kv_rows = 300, .heads = 2, .causal = true};
  const auto names = [&](const GpuSpec& gpu) {
    std::vector<std::string> all;
    for (const auto& kernel : lower(a, gpu, addresses_for(a))) all.push_back(kernel->shape().name);
    return all;
  };
  CHECK(names(ampere()) == std::vector<std::string>{"pad values: zeros", "pad values: copy",
                                                    "flash2 128x64 d192 causal", "cut result"});
  CHECK(names(hopper()).size() == 1);
  a.algorithm = models::LatentAlgorithm::flash2;
  CHECK(names(hopper()) == names(ampere()));
  a.value = 192;
  CHECK(names(ampere()).size() == 1);
}

TEST_CASE("naive latent attention is complete, in shards too") {
  for (const GpuSpec& gpu : {hopper(), ampere()}) {
    std::mt19937_64 random{6};
    const auto pick = [&](std::int64_t least, std::int64_t most) {
      return least + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most - least + 1));
    };
    for (int i = 0; i < 24; ++i) {
      models::LatentAttention a{.batch = pick(1, 2),
                                .q_rows = pick(1, 300),
                                .heads = pick(1, 4),
                                .causal = i % 2 == 0,
                                .partial = i % 3 == 0};
      if (i % 5 == 4) a.nope = 64, a.rope = 32, a.value = 64;
      a.kv_rows = a.q_rows + pick(0, 200);
      if (a.causal && i % 4 == 0) {  // a shard: some rows may see nothing
        tile::testing::place_apart(a);
        // Keys that no row sees are not loaded.
        std::uint64_t loaded = 0;
        for (const auto& kernel : lower(a, gpu, addresses_for(a)))
          loaded += tile::testing::count(*kernel).loaded;
        CHECK(loaded > 0);
        continue;
      }
      a.causal = false;
      check_operator(a, gpu, true);
      a.causal = true;
      double flops = 0;
      for (const auto& kernel : lower(a, gpu, addresses_for(a)))
        flops += tile::testing::count(*kernel).tensor_flops;
      CHECK(flops >= models::flops_of(a));
    }
  }
}

TEST_CASE("batched products are complete") {
  for (const std::int64_t m : {1, 5, 64, 300}) {
    check_operator(models::BatchedGemm{.batches = 16, .m = m, .n = 512, .k = 128}, hopper(), true);
    check_operator(models::BatchedGemm{.batches = 3, .m = m, .n = 128, .k = 512}, ampere(), true);
  }
  const models::BatchedGemm a{.batches = 128, .m = 128, .n = 512, .k = 128};
  const auto kernels = lower(a, hopper(), addresses_for(a));
  REQUIRE(kernels.size() == 1);
  const tile::Outline o = kernels[0]->outline();
  std::uint64_t pieces = 0;
  for (const tile::Pieces& p : o.pieces) pieces += p.count;
  CHECK(pieces * o.rounds * kernels[0]->shape().cluster >= 128);
}

TEST_CASE("latent attention is scheduled as FlashAttention-3 does") {
  const auto of = [](PagedCall call) {
    call.kv_heads = 1, call.head_dim = 512;
    return latent_schedule_of(call, 132);
  };
  const PagedSchedule one = of({.new_rows = 1, .context = 8192, .heads = 16, .causal = false});
  CHECK((one.tile_q == 64 && one.tile_kv == 64 && one.query_tiles == 1));
  CHECK((one.most_splits > 32 && one.splits > 32));
  CHECK(of({.new_rows = 1, .context = 256, .heads = 16, .causal = false}).most_splits == 1);
  CHECK(of({.new_rows = 1, .context = 8192, .heads = 128, .causal = false}).query_tiles == 2);
  CHECK(of({.batch = 256, .new_rows = 1, .context = 8192, .heads = 16, .causal = false}).splits == 1);
  // Enough rows of one sequence fill the SMs.
  CHECK(of({.new_rows = 4096, .context = 4096, .heads = 16}).most_splits == 1);
}

TEST_CASE("the outline of latent attention tells what its programs load and store") {
  for (const models::LatentDecode& a :
       {models::LatentDecode{.batch = 3, .context = 3000, .heads = 16},
        models::LatentDecode{.batch = 2, .context = 200, .heads = 24, .q_rows = 40},
        models::LatentDecode{.batch = 300, .context = 130, .heads = 64}}) {
    INFO(models::signature_of(a));
    for (const auto& kernel : lower(a, hopper(), addresses_for(a))) {
      if (kernel->shape().name.find("latent") == std::string::npos) continue;
      const tile::Outline o = kernel->outline();
      const tile::testing::Counts c = tile::testing::count(*kernel);
      CHECK(o.store_bytes == c.stored);
      // Tables and schedules are not in the outline.
      CHECK(c.loaded >= o.load_bytes);
      CHECK(static_cast<double>(c.loaded) < 1.05 * static_cast<double>(o.load_bytes) + 400'000);
    }
  }
}

TEST_CASE("latent attention says what it cannot do") {
  const models::LatentDecode a{.context = 64, .heads = 2};
  const auto refuses = [](const models::Operator& op, const GpuSpec& gpu, const char* why) {
    CHECK_THROWS_WITH(lower(op, gpu, addresses_for(op)), Catch::Matchers::ContainsSubstring(why));
  };
  models::LatentDecode b = a;
  b.algorithm = models::LatentAlgorithm::flash3;
  refuses(b, ampere(), "needs a Hopper GPU");
  refuses(
      models::LatentAttention{
          .q_rows = 4, .kv_rows = 4, .heads = 1, .algorithm = models::LatentAlgorithm::flash3},
      ampere(), "needs a Hopper GPU");
  // Absorbed, several rows a sequence: nothing on Ampere does that.
  b = a, b.q_rows = 2;
  refuses(b, ampere(), "one query row a sequence, not 2");
  b.algorithm = models::LatentAlgorithm::triton;
  refuses(b, hopper(), "one query row a sequence, not 2");
  b = a;
  b.latent = 500;
  CHECK_THROWS_AS(lower(b, hopper(), addresses_for(b)), std::invalid_argument);
  b = a, b.dtype = models::Dtype::fp8;
  CHECK_THROWS_AS(lower(b, hopper(), addresses_for(b)), std::invalid_argument);
  const models::LatentAttention c{.q_rows = 4, .kv_rows = 4, .heads = 1, .nope = 256};
  CHECK_THROWS_AS(lower(c, hopper(), addresses_for(c)), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::kernels
