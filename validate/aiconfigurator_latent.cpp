// Latent attention in the layout of ai-dynamo/aiconfigurator's measurements.
//
// Its collector (collector/sglang/collect_mla.py) gives SGLang's FlashAttention backend, on Hopper, queries
// of 512 + 64 columns in both phases: prefill too is the absorbed form over the paged latent cache, not the
// naive one of 192 and 128 columns. The up-projections are not in the time; the cache write is.

#include <fmt/format.h>

#include "validate/formats.hpp"
#include "validate/shapes.hpp"

namespace tessera::validate {

namespace {

/// Upstream files have both `isl` and `step`, and tell the two phases apart by name.
bool is_prefill(const CsvRow& row, const CsvTable& table) {
  if (!table.has("step")) return true;
  if (!table.has("isl")) return false;
  const std::string& name = row.text("op_name");
  if (name == "mla_context") return true;
  if (name == "mla_generation") return false;
  throw row.error("op_name", "expected mla_context or mla_generation");
}

std::string unsimulated(const CsvRow& row, const CsvTable& table) {
  for (const char* column : {"mla_dtype", "kv_cache_dtype"}) {
    if (table.has(column) && row.text(column) != "bfloat16" && row.text(column) != "float16")
      return fmt::format("{} {} is not simulated", column, row.text(column));
  }
  if (table.has("kernel_source") && row.text("kernel_source") != "flash_attention" &&
      row.text("kernel_source") != "fa3")
    return fmt::format("kernel {} is not simulated", row.text("kernel_source"));
  return "";
}

}  // namespace

bool read_aiconfigurator_latent(const CsvTable& table, Measurements& into) {
  if (!table.has_all({"num_heads", "batch_size", "tp_size"}) || table.has("head_dim") ||
      !(table.has("isl") || table.has("step")) || !(table.has("latency") || table.has("latency_us")) ||
      (table.has_all({"isl", "step"}) && !table.has("op_name")))
    return false;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const CsvRow row = table.row(i);
    const std::int64_t batch = row.integer("batch_size"), heads = row.integer("num_heads");
    // Both dtypes are 16 bits wide, and "float16" is what the collector writes for bf16.
    constexpr models::Dtype kDtype = models::Dtype::bf16;
    Measurement m = is_prefill(row, table)
                        ? latent_prefill_row(batch, row.integer("isl"), heads, kDtype)
                        : latent_decode_row(batch, row.integer("step", 0) + 1, heads, kDtype);
    m.file = table.file();
    m.line = row.line();
    m.measured_us = aiconfigurator_us(row, table);
    require_possible(m, [&](const std::string& message) { return row.error("", message); });
    if (const std::string reason = unsimulated(row, table); !reason.empty())
      into.skip(table.file(), m.kind, reason);
    else
      into.rows.push_back(std::move(m));
  }
  return true;
}

}  // namespace tessera::validate
