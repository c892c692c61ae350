#include "cli/kernel_kinds.hpp"
#include "cli/recorded.hpp"

namespace tessera::cli {

namespace {

models::Selection selection(const Arguments& a) {
  using models::SelectionKind;
  if (const auto file = trace_file(a.text("selection"))) {
    return recorded_selection(*file, a.integer("block"), static_cast<int>(a.integer_from("layer", 0)));
  }
  models::Selection s{.skew = a.number("skew", 0, 10), .seed = static_cast<std::uint64_t>(a.integer("seed"))};
  s.kind = a.choice<SelectionKind>("selection", {{"uniform", SelectionKind::uniform},
                                                 {"recent", SelectionKind::recent},
                                                 {"zipf", SelectionKind::zipf},
                                                 {"trace:FILE", SelectionKind::lists}});
  return s;
}

}  // namespace

std::vector<Kind> block_sparse_kinds() {
  using namespace models;
  return {
      {"moba_prefill",
       "block-sparse gated attention of whole sequences (MoBA); topk counts a query's own block",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"block"},
        {"topk"},
        {"variant", "fused"},
        {"selection", "uniform"},
        {"skew", "1"},
        {"seed", "1"},
        {"layer", "0"}},
       [](const Arguments& a) -> Operator {
         return Moba{.batch = a.integer("batch"),
                     .seq = a.integer("seq"),
                     .heads = a.integer("heads"),
                     .kv_heads = a.integer("kv_heads"),
                     .head_dim = a.integer("head_dim"),
                     .block = a.integer("block"),
                     .topk = a.integer("topk"),
                     .variant = a.choice<MobaVariant>(
                         "variant", {{"fused", MobaVariant::fused}, {"five_step", MobaVariant::five_step}}),
                     .selection = selection(a),
                     .dtype = a.dtype()};
       }},
      {"block_pool",
       "sums of a node's keys by block, with their number",
       {{"batch", "1"}, {"kv_rows"}, {"kv_heads"}, {"head_dim", "128"}, {"block"}},
       [](const Arguments& a) -> Operator {
         return BlockPool{.batch = a.integer("batch"),
                          .kv_rows = a.integer("kv_rows"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .block = a.integer("block"),
                          .dtype = a.dtype()};
       }},
      {"block_gate",
       "scores of queries against block means, and the top-k",
       {{"batch", "1"},
        {"q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"block"},
        {"topk"}},
       [](const Arguments& a) -> Operator {
         return BlockGate{.batch = a.integer("batch"),
                          .q_rows = a.integer("q_rows"),
                          .heads = a.integer("heads"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .block = a.integer("block"),
                          .topk = a.integer("topk"),
                          .dtype = a.dtype()};
       }},
      {"block_sparse_attention",
       "an AttnNode's share of MoBA: selected pairs among its keys; out, row maximum and sum of exponentials",
       {{"batch", "1"},
        {"q_rows"},
        {"kv_rows", "q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"block"},
        {"topk"},
        {"selection", "uniform"},
        {"skew", "1"},
        {"seed", "1"},
        {"layer", "0"}},
       [](const Arguments& a) -> Operator {
         return BlockSparseAttention{.batch = a.integer("batch"),
                                     .q_rows = a.integer("q_rows"),
                                     .kv_rows = a.integer("kv_rows"),
                                     .heads = a.integer("heads"),
                                     .kv_heads = a.integer("kv_heads"),
                                     .head_dim = a.integer("head_dim"),
                                     .block = a.integer("block"),
                                     .topk = a.integer("topk"),
                                     .selection = selection(a),
                                     .dtype = a.dtype()};
       }},
  };
}

}  // namespace tessera::cli
