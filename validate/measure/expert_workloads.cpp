// Mixture of experts.

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/experts/grouped_product.hpp"
#include "kernels/experts/moe.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

/// Token t takes experts t + i ceil(E / k), as models/operators/expert_load.hpp has it.
std::vector<std::int32_t> balanced(std::int64_t tokens, std::int64_t experts, std::int64_t topk) {
  std::vector<std::int32_t> ids;
  const std::int64_t step = (experts + topk - 1) / topk;
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t i = 0; i < topk; ++i)
      ids.push_back(static_cast<std::int32_t>((t + i * step) % experts));
  return ids;
}

Workload moe(const Arguments& a, const Target&) {
  const std::int64_t tokens = a.integer("tokens"), hidden = a.integer("hidden"),
                     inner = a.integer("intermediate"), experts = a.integer("experts"),
                     topk = a.integer("topk");
  if (a.text("distribution") != "balanced" || a.integer("ep") != 1 || a.integer("tp") != 1 ||
      a.text("activation") != "swiglu")
    throw NotMeasured{"moe: distribution=balanced on one node with SwiGLU is measured"};
  if (hidden % 128 != 0 || inner % 128 != 0 || topk > cuda::kMoeMostTopk || experts > cuda::kMoeMostExperts ||
      topk > experts || topk * ((experts + topk - 1) / topk) > experts + topk - 1)
    throw NotMeasured{
        "moe: hidden and intermediate must be multiples of 128, topk at most 16 and no more than experts, "
        "experts at "
        "most 1024"};
  const bool library = a.choice("products", {"own", "cublas"}) == "cublas";
  Workload w{
      .implementation = library ? "cuBLAS grouped products" : "Tessera MoE (mma.sync)",
      .unlike = library ? "cuBLAS's own kernels; the tile programs stand for vLLM's Triton kernels" : ""};
  models::Moe op{.tokens = tokens,
                 .hidden = hidden,
                 .intermediate = inner,
                 .experts = experts,
                 .all_experts = experts,
                 .topk = topk};
  op.loads = models::loads_of(models::expert_loads({}, {.tokens = tokens, .experts = experts, .topk = topk}),
                              0, experts);
  set_cost(w, op);
  const std::int64_t rows = tokens * topk;
  const cuda::MoeCall shape{.tokens = tokens,
                            .hidden = hidden,
                            .intermediate = inner,
                            .experts = experts,
                            .topk = topk,
                            .tile_rows = library ? 1 : cuda::kMoeRows};
  const auto ids = balanced(tokens, experts, topk);
  const auto scale = [](std::int64_t depth) { return 1 / std::sqrt(static_cast<float>(depth)); };
  w.operands = {normal("x", Element::bf16, tokens * hidden),
                normal("up", Element::bf16, experts * 2 * inner * hidden, scale(hidden)),
                normal("down", Element::bf16, experts * hidden * inner, scale(inner)),
                listed("ids", ids),
                uniform("weights", Element::f32, rows),
                output("out", Element::bf16, tokens * hidden),
                output("rows", Element::i32, shape.most_tiles() * shape.tile_rows),
                output("expert", Element::i32, library ? 0 : shape.most_tiles()),
                output("gate_up", Element::bf16, rows * 2 * inner),
                output("active", Element::bf16, rows * inner),
                output("results", Element::bf16, rows * hidden)};
  const auto call = [shape, library](const Call& c) {
    cuda::MoeCall m = shape;
    m.x = c.at[0];
    m.up = c.at[1];
    m.down = c.at[2];
    m.ids = as<std::int32_t>(c.at[3]);
    m.weights = as<float>(c.at[4]);
    m.out = c.at[5];
    m.rows = as<std::int32_t>(c.at[6]);
    m.expert = as<std::int32_t>(c.at[7]);
    m.gate_up = c.at[8];
    m.active = c.at[9];
    m.results = c.at[10];
    if (library) {
      m.expert = nullptr;
      m.place = as<std::int32_t>(c.at[11]);
      m.gathered = c.at[12];
    }
    return m;
  };
  w.stages = {{"group", [=](const Call& c) { cuda::launch_moe_group(call(c), c.stream); }},
              {"up", [=](const Call& c) { cuda::launch_moe_up(call(c), c.stream); }},
              {"activation", [=](const Call& c) { cuda::launch_moe_activation(call(c), c.stream); }},
              {"down", [=](const Call& c) { cuda::launch_moe_down(call(c), c.stream); }},
              {"sum", [=](const Call& c) { cuda::launch_moe_sum(call(c), c.stream); }}};
  if (library) {
    const auto groups = cuda::expert_rows(ids, experts);
    const auto up = std::make_shared<const cuda::GroupedProduct>(groups, 2 * inner, hidden),
               down = std::make_shared<const cuda::GroupedProduct>(groups, hidden, inner);
    constexpr std::int64_t kWordsOfAddress = 2;
    w.operands.insert(w.operands.end(),
                      {output("place", Element::i32, rows), output("gathered", Element::bf16, rows * hidden),
                       listed("groups", up->listed()),
                       output("up_addresses", Element::i32, 3 * kWordsOfAddress * up->groups()),
                       output("down_addresses", Element::i32, 3 * kWordsOfAddress * up->groups()),
                       output("workspace", Element::i32, cuda::kGroupedWorkspaceBytes / 4)});
    w.stages[1].launch = [=](const Call& c) { up->run(c.at[14], c.at[16], c.stream); };
    w.stages[3].launch = [=](const Call& c) { down->run(c.at[15], c.at[16], c.stream); };
    w.stages.insert(w.stages.begin() + 1, {"gather", [=](const Call& c) {
                                             const cuda::MoeCall m = call(c);
                                             const auto* const list = as<std::int32_t>(c.at[13]);
                                             cuda::launch_moe_gather(m, c.stream);
                                             up->place(c.at[14], list, m.up, m.gathered, m.gate_up, c.stream);
                                             down->place(c.at[15], list, m.down, m.active, m.results,
                                                         c.stream);
                                           }});
    w.note = [] { return cuda::cublas_version(); };
  }
  w.expect = [=](const Inputs& in, std::size_t limit) {
    // One output element needs a token's whole intermediate row of each of its experts.
    const bool all = tokens * hidden <= static_cast<std::int64_t>(limit);
    std::vector<Expected> expected;
    for (const std::int64_t t : spread(tokens, all ? static_cast<std::size_t>(tokens) : 2)) {
      const std::vector<std::int64_t> columns = spread(hidden, all ? static_cast<std::size_t>(hidden) : 16);
      std::vector<double> out(columns.size(), 0);
      for (std::int64_t choice = 0; choice < topk; ++choice) {
        const std::int64_t expert = ids[static_cast<std::size_t>(t * topk + choice)];
        std::vector<double> active;
        for (std::int64_t i = 0; i < inner; ++i) {
          double gate = 0, up = 0;
          for (std::int64_t d = 0; d < hidden; ++d) {
            const double x = in(0, t * hidden + d);
            gate += x * in(1, (expert * 2 * inner + i) * hidden + d);
            up += x * in(1, (expert * 2 * inner + inner + i) * hidden + d);
          }
          active.push_back(silu(gate) * up);
        }
        for (std::size_t c = 0; c < columns.size(); ++c) {
          double sum = 0;
          for (std::int64_t i = 0; i < inner; ++i)
            sum += active[static_cast<std::size_t>(i)] * in(2, (expert * hidden + columns[c]) * inner + i);
          out[c] += in(4, t * topk + choice) * sum;
        }
      }
      for (std::size_t c = 0; c < columns.size(); ++c)
        expected.push_back({5, t * hidden + columns[c], out[c]});
    }
    return expected;
  };
  return w;
}

