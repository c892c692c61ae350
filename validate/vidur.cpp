// The CSV layouts of microsoft/vidur's profiles: mlp.csv has a row per number of tokens and degree of tensor
// parallelism with the times of a layer's operators, attention.csv a row per batch.
//
// How they were taken (its vidur/profiling/): fp16, the kernels' time on the GPU summed from a profiler's
// trace, so no launch gap; mlp.csv runs the operators of a layer one after another, over and over.

#include <fmt/format.h>

#include "validate/formats.hpp"
#include "validate/shapes.hpp"

namespace tessera::validate {

namespace {

constexpr models::Dtype kDtype = models::Dtype::fp16;

std::string column_of(std::string_view operation) { return fmt::format("time_stats.{}.median", operation); }

/// Adds `m`, with the time of `operation` in `row`.
void add(Measurements& into, const CsvTable& table, const CsvRow& row, std::string_view operation,
         Measurement m) {
  const std::string column = column_of(operation);
  if (row.empty(column)) {
    into.skip(table.file(), m.kind, fmt::format("{} was not timed", operation));
    return;
  }
  const double ms = row.number(column);
  if (ms == 0) {  // the profiler's trace has lost the kernel
    into.skip(table.file(), m.kind, fmt::format("{} has a time of 0", operation));
    return;
  }
  m.file = table.file();
  m.line = row.line();
  m.measured_us = ms * 1e3;
  m.conditions.timing = Timing::device;
  require_possible(m, [&](const std::string& message) { return row.error("", message); });
  into.rows.push_back(std::move(m));
}

/// `value` / `parts`; an error at `column` if that leaves a rest.
std::int64_t share(const CsvRow& row, std::string_view column, std::int64_t value, std::int64_t parts) {
  if (parts <= 0 || value % parts != 0)
    throw row.error(column, fmt::format("{} does not divide into {}", value, parts));
  return value / parts;
}

void read_mlp_row(const CsvTable& table, const CsvRow& row, Measurements& into) {
  const std::int64_t workers = row.integer("num_tensor_parallel_workers");
  const std::int64_t tokens = row.integer("num_tokens"), width = row.integer("n_embd");
  const std::int64_t heads = row.integer("n_head"), kv_heads = row.integer("n_kv_head");
  const std::int64_t head_dim = share(row, "n_head", width, heads);
  const bool gated = row.truth("use_gated_mlp");
  const std::int64_t hidden = share(row, "n_expanded_embd", row.integer("n_expanded_embd"), workers);
  const AttentionShape shape{.heads = share(row, "n_head", heads, workers),
                             .kv_heads = share(row, "n_kv_head", kv_heads, workers),
                             .head_dim = head_dim};
  const std::int64_t qkv = (shape.heads + 2 * shape.kv_heads) * head_dim;
  const std::int64_t up = (gated ? 2 : 1) * hidden;
  // A layer's matrices are used in turn, and there is one layer.
  const std::int64_t weights =
      width * (qkv + shape.heads * head_dim + up + hidden) * models::bytes_of(kDtype);

  const auto gemm = [&](std::string_view name, std::int64_t n, std::int64_t k) {
    if (!table.has(column_of(name))) return;
    Measurement m = gemm_row(tokens, n, k, kDtype);
    m.conditions.weights_in_turn = weights;
    add(into, table, row, name, std::move(m));
  };
  gemm("attn_pre_proj", qkv, width);
  gemm("attn_post_proj", width, shape.heads * head_dim);
  gemm("mlp_up_proj", up, width);
  gemm("mlp_down_proj", width, hidden);
  if (table.has(column_of("attn_rope"))) add(into, table, row, "attn_rope", rope_row(tokens, shape, kDtype));
  if (table.has(column_of("mlp_act"))) {
    using models::ActivationKind;
    add(into, table, row, "mlp_act",
        activation_row(tokens, hidden, gated ? ActivationKind::swiglu : ActivationKind::gelu, kDtype));
  }
  static constexpr std::pair<const char*, const char*> kNot[]{
      {"emb", "emb: the table's share and its mask are not stated"},
      {"input_layernorm", "input_layernorm: the file does not say which norm it is"},
      {"post_attention_layernorm", "post_attention_layernorm: the file does not say which norm it is"},
      {"add", "add: no kernel of its own is simulated"}};
  for (const auto& [name, reason] : kNot) {
    if (table.has(column_of(name))) into.skip(table.file(), name, reason);
  }
}

void read_attention_row(const CsvTable& table, const CsvRow& row, Measurements& into) {
  const std::int64_t workers = row.integer("num_tensor_parallel_workers");
  const std::int64_t heads = row.integer("n_q_head");
  const AttentionShape shape{.batch = row.integer("batch_size"),
                             .heads = share(row, "n_q_head", heads, workers),
                             .kv_heads = share(row, "n_kv_head", row.integer("n_kv_head"), workers),
                             .head_dim = share(row, "n_embd", row.integer("n_embd"), heads)};
  const std::int64_t past = row.integer("kv_cache_size", 0);
  if (row.truth("is_prefill")) {  // FlashInfer or FlashAttention-2, by the file's attention_backend
    add(into, table, row, "attn_prefill",
        prefill_row(shape, row.integer("prefill_chunk_size"), past, 2, kDtype));
  } else {
    add(into, table, row, "attn_decode", decode_row(shape, past + 1, kDtype));
  }
}

}  // namespace

bool read_vidur(const CsvTable& table, Measurements& into) {
  const bool mlp = table.has_all({"n_head", "n_kv_head", "n_embd", "n_expanded_embd", "use_gated_mlp",
                                  "num_tokens", "num_tensor_parallel_workers"});
  const bool attention = table.has_all({"n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers",
                                        "batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill"}) &&
                         table.has(column_of("attn_prefill")) && table.has(column_of("attn_decode"));
  if (!mlp && !attention) return false;
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (mlp)
      read_mlp_row(table, table.row(i), into);
    else
      read_attention_row(table, table.row(i), into);
  }
  return true;
}

}  // namespace tessera::validate
