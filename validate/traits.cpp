#include "validate/traits.hpp"

namespace tessera::validate {

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
      },
      op);
  return traits;
}

}  // namespace tessera::validate
