// The CSV layout of ai-dynamo/aiconfigurator's measurements, with or without the columns that are the same in
// every row of a file (framework, device, op_name, dtype, ...).
//
// How they were taken (its collector/): a CUDA graph, warmed up, is replayed and timed from outside, so the
// launch gap is in the figure. The graph of a GEMM holds one launch per copy of its weights, as many copies
// as fill the L2 but at most five, all with the same input; the graph of an attention holds one call of
// SGLang's layer, which writes the new k and v into its paged cache first.

#include <fmt/format.h>

#include <algorithm>

#include "validate/formats.hpp"
#include "validate/linear_rows.hpp"
#include "validate/moe_rows.hpp"
#include "validate/shapes.hpp"

namespace tessera::validate {

namespace {

constexpr int kWeightCopies = 5;
// benchmark_with_power (collector/helper.py) warms up after an idle time, in which it captures the graph.
constexpr std::uint32_t kWarmUps = 3, kReplays = 6;
constexpr std::uint32_t kAttentionReplays = 20;  // collector/sglang/collect_attn.py, collect_mla.py

enum class Layout { gemm, prefill, decode, later, none };

struct Later {
  const char* kind;
  std::vector<std::string_view> columns;
};

/// Layouts of kinds that the simulator cannot run yet, the most particular first.
const std::vector<Later>& later_layouts() {
  static const std::vector<Later> all{
      {"nccl", {"op_name", "nccl_dtype", "num_gpus", "message_size"}},
      {"deepep", {"hidden_size", "num_token", "num_topk", "num_experts"}},
  };
  return all;
}

std::string later_kind(const CsvTable& table) {
  for (const Later& later : later_layouts()) {
    if (table.has_all(later.columns)) return later.kind;
  }
  return "";
}

/// Why a row with these particulars cannot be run; empty if it can. Files that leave the columns out are
/// bf16.
std::string unsupported(const CsvRow& row, const CsvTable& table) {
  for (const char* column : {"gemm_dtype", "attn_dtype", "kv_cache_dtype"}) {
    if (table.has(column) && row.text(column) != "bfloat16" && row.text(column) != "float16")
      return fmt::format("{} {} is not simulated", column, row.text(column));
  }
  if (table.has("window_size") && row.integer("window_size", 0) > 0)
    return "sliding windows are not simulated";
  if (table.has("beam_width") && row.integer("beam_width", 1) > 1) return "beam search is not simulated";
  return "";
}

models::Dtype dtype_of(const CsvRow& row, const CsvTable& table) {
  for (const char* column : {"gemm_dtype", "attn_dtype"}) {
    if (table.has(column) && row.text(column) == "float16") return models::Dtype::fp16;
  }
  return models::Dtype::bf16;
}

AttentionShape attention_shape(const CsvRow& row) {
  return {.batch = row.integer("batch_size"),
          .heads = row.integer("num_heads"),
          .kv_heads = row.integer("num_key_value_heads"),
          .head_dim = row.integer("head_dim")};
}

/// Upstream files have both `isl` and `step`, and tell the two phases apart by name.
Layout attention_layout(const CsvRow& row, const CsvTable& table) {
  if (!table.has("step")) return Layout::prefill;
  if (!table.has("isl")) return Layout::decode;
  const std::string& name = row.text("op_name");
  if (name == "context_attention") return Layout::prefill;
  if (name == "generation_attention") return Layout::decode;
  throw row.error("op_name", "expected context_attention or generation_attention");
}

Measurement attention(const CsvRow& row, const CsvTable& table, models::Dtype dtype) {
  if (attention_layout(row, table) == Layout::prefill)
    return through_paged_cache(prefill_row(attention_shape(row), row.integer("isl"), 0, 3, dtype));
  // The new row counts too.
  return through_paged_cache(decode_row(attention_shape(row), row.integer("step", 0) + 1, dtype));
}

}  // namespace

double aiconfigurator_us(const CsvRow& row, const CsvTable& table) {
  const bool us = table.has("latency_us");
  const char* column = us ? "latency_us" : "latency";
  const double value = row.number(column) * (us ? 1 : 1e3);
  if (value <= 0) throw row.error(column, "expected a time above 0");
  return value;
}

bool read_aiconfigurator(const CsvTable& table, Measurements& into) {
  const bool timed = table.has("latency") || table.has("latency_us");
  const bool gemm = timed && table.has_all({"m", "n", "k"});
  const bool attention_file =
      timed && table.has_all({"batch_size", "num_heads", "num_key_value_heads", "head_dim"}) &&
      (table.has("isl") || table.has("step")) && (!table.has_all({"isl", "step"}) || table.has("op_name"));
  const bool linear = timed && is_linear(table);
  const bool moe = timed && table.has_all({"num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
                                           "moe_tp_size", "moe_ep_size", "distribution"});
  const bool simulated = gemm || attention_file || linear || moe;
  const std::string later = simulated ? "" : later_kind(table);
  if (!simulated && later.empty()) return false;

  for (std::size_t i = 0; i < table.size(); ++i) {
    const CsvRow row = table.row(i);
    if (!later.empty()) {
      into.skip(table.file(), later, "this build does not simulate the kind");
      continue;
    }
    if (linear) {
      std::optional<Measurement> m = linear_row(row);
      if (!m) {
        into.skip(table.file(), "kda", fmt::format("kernel {} is not simulated", row.text("kernel_source")));
        continue;
      }
      m->file = table.file();
      m->line = row.line();
      m->measured_us = aiconfigurator_us(row, table);
      require_possible(*m, [&](const std::string& message) { return row.error("", message); });
      into.rows.push_back(std::move(*m));
      continue;
    }
    const models::Dtype dtype = dtype_of(row, table);
    Measurement m = gemm  ? gemm_row(row.integer("m"), row.integer("n"), row.integer("k"), dtype)
                    : moe ? moe_row(row)
                          : attention(row, table, dtype);
    m.file = table.file();
    m.line = row.line();
    m.measured_us = aiconfigurator_us(row, table);
    if (!moe) {
      m.conditions.replays_before = kWarmUps;
      m.conditions.replays_timed = gemm ? kReplays : kAttentionReplays;
    }
    require_possible(m, [&](const std::string& message) { return row.error("", message); });
    if (gemm) {
      const auto& g = std::get<models::Gemm>(m.op);
      m.conditions.weights_in_turn = kWeightCopies * g.n * g.k * models::bytes_of(dtype);
    }
    std::string reason = unsupported(row, table);
    if (!gemm && !moe && reason.empty() && table.has("kernel_source") && row.text("kernel_source") != "fa3" &&
        row.text("kernel_source") != "flash_attention") {
      reason = fmt::format("kernel {} is not simulated", row.text("kernel_source"));
    }
    if (reason.empty())
      into.rows.push_back(std::move(m));
    else
      into.skip(table.file(), m.kind, reason);
  }
  return true;
}

}  // namespace tessera::validate
