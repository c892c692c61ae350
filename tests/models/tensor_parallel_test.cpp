// Tensor parallelism in task graphs.

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <stdexcept>

#include "models/dataflow/build.hpp"
#include "tests/models/random_case.hpp"
#include "tests/models/task_graphs.hpp"

namespace tessera::models {
namespace {

using namespace testing;
using Catch::Approx;

/// Of 8 heads, widths that 4 divides, and each kind of layer.
Architecture divisible() {
  Architecture m = small_model(0);
  m.vocab = 1000;
  m.layers = {{DenseShape{.heads = 8, .kv_heads = 2, .head_dim = 16}, MlpShape{.width = 128}},
              {MlaShape{.heads = 8, .kv_lora = 32, .nope = 16, .rope = 8, .v_dim = 16},
               MoeShape{.experts = 8, .topk = 2, .width = 64, .shared = 1}},
              {KdaShape{.heads = 8, .k_dim = 16, .v_dim = 16, .taps = 4, .decay_rank = 8, .gate_rank = 8},
               MlpShape{.width = 128}}};
  return m;
}

std::int64_t named(const TaskGraph& g, const std::string& name) {
  std::int64_t bytes = 0;
  for (const Buffer& b : g.buffers) bytes += b.name == name ? b.bytes : 0;
  return bytes;
}

TEST_CASE("tensor parallelism divides FLOPs, heads' caches and weights, and copies latents") {
  const Architecture m = divisible();
  for (const std::uint32_t gpus : {2U, 4U}) {
    for (const std::int64_t cached : {0, 5, 16}) {
      const Workload w{.prefill_tokens = 16, .cached_tokens = cached, .decode_steps = 3, .batch = 2};
      const TaskGraph one = build_single(m, w), many = build_tensor_parallel(m, gpus, w);
      INFO(gpus << " GPUs, " << cached << " cached");
      REQUIRE(many.nodes.size() == gpus);
      CHECK(totals_of(many).attention_flops == Approx(totals_of(one).attention_flops).epsilon(1e-12));
      require_operands_fit(many);
      for (const char* divided :
           {"o.0", "o.1", "o.2", "up.0", "latent up.1", "state.2", "convolution state.2"}) {
        INFO(divided);
        CHECK(named(one, divided) > 0);
        CHECK(named(many, divided) == named(one, divided));
      }
      CHECK(named(many, "latent cache.1") == gpus * named(one, "latent cache.1"));
      // Two key heads: with four GPUs each is there twice.
      CHECK(named(many, "k, v cache.0") == (gpus == 4 ? 2 : 1) * named(one, "k, v cache.0"));
    }
  }
}

TEST_CASE("all-reduces send what their forms send, two a layer and one after the embedding") {
  Architecture m = divisible();
  for (const std::int64_t hidden : {64, 4096}) {
    m.hidden = hidden;
    const Workload w{.prefill_tokens = 64};
    const std::int64_t gpus = 4, bytes = 64 * hidden * 2;
    const Totals t = totals_of(build_tensor_parallel(m, 4, w));
    // Up to 256 KiB everyone gets everything; beyond, a share of it, and the sums of the others' shares.
    const std::int64_t each = bytes <= 256 * 1024 ? gpus * (gpus - 1) * bytes : 2 * (gpus - 1) * bytes;
    CHECK(t.sent.at(Stage::reduce) == (1 + 2 * m.layer_count()) * each);
  }
}

TEST_CASE("what tensor parallelism cannot divide is refused") {
  const Architecture m = divisible();
  const Workload w{.prefill_tokens = 8};
  CHECK_THROWS_AS(build_tensor_parallel(m, 3, w), std::invalid_argument);
  CHECK_THROWS_AS(build_tensor_parallel(m, 1, w), std::invalid_argument);
  Workload spread = w;
  spread.experts = ExpertPlacement::spread;
  CHECK_THROWS_AS(build_tensor_parallel(m, 4, spread), std::invalid_argument);
  Architecture post = m;
  post.post_norm = true;
  CHECK_THROWS_AS(build_tensor_parallel(post, 4, w), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models
