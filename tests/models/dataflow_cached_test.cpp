// Prompts that are cached already, in part or whole: what is not done again, and what is there all the same.

#include <algorithm>
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

Case cached_case(std::mt19937_64& random, int most_steps) {
  Case c = random_case(random, 24, most_steps, Kinds::all);
  c.model.causal = c.model.language_head = true;
  const std::int64_t prompt = c.workload.prefill_tokens;
  c.workload.cached_tokens = std::uniform_int_distribution<std::int64_t>{0, prompt}(random);
  if (c.workload.new_tokens() == 0 && c.workload.decode_steps == 0) c.workload.cached_tokens = prompt - 1;
  return c;
}

TEST_CASE("of a prompt cached in part, shards attend to what the whole attends to, and operands fit") {
  std::mt19937_64 random{97};
  for (int i = 0; i < 150; ++i) {
    Case c = cached_case(random, 3);
    INFO("case " << i << ": " << c.workload.cached_tokens << " of " << c.workload.prefill_tokens << " + "
                 << c.workload.decode_steps);
    const TaskGraph sharded = build_cascade(c.model, c.sharding, c.workload),
                    single = build_single(c.model, c.workload);
    const double flops = totals_of(single).attention_flops;
    CHECK(totals_of(sharded).attention_flops == Approx(flops).epsilon(1e-12));
    require_operands_fit(sharded);
    require_operands_fit(single);
    // With the tokens that were cached by an earlier prompt, all of it is done once.
    if (c.workload.cached_tokens > 0) {
      Workload before = c.workload, all = c.workload;
      before.prefill_tokens = c.workload.cached_tokens;
      before.cached_tokens = before.decode_steps = all.cached_tokens = 0;
      CHECK(totals_of(build_single(c.model, all)).attention_flops ==
            Approx(flops + totals_of(build_single(c.model, before)).attention_flops).epsilon(1e-12));
    }
  }
}

TEST_CASE(
    "of a prompt that is cached, decoding is what it is after a prefill, and memory holds the same caches") {
  std::mt19937_64 random{101};
  for (int i = 0; i < 60; ++i) {
    Case c = cached_case(random, 3);
    c.workload.cached_tokens = 0;
    c.workload.latents = i % 3 == 0 ? LatentPolicy::fetch : LatentPolicy::route;
    if (c.workload.decode_steps == 0) continue;
    Workload cached = c.workload;
    cached.cached_tokens = cached.prefill_tokens;
    INFO("case " << i);
    for (const bool over_nodes : {false, true}) {
      const auto build = [&](const Workload& w) {
        return over_nodes ? build_cascade(c.model, c.sharding, w) : build_single(c.model, w);
      };
      const TaskGraph warm = build(cached), whole = build(c.workload);
      std::vector<const Task*> steps;
      for (const Task& t : whole.tasks) {
        // The token that the prefill sampled has no way to go.
        if (t.step >= 0 && !(t.step == 0 && t.layer < 0 && transfer_of(t) != nullptr)) steps.push_back(&t);
      }
      REQUIRE(warm.tasks.size() == steps.size());
      for (std::size_t t = 0; t < steps.size(); ++t) {
        const Task &a = warm.tasks[t], &b = *steps[t];
        REQUIRE(a.node == b.node);
        REQUIRE(a.layer == b.layer);
        REQUIRE(a.step == b.step);
        REQUIRE(a.work.index() == b.work.index());
        if (const Transfer* message = transfer_of(a))
          REQUIRE(message->bytes == transfer_of(b)->bytes);
        else
          REQUIRE(signature_of(std::get<Compute>(a.work).op) == signature_of(std::get<Compute>(b.work).op));
      }
      for (std::int32_t l = 0; l < c.model.layer_count(); ++l) {
        const auto kept = {"k, v cache", "latent cache", "state", "convolution state"};
        for (const NodeKind kind : {NodeKind::comp, NodeKind::attn})
          REQUIRE(bytes_named(warm, l, kind, kept) == bytes_named(whole, l, kind, kept));
      }
    }
  }
}

TEST_CASE("what cannot be cached is refused") {
  const Architecture m = small_model();
  const auto refused = [&](const Workload& w) {
    CHECK_THROWS_AS(build_single(m, w), std::invalid_argument);
    const std::int64_t tokens = w.prefill_tokens + w.decode_steps;
    CHECK_THROWS_AS(build_cascade(m, {contiguous(tokens, 2), contiguous(tokens, 2)}, w),
                    std::invalid_argument);
  };
  refused({.prefill_tokens = 8, .cached_tokens = 9, .decode_steps = 1});
  refused({.prefill_tokens = 8, .cached_tokens = -1});
  refused({.prefill_tokens = 8, .cached_tokens = 8});  // and nothing to decode
  Architecture encoder = m;
  encoder.causal = false;
  CHECK_THROWS_AS(build_single(encoder, {.prefill_tokens = 8, .cached_tokens = 4}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera::models
