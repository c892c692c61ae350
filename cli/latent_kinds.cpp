#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

namespace {

const std::vector<std::pair<std::string, bool>> kCaches{{"plain", false}, {"paged", true}};

models::LatentAlgorithm algorithm(const Arguments& a) {
  std::vector<std::pair<std::string, models::LatentAlgorithm>> names;
  for (const auto each : {models::LatentAlgorithm::by_gpu, models::LatentAlgorithm::flash3,
                          models::LatentAlgorithm::flash2, models::LatentAlgorithm::triton})
    names.emplace_back(models::name_of(each), each);
  return a.choice("algorithm", names);
}

}  // namespace

std::vector<Kind> latent_kinds() {
  using namespace models;
  return {
      {"batched_gemm",
       "C[b,m,n] = A[b,m,k] B[b,n,k]^T",
       {{"batches"}, {"m"}, {"n"}, {"k"}},
       [](const Arguments& a) -> Operator {
         return BatchedGemm{.batches = a.integer("batches"),
                            .m = a.integer("m"),
                            .n = a.integer("n"),
                            .k = a.integer("k"),
                            .dtype = a.dtype()};
       }},
      {"mla_prefill",
       "latent attention of whole sequences: keys and values of every head, or absorbed",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"causal", "true"},
        {"form", "naive"},
        {"algorithm", "auto"},
        {"kv_cache", "plain"},
        {"nope", "128"},
        {"rope", "64"},
        {"value", "128"},
        {"latent", "512"}},
       [](const Arguments& a) -> Operator {
         const std::int64_t seq = a.integer("seq");
         const bool paged = a.choice("kv_cache", kCaches);
         if (a.choice<bool>("form", {{"naive", false}, {"absorbed", true}})) {
           return LatentDecode{.batch = a.integer("batch"),
                               .context = seq,
                               .heads = a.integer("heads"),
                               .q_rows = seq,
                               .latent = a.integer("latent"),
                               .rope = a.integer("rope"),
                               .causal = a.truth("causal"),
                               .dtype = a.dtype(),
                               .paged = paged,
                               .algorithm = algorithm(a)};
         }
         if (paged)
           throw UsageError{
               "kernel mla_prefill: kv_cache=paged is for form=absorbed: the cache holds latents"};
         return LatentAttention{.batch = a.integer("batch"),
                                .q_rows = seq,
                                .kv_rows = seq,
                                .heads = a.integer("heads"),
                                .nope = a.integer("nope"),
                                .rope = a.integer("rope"),
                                .value = a.integer("value"),
                                .causal = a.truth("causal"),
                                .dtype = a.dtype(),
                                .algorithm = algorithm(a)};
       }},
      {"mla_decode",
       "absorbed latent attention: every head scores the cached latents",
       {{"batch", "1"},
        {"context"},
        {"heads"},
        {"q_rows", "1"},
        {"causal", "true"},
        {"partial", "false"},
        {"algorithm", "auto"},
        {"kv_cache", "plain"},
        {"latent", "512"},
        {"rope", "64"}},
       [](const Arguments& a) -> Operator {
         return LatentDecode{.batch = a.integer("batch"),
                             .context = a.integer("context"),
                             .heads = a.integer("heads"),
                             .q_rows = a.integer("q_rows"),
                             .latent = a.integer("latent"),
                             .rope = a.integer("rope"),
                             .causal = a.truth("causal"),
                             .partial = a.truth("partial"),
                             .dtype = a.dtype(),
                             .paged = a.choice("kv_cache", kCaches),
                             .algorithm = algorithm(a)};
       }},
  };
}

}  // namespace tessera::cli
