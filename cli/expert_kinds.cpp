#include <stdexcept>

#include "cli/kernel_kinds.hpp"
#include "cli/recorded.hpp"

namespace tessera::cli {

namespace {

std::int64_t share(const Arguments& a, const char* whole, const char* parts) {
  const std::int64_t n = a.integer(whole), p = a.integer(parts);
  if (n % p != 0) {
    throw UsageError{fmt::format("kernel moe: {} ({}) must be a multiple of {} ({})", whole, n, parts, p)};
  }
  return n / p;
}

models::ExpertLoads first_node(const Arguments& a, std::int64_t experts_here) {
  try {
    const auto file = trace_file(a.text("distribution"));
    models::LoadDistribution distribution =
        file ? recorded_load(*file, a.integer("experts"), a.integer("topk"))
             : models::parse_load(a.text("distribution"));
    distribution.layer = static_cast<int>(a.integer_from("layer", 0));
    distribution.seed = static_cast<std::uint64_t>(a.integer("seed"));
    const models::Routing routing{.tokens = a.integer("tokens"),
                                  .experts = a.integer("experts"),
                                  .topk = a.integer("topk"),
                                  .nodes = a.integer("ep")};
    return models::loads_of(models::expert_loads(distribution, routing), 0, experts_here);
  } catch (const std::invalid_argument& e) {
    throw UsageError{fmt::format("kernel moe: {}", e.what())};
  }
}

}  // namespace

std::vector<Kind> expert_kinds() {
  using namespace models;
  return {
      {"moe",
       "routed experts: sorting, both grouped products, SwiGLU, weighted sum (vLLM's Triton kernels)",
       {{"tokens"},
        {"hidden"},
        {"intermediate"},
        {"experts"},
        {"topk"},
        {"distribution", "balanced"},
        {"ep", "1"},
        {"tp", "1"},
        {"activation", "swiglu"},
        {"seed", "1"},
        {"layer", "0"}},
       [](const Arguments& a) -> Operator {
         const std::int64_t here = share(a, "experts", "ep");
         return Moe{.tokens = a.integer("tokens"),
                    .hidden = a.integer("hidden"),
                    .intermediate = share(a, "intermediate", "tp"),
                    .experts = here,
                    .all_experts = a.integer("experts"),
                    .topk = a.integer("topk"),
                    .loads = first_node(a, here),
                    .dtype = a.dtype(),
                    .gated = a.choice<bool>("activation", {{"swiglu", true}, {"relu2", false}})};
       }},
      {"moe_router",
       "each token's experts and weights, from the router's logits",
       {{"tokens"}, {"experts"}, {"topk"}, {"score", "softmax"}, {"groups", "1"}},
       [](const Arguments& a) -> Operator {
         return Router{.tokens = a.integer("tokens"),
                       .experts = a.integer("experts"),
                       .topk = a.integer("topk"),
                       .score = a.choice<RouterScore>(
                           "score", {{"softmax", RouterScore::softmax}, {"sigmoid", RouterScore::sigmoid}}),
                       .groups = a.integer("groups")};
       }},
  };
}

}  // namespace tessera::cli
