#include <cstdlib>

#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

namespace {

const std::vector<std::pair<std::string, int>> kAlgorithms{{"fa3", 3}, {"fa2", 2}, {"fa3_first", -3}};
int flash_version(const Arguments& a) { return std::abs(a.choice<int>("algorithm", kAlgorithms)); }
bool first_release(const Arguments& a) { return a.choice<int>("algorithm", kAlgorithms) < 0; }

/// paged: a serving engine's call, which extends the cache and then reads it through a page table.
bool paged(const Arguments& a) { return a.choice<bool>("kv_cache", {{"plain", false}, {"paged", true}}); }

}  // namespace

std::vector<Kind> dense_kinds() {
  using namespace models;
  return {
      {"gemm",
       "C[m,n] = A[m,k] B[n,k]^T",
       {{"m"}, {"n"}, {"k"}},
       [](const Arguments& a) -> Operator {
         return Gemm{.m = a.integer("m"), .n = a.integer("n"), .k = a.integer("k"), .dtype = a.dtype()};
       }},
      {"attention_prefill",
       "self-attention of whole sequences (FlashAttention)",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"},
        {"kv_cache", "plain"}},
       [](const Arguments& a) -> Operator {
         const std::int64_t seq = a.integer("seq");
         return Attention{.batch = a.integer("batch"),
                          .q_rows = seq,
                          .kv_rows = seq,
                          .heads = a.integer("heads"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .causal = a.truth("causal"),
                          .dtype = a.dtype(),
                          .flash_version = flash_version(a),
                          .first_release = first_release(a),
                          .paged = paged(a)};
       }},
      {"attention_partial",
       "an AttnNode's share: out, row maximum and sum of exponentials",
       {{"batch", "1"},
        {"q_rows"},
        {"kv_rows", "q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"}},
       [](const Arguments& a) -> Operator {
         return Attention{.batch = a.integer("batch"),
                          .q_rows = a.integer("q_rows"),
                          .kv_rows = a.integer("kv_rows"),
                          .heads = a.integer("heads"),
                          .kv_heads = a.integer("kv_heads"),
                          .head_dim = a.integer("head_dim"),
                          .causal = a.truth("causal"),
                          .partial = true,
                          .dtype = a.dtype(),
                          .flash_version = flash_version(a),
                          .first_release = first_release(a)};
       }},
      {"attention_decode",
       "one query row per sequence against a cache",
       {{"batch", "1"},
        {"context"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"kv_cache", "plain"}},
       [](const Arguments& a) -> Operator {
         return AttentionDecode{.batch = a.integer("batch"),
                                .context = a.integer("context"),
                                .heads = a.integer("heads"),
                                .kv_heads = a.integer("kv_heads"),
                                .head_dim = a.integer("head_dim"),
                                .dtype = a.dtype(),
                                .paged = paged(a)};
       }},
      {"merge",
       "combines partial attention results by maximum and sum of exponentials",
       {{"rows"}, {"heads"}, {"head_dim", "128"}, {"parts"}},
       [](const Arguments& a) -> Operator {
         return Merge{.rows = a.integer("rows"),
                      .heads = a.integer("heads"),
                      .head_dim = a.integer("head_dim"),
                      .parts = a.integer("parts"),
                      .dtype = a.dtype()};
       }},
  };
}

}  // namespace tessera::cli
