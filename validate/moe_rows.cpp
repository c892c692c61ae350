#include "validate/moe_rows.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace tessera::validate {

namespace {

// collector/vllm/collect_moe.py: balanced loads, one call to a graph; skewed ones, a graph of calls with
// other draws, replayed once.
constexpr std::uint32_t kWarmUps = 3, kReplays = 6;
constexpr std::uint32_t kSkewedWarmUps = 1, kSkewedReplays = 1, kDraws = 5;

/// Nemotron-H's experts have no gate: nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B and -Super, config.json,
/// mlp_hidden_act relu2. The file does not say so, but its times do: with three matrices, one token's weights
/// would be read at 5.1 TB/s by a part of 4.8.
bool ungated(const models::Moe& m, std::int64_t whole_width) {
  return (m.hidden == 2688 && whole_width == 1856 && m.topk == 6) ||
         (m.hidden == 2048 && whole_width == 5120 && m.topk == 22);
}

std::int64_t share(const CsvRow& row, const char* whole, const char* parts) {
  const std::int64_t n = row.integer(whole), p = row.integer(parts);
  if (n % p != 0) throw row.error(parts, "expected a divisor of " + std::string{whole});
  return n / p;
}

}  // namespace

Measurement moe_row(const CsvRow& row) {
  models::Moe moe{.tokens = row.integer("num_tokens"),
                  .hidden = row.integer("hidden_size"),
                  .intermediate = share(row, "inter_size", "moe_tp_size"),
                  .experts = share(row, "num_experts", "moe_ep_size"),
                  .all_experts = row.integer("num_experts"),
                  .topk = row.integer("topk")};
  // Loads are worked out expert by expert, uniform ones token by token.
  constexpr std::int64_t kMostTokens = 1 << 24, kMostExperts = 1 << 16;
  if (moe.tokens > kMostTokens)
    throw row.error("num_tokens", "expected at most " + std::to_string(kMostTokens));
  if (moe.all_experts > kMostExperts)
    throw row.error("num_experts", "expected at most " + std::to_string(kMostExperts));
  moe.gated = !ungated(moe, row.integer("inter_size"));
  Measurement m;
  m.kind = "moe";
  bool skewed = false;
  try {
    const models::LoadDistribution distribution = models::parse_load(row.text("distribution"));
    skewed = distribution.kind != models::LoadKind::balanced;
    moe.loads = models::loads_of(models::expert_loads(distribution, {.tokens = moe.tokens,
                                                                     .experts = moe.all_experts,
                                                                     .topk = moe.topk,
                                                                     .nodes = row.integer("moe_ep_size")}),
                                 0, moe.experts);
  } catch (const std::invalid_argument& e) {
    throw row.error("distribution", e.what());
  }
  for (const auto& [key, column] :
       {std::pair{"tokens", "num_tokens"}, std::pair{"hidden", "hidden_size"},
        std::pair{"intermediate", "inter_size"}, std::pair{"experts", "num_experts"},
        std::pair{"topk", "topk"}, std::pair{"distribution", "distribution"}, std::pair{"ep", "moe_ep_size"},
        std::pair{"tp", "moe_tp_size"}}) {
    m.arguments.emplace_back(key, row.text(column));
  }
  if (!moe.gated) m.arguments.emplace_back("activation", "relu2");
  if (skewed) {
    // Each call picks experts anew: few tokens find others' weights than the call before.
    const std::int64_t one = moe.matrices() * moe.hidden * moe.intermediate * models::bytes_of(moe.dtype);
    m.conditions.weights_in_turn = one * std::min(kDraws * moe.active_experts(), moe.experts);
    m.conditions.calls_in_replay = kDraws;
  }
  m.conditions.replays_before = skewed ? kSkewedWarmUps : kWarmUps;
  m.conditions.replays_timed = skewed ? kSkewedReplays : kReplays;
  m.op = std::move(moe);
  return m;
}

}  // namespace tessera::validate
