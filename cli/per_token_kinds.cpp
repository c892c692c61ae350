#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

std::vector<Kind> per_token_kinds() {
  using namespace models;
  return {
      {"norm",
       "RMSNorm or LayerNorm of each row",
       {{"rows"}, {"width"}, {"type", "rms"}, {"residual", "false"}},
       [](const Arguments& a) -> Operator {
         return Norm{.rows = a.integer("rows"),
                     .width = a.integer("width"),
                     .kind = a.choice<NormKind>("type", {{"rms", NormKind::rms}, {"layer", NormKind::layer}}),
                     .residual = a.truth("residual"),
                     .dtype = a.dtype()};
       }},
      {"rope",
       "rotates q and k in place",
       {{"rows"}, {"heads"}, {"kv_heads", "heads"}, {"head_dim", "128"}},
       [](const Arguments& a) -> Operator {
         return Rope{.rows = a.integer("rows"),
                     .heads = a.integer("heads"),
                     .kv_heads = a.integer("kv_heads"),
                     .head_dim = a.integer("head_dim"),
                     .dtype = a.dtype()};
       }},
      {"activation",
       "SwiGLU or GELU",
       {{"rows"}, {"width"}, {"type", "swiglu"}},
       [](const Arguments& a) -> Operator {
         return Activation{.rows = a.integer("rows"),
                           .width = a.integer("width"),
                           .kind = a.choice<ActivationKind>(
                               "type", {{"swiglu", ActivationKind::swiglu}, {"gelu", ActivationKind::gelu}}),
                           .dtype = a.dtype()};
       }},
      {"softmax",
       "row softmax of an explicit matrix",
       {{"rows"}, {"width"}},
       [](const Arguments& a) -> Operator {
         return Softmax{.rows = a.integer("rows"), .width = a.integer("width"), .dtype = a.dtype()};
       }},
      {"sum",
       "adds up rows of several branches or nodes",
       {{"rows"}, {"inputs"}, {"width"}},
       [](const Arguments& a) -> Operator {
         return Sum{.rows = a.integer("rows"),
                    .inputs = a.integer("inputs"),
                    .width = a.integer("width"),
                    .dtype = a.dtype()};
       }},
      {"memcpy",
       "device-to-device copy",
       {{"bytes"}},
       [](const Arguments& a) -> Operator { return Copy{.bytes = a.integer("bytes")}; }},
      {"embedding",
       "gathers rows of a table",
       {{"rows"}, {"width"}},
       [](const Arguments& a) -> Operator {
         return Embedding{.rows = a.integer("rows"), .width = a.integer("width"), .dtype = a.dtype()};
       }},
  };
}

}  // namespace tessera::cli
