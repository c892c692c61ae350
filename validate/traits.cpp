#include "validate/traits.hpp"

namespace tessera::validate {

namespace {

const char* name_of(models::DecodeForm form) {
  switch (form) {
    case models::DecodeForm::packed:
      return "packed";
    case models::DecodeForm::verify:
      return "verify";
    case models::DecodeForm::fused:
      return "fused";
  }
  return "";
}

}  // namespace

std::map<std::string, std::string> traits_of(const models::Operator& op, bool graph, bool random_data) {
  std::map<std::string, std::string> traits{{"launch", graph ? "graph" : "host"},
                                            {"data", random_data ? "random" : "zeros"}};
  std::visit(
      [&](const auto& o) {
        if constexpr (requires { o.dtype; }) traits["dtype"] = models::name_of(o.dtype);
        if constexpr (requires { o.paged; }) traits["kv_cache"] = o.paged ? "paged" : "plain";
        if constexpr (requires { o.partial; }) traits["output"] = o.partial ? "partial" : "whole";
        if constexpr (requires { o.causal; }) traits["mask"] = o.causal ? "causal" : "full";
        if constexpr (requires { o.flash_version; })
          traits["algorithm"] = o.flash_version == 2 ? "fa2" : "fa3";
        using Op = std::decay_t<decltype(o)>;
        if constexpr (std::is_same_v<Op, models::LatentAttention>) traits["form"] = "naive";
        if constexpr (std::is_same_v<Op, models::LatentDecode>) traits["form"] = "absorbed";
        if constexpr (requires { o.algorithm == models::LatentAlgorithm::by_gpu; }) {
          if (o.algorithm != models::LatentAlgorithm::by_gpu)
            traits["algorithm"] = models::name_of(o.algorithm);
        }
        if constexpr (std::is_same_v<Op, models::LinearDecode>) traits["form"] = name_of(o.form);
        if constexpr (std::is_same_v<Op, models::CausalConv1d>)
          traits["mode"] = o.update ? "update" : "prefill";
      },
      op);
  return traits;
}

}  // namespace tessera::validate
