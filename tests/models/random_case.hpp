#pragma once
// Random models, workloads and shardings for tests of task graphs.

#include <initializer_list>
#include <random>
#include <string>

#include "models/dataflow/build.hpp"
#include "tests/models/random_sharding.hpp"

namespace tessera::models::testing {

inline Architecture small_model(std::size_t layers = 2) {
  Architecture m;
  m.name = "small";
  m.layers.assign(layers, {DenseShape{.heads = 4, .kv_heads = 2, .head_dim = 16}, MlpShape{.width = 128}});
  m.hidden = 64;
  m.vocab = 100;
  m.max_positions = 1 << 20;
  return m;
}

struct Case {
  Architecture model = small_model();
  Workload workload;
  Sharding sharding;
};
enum class Kinds { dense, all };
inline Case random_case(std::mt19937_64& random, int most_prompt, int most_steps,
                        Kinds kinds = Kinds::dense) {
  const auto pick = [&](int least, int most) {
    return std::uniform_int_distribution<int>{least, most}(random);
  };
  Case c;
  c.model.layers.clear();
  for (int layers = pick(1, 2); layers > 0; --layers) {  // no two need be alike
    const std::int64_t kv_heads = 1 << pick(0, 2);
    c.model.layers.push_back({DenseShape{.heads = kv_heads << pick(0, 2),
                                         .kv_heads = kv_heads,
                                         .head_dim = 8 * pick(1, 3),
                                         .window = 1000 * pick(0, 1),
                                         .rope = pick(0, 1) == 1,
                                         .qk_norm = pick(0, 1) == 1},
                              MlpShape{.width = 32 * pick(1, 4), .gated = pick(0, 1) == 1}});
  }
  for (Layer& l : c.model.layers) {
    const int kind = kinds == Kinds::all ? pick(0, 2) : 0;
    if (kind == 1) {
      l.attention = MlaShape{.heads = pick(1, 5),
                             .q_lora = 8 * pick(0, 2),
                             .kv_lora = 8 * pick(1, 4),
                             .nope = 8 * pick(1, 3),
                             .rope = 8 * pick(1, 3),
                             .v_dim = 8 * pick(1, 3),
                             .rotated = pick(0, 1) == 1};
    } else if (kind == 2) {
      l.attention = KdaShape{.heads = pick(1, 6),
                             .k_dim = 8 * pick(1, 2),
                             .v_dim = 8 * pick(1, 2),
                             .taps = pick(2, 4),
                             .decay_rank = 8 * pick(1, 2),
                             .gate_rank = 8 * pick(1, 2)};
    }
  }
  c.model.post_norm = pick(0, 1) == 1;
  c.model.causal = pick(0, 3) > 0;
  c.model.language_head = c.model.causal;
  c.workload = {.prefill_tokens = pick(1, most_prompt),
                .decode_steps = c.model.causal ? pick(0, most_steps) : 0,
                .batch = pick(1, 3)};
  const std::int64_t tokens = c.workload.prefill_tokens + c.workload.decode_steps;
  c.sharding = {random_partition(tokens, pick(1, 8), random), random_partition(tokens, pick(1, 4), random)};
  return c;
}

/// Of the buffers of a layer whose names begin with one of `names`.
inline std::int64_t bytes_named(const TaskGraph& g, std::int32_t layer, NodeKind kind,
                                std::initializer_list<const char*> names) {
  std::int64_t bytes = 0;
  for (const Buffer& b : g.buffers) {
    if (g.nodes[b.node].kind != kind) continue;
    for (const char* name : names) {
      if (b.name == std::string{name} + "." + std::to_string(layer)) bytes += b.bytes;
    }
  }
  return bytes;
}

}  // namespace tessera::models::testing
