#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

namespace {

const std::vector<std::pair<std::string, models::Dtype>> kIndexDtypes{
    {"fp8", models::Dtype::fp8}, {"bf16", models::Dtype::bf16}, {"fp16", models::Dtype::fp16}};

models::IndexedLatent indexed(const Arguments& a, std::int64_t context, std::int64_t q_rows) {
  return {.batch = a.integer("batch"),
          .context = context,
          .q_rows = q_rows,
          .heads = a.integer("heads"),
          .index_heads = a.integer("index_heads"),
          .index_dim = a.integer("index_dim"),
          .selected = a.integer("topk"),
          .latent = a.integer("latent"),
          .rope = a.integer("rope"),
          .dtype = a.dtype(),
          .index_dtype = a.choice<models::Dtype>("index_dtype", kIndexDtypes)};
}

}  // namespace

std::vector<Kind> token_sparse_kinds() {
  using namespace models;
  const std::vector<Key> index_keys{{"index_heads", "64"}, {"index_dim", "128"}, {"topk", "2048"},
                                    {"latent", "512"},     {"rope", "64"},       {"index_dtype", "fp8"}};
  std::vector<Key> prefill{{"batch", "1"}, {"seq"}, {"heads", "128"}},
      decode{{"batch", "1"}, {"context"}, {"heads", "128"}};
  prefill.insert(prefill.end(), index_keys.begin(), index_keys.end());
  decode.insert(decode.end(), index_keys.begin(), index_keys.end());
  return {
      {"nsa_prefill",
       "native sparse attention of whole sequences: compressed keys, selected blocks and a window, gated",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"compressed", "32"},
        {"stride", "16"},
        {"block", "64"},
        {"selected", "16"},
        {"window", "512"}},
       [](const Arguments& a) -> Operator {
         return NativeSparse{.batch = a.integer("batch"),
                             .seq = a.integer("seq"),
                             .heads = a.integer("heads"),
                             .kv_heads = a.integer("kv_heads"),
                             .head_dim = a.integer("head_dim"),
                             .compressed = a.integer("compressed"),
                             .stride = a.integer("stride"),
                             .block = a.integer("block"),
                             .selected = a.integer("selected"),
                             .window = a.integer("window"),
                             .dtype = a.dtype()};
       }},
      {"dsa_prefill",
       "DeepSeek sparse attention of whole sequences: indexer, top-k rows, latent attention to them", prefill,
       [](const Arguments& a) -> Operator {
         const std::int64_t seq = a.integer("seq");
         return indexed(a, seq, seq);
       }},
      {"dsa_decode", "DeepSeek sparse attention of one new row per sequence", decode,
       [](const Arguments& a) -> Operator { return indexed(a, a.integer("context"), 1); }},
  };
}

}  // namespace tessera::cli