Workload router(const Arguments& a, const Target&) {
  const std::int64_t tokens = a.integer("tokens"), experts = a.integer("experts"), topk = a.integer("topk");
  if (a.text("score") != "softmax" || a.integer("groups") != 1 || topk > cuda::kMoeMostTopk ||
      experts > cuda::kMoeMostExperts)
    throw NotMeasured{
        "moe_router: score=softmax without groups, topk at most 16, at most 1024 experts, is measured"};
  Workload w{.implementation = "Tessera router"};
  set_cost(w, models::Router{.tokens = tokens, .experts = experts, .topk = topk});
  w.operands = {normal("logits", Element::f32, tokens * experts), output("ids", Element::i32, tokens * topk),
                output("weights", Element::f32, tokens * topk)};
  w.tolerance.f32 = 1e-4;
  w.choices = std::make_shared<const ChoiceOutput>(
      ChoiceOutput{.operand = 1, .tokens = tokens, .topk = topk, .experts = experts});
  w.stages = {{"router", [=](const Call& c) {
                 cuda::launch_router({.logits = as<float>(c.at[0]),
                                      .ids = as<std::int32_t>(c.at[1]),
                                      .weights = as<float>(c.at[2]),
                                      .tokens = tokens,
                                      .experts = experts,
                                      .topk = topk},
                                     c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(tokens, topk, limit, [&](std::int64_t t) {
      std::vector<std::pair<double, std::int64_t>> order;
      for (std::int64_t e = 0; e < experts; ++e) order.emplace_back(-in(0, t * experts + e), e);
      std::sort(order.begin(), order.end());
      ExpectedRow ids{1, t * topk, {}}, weights{2, t * topk, {}};
      double sum = 0;
      for (std::int64_t i = 0; i < topk; ++i) {
        const auto& [negative, e] = order[static_cast<std::size_t>(i)];
        ids.values.push_back(static_cast<double>(e));
        weights.values.push_back(std::exp(order[0].first - negative));
        sum += weights.values.back();
      }
      for (double& x : weights.values) x /= sum;
      return std::vector<ExpectedRow>{ids, weights};
    });
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> expert_kinds() {
  return {
      {"moe",
       {{"tokens"},
        {"hidden"},
        {"intermediate"},
        {"experts"},
        {"topk"},
        {"distribution", "balanced"},
        {"ep", "1"},
        {"tp", "1"},
        {"activation", "swiglu"},
        {"products", "own"}},
       moe,
       {"tokens=37 hidden=128 intermediate=128 experts=5 topk=2 products=own,cublas",
        "tokens=150 hidden=256 intermediate=128 experts=3 topk=3 products=own,cublas",
        "tokens=1 hidden=128 intermediate=256 experts=7 topk=2 products=own,cublas"},
       {"products"}},
      {"moe_router",
       {{"tokens"}, {"experts"}, {"topk"}, {"score", "softmax"}, {"groups", "1"}},
       router,
       {"tokens=7 experts=70 topk=1,8", "tokens=3 experts=9 topk=9", "tokens=1 experts=1 topk=1",
        "tokens=5 experts=1024 topk=16"}},
  };
}

}  // namespace tessera::measure
