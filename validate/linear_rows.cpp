// Rows of ai-dynamo/aiconfigurator's collector/sglang/collect_kda.py: Kimi Delta Attention's kernels, heads
// of 128.

#include "validate/linear_rows.hpp"

#include <fmt/format.h>

namespace tessera::validate {

namespace {

constexpr std::int64_t kHeadDim = 128;
constexpr std::uint32_t kWarmUps = 3, kReplays = 10;

using Numbers = std::vector<std::pair<std::string, std::int64_t>>;

Measurement row_of(std::string kind, const Numbers& shape, models::Operator op,
                   const std::pair<std::string, std::string>& more = {}) {
  Measurement row;
  row.kind = std::move(kind);
  for (const auto& [key, value] : shape) row.arguments.emplace_back(key, std::to_string(value));
  if (!more.first.empty()) row.arguments.push_back(more);
  row.op = std::move(op);
  row.conditions.replays_before = kWarmUps;
  row.conditions.replays_timed = kReplays;
  return row;
}

}  // namespace

bool is_linear(const CsvTable& table) {
  return table.has_all({"kernel_source", "phase", "batch_size", "seq_len", "num_k_heads", "num_v_heads"});
}

std::optional<Measurement> linear_row(const CsvRow& row) {
  const std::string& kernel = row.text("kernel_source");
  const std::int64_t batch = row.integer("batch_size"), seq = row.integer("seq_len"),
                     heads = row.integer("num_v_heads");
  if (row.integer("num_k_heads") != heads)
    throw row.error("num_k_heads", fmt::format("expected as many as num_v_heads, {}", heads));
  if (kernel == "chunk_kda")
    return row_of("kda_prefill", {{"batch", batch}, {"seq", seq}, {"heads", heads}},
                  models::LinearAttention{.rule = models::kKda, .batch = batch, .seq = seq, .heads = heads});
  if (kernel == "causal_conv1d_fn_qkv3" || kernel == "causal_conv1d_update") {
    const bool update = kernel == "causal_conv1d_update";
    return row_of(
        "causal_conv1d", {{"batch", batch}, {"seq", seq}, {"heads", heads}},
        models::CausalConv1d{.batch = batch, .seq = seq, .channels = heads * kHeadDim, .update = update},
        update ? std::pair<std::string, std::string>{"mode", "update"}
               : std::pair<std::string, std::string>{});
  }
  const auto decode = [&](models::DecodeForm form, const char* name) {
    return row_of("kda_decode", {{"batch", batch}, {"heads", heads}, {"tokens", seq}},
                  models::LinearDecode{
                      .rule = models::kKda, .batch = batch, .heads = heads, .tokens = seq, .form = form},
                  {"form", name});
  };
  if (kernel == "fused_recurrent_kda_packed_decode") return decode(models::DecodeForm::packed, "packed");
  if (kernel == "kda_fused_decode") return decode(models::DecodeForm::fused, "fused");
  if (kernel == "fused_sigmoid_gating_delta_rule_update") return decode(models::DecodeForm::verify, "verify");
  return std::nullopt;
}

}  // namespace tessera::validate
