// The cost model remembers the demands of kernels that it has met, by keys that say what they depend on. A
// key that forgets something makes a cost depend on what was costed before: operators of every family, drawn
// at random from shapes that share and shapes that must not, cost the same after all others as alone.

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "models/cost/cost_model.hpp"
#include "tests/kernels/gpus.hpp"
#include "tests/models/draw_operators.hpp"

namespace tessera::cost {
namespace {

using namespace models;
using models::testing::Draw;
using models::testing::kFamily;

Conditions draw_conditions(Draw& draw, const Operator& op) {
  Conditions c{.graph = draw.yes(), .random_data = draw.yes(), .replayed = draw.yes()};
  if (c.replayed) {
    c.launches_before = static_cast<std::uint32_t>(draw.of({0, 3, 1000}));
    c.launches_counted = static_cast<std::uint32_t>(draw.of({0, 3, 100}));
  }
  for (std::uint32_t i = 0; i < operands_of(op).size(); ++i)
    if (draw.yes()) c.warm_operands.push_back(i);
  return c;
}

struct Case {
  Operator op;
  Conditions conditions;
  Cost alone;
};

bool equal(const Cost& a, const Cost& b) {
  return a.latency_us == b.latency_us && a.execution_us == b.execution_us && a.clock_mhz == b.clock_mhz &&
         a.flops == b.flops && a.bottleneck == b.bottleneck && a.l2_bytes == b.l2_bytes &&
         a.hbm_read_bytes == b.hbm_read_bytes && a.hbm_write_bytes == b.hbm_write_bytes &&
         a.energy_j == b.energy_j && a.operations == b.operations && a.kernels == b.kernels;
}

/// One of the others that alone makes the case cost something else.
std::string before_which(const GpuSpec& gpu, const std::vector<Case>& cases, const Case& c) {
  for (const Case& other : cases) {
    CostModel two{gpu};
    (void)two.cost(other.op, other.conditions);
    if (!equal(two.cost(c.op, c.conditions), c.alone)) return signature_of(other.op);
  }
  return "several others";
}

void require_alike(const GpuSpec& gpu, unsigned seed, int each) {
  Draw draw{seed};
  std::vector<Case> cases;
  std::array<int, std::variant_size_v<Operator>> drawn{};
  for (std::size_t family = 0; family < drawn.size(); ++family) {
    // What the GPU has no kernel for is drawn again, and left out if it has none for the whole family.
    for (int tries = 0; tries < 6 * each && drawn[family] < each; ++tries) {
      const Operator op = draw(family);
      const Conditions conditions = draw_conditions(draw, op);
      try {
        cases.push_back({op, conditions, CostModel{gpu}.cost(op, conditions)});
        ++drawn[family];
      } catch (const std::invalid_argument&) {
      }
    }
    INFO("family " << family);
    if (gpu.sm.has_tma) CHECK(drawn[family] == each);
  }
  std::mt19937 random{seed};
  std::map<std::string, const Case*> off;  // by kind
  for (int round = 0; round < 3; ++round) {
    // In the order drawn, backwards, and mixed: each after others of its family and of all.
    if (round == 1) std::reverse(cases.begin(), cases.end());
    if (round == 2) std::shuffle(cases.begin(), cases.end(), random);
    CostModel one{gpu};
    for (const Case& c : cases)
      if (!equal(one.cost(c.op, c.conditions), c.alone)) off.emplace(kind_of(c.op), &c);
    for (const auto& [kind, c] : off) {
      INFO(signature_of(c->op) << " after " << before_which(gpu, cases, *c));
      CHECK(kind == "as alone");
    }
    if (!off.empty()) return;
  }
}

TEST_CASE("costs do not depend on what was costed before") { require_alike(tile::testing::hopper(), 11, 40); }

TEST_CASE("and on an Ampere GPU") { require_alike(tile::testing::ampere(), 12, 25); }

TEST_CASE("nor on where in a line the tables of a paged call begin") {
  // 17 to 48 sequences: the tables of each begin elsewhere in their lines.
  const GpuSpec gpu = tile::testing::hopper();
  const auto call = [](std::int64_t batch, std::size_t family) -> Operator {
    if (family == kFamily<LatentDecode>)
      return LatentDecode{.batch = batch, .context = 2696, .heads = 16, .paged = true};
    return AttentionDecode{
        .batch = batch, .context = 1728, .heads = 32, .kv_heads = 8, .head_dim = 128, .paged = true};
  };
  for (const std::size_t family : {kFamily<AttentionDecode>, kFamily<LatentDecode>}) {
    CostModel one{gpu};
    for (std::int64_t batch = 17; batch <= 48; ++batch) {
      const Operator op = call(batch, family);
      INFO(signature_of(op));
      CHECK(equal(one.cost(op, {}), CostModel{gpu}.cost(op, {})));
    }
  }
}

}  // namespace
}  // namespace tessera::cost
