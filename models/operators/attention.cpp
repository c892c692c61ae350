#include "models/operators/attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::models {

namespace {

/// A call through a paged cache reads q and the new k and v rows, and the cache, which it also extends; and
/// tables: a place per new row, an entry per page, and per sequence its lengths and its part of the schedule.
template <class A>
std::vector<Operand> paged_operands(const A& a, std::int64_t new_rows, std::int64_t context) {
  const std::int64_t row = a.head_dim * bytes_of(a.dtype);
  const std::int64_t q = a.batch * new_rows * a.heads * row, kv_new = a.batch * new_rows * a.kv_heads * row,
                     cache = a.batch * context * a.kv_heads * row;
  const std::int64_t pages = (context + kPageRows - 1) / kPageRows;
  const std::int64_t tables = 4 * a.batch * (new_rows + pages + kSequenceWords);
  return {{"q", q, false},           {"k_new", kv_new, false},  {"v_new", kv_new, false},
          {"k_cache", cache, false}, {"v_cache", cache, false}, {"tables", tables, false},
          {"out", q, true}};
}

template <class A>
std::vector<Operand> plain_operands(const A& a, std::int64_t q_rows, std::int64_t kv_rows) {
  const std::int64_t row = a.head_dim * bytes_of(a.dtype);
  const std::int64_t q = a.batch * q_rows * a.heads * row, kv = a.batch * kv_rows * a.kv_heads * row;
  std::vector<Operand> o{{"q", q, false}, {"k", kv, false}, {"v", kv, false}, {"out", q, true}};
  if (a.partial) o.push_back({"max_expsum", a.batch * q_rows * a.heads * kStatsBytes, true});
  return o;
}

template <class A>
std::string heads_text(const A& a) {
  return fmt::format("h{}/{}x{}", a.heads, a.kv_heads, a.head_dim);
}

}  // namespace

std::int64_t Attention::visible(std::int64_t q) const {
  if (!causal) return kv_rows;
  if (!q_positions && !kv_positions) return std::clamp<std::int64_t>(q + 1 + kv_rows - q_rows, 0, kv_rows);
  const std::int64_t position = q_positions ? (*q_positions)[static_cast<std::size_t>(q)] : q;
  if (!kv_positions) return std::clamp<std::int64_t>(position + 1, 0, kv_rows);
  return std::upper_bound(kv_positions->begin(), kv_positions->end(), position) - kv_positions->begin();
}

std::int64_t Attention::visible_pairs() const {
  if (!causal) return q_rows * kv_rows;
  if (!q_positions && !kv_positions && kv_rows >= q_rows)
    return q_rows * (kv_rows - q_rows) + q_rows * (q_rows + 1) / 2;
  std::int64_t pairs = 0;
  for (std::int64_t q = 0; q < q_rows; ++q) pairs += visible(q);
  return pairs;
}

std::string_view kind(const Attention&) { return "attention_prefill"; }
std::string_view kind(const AttentionDecode&) { return "attention_decode"; }
std::string_view kind(const Merge&) { return "merge"; }

double flops(const Attention& op) {
  return 4 * product({op.batch, op.heads, op.head_dim, op.visible_pairs()});
}
double flops(const AttentionDecode& op) { return 4 * product({op.batch, op.heads, op.head_dim, op.context}); }
// Per element and part: one FMA. Per row, head and part: the weight's exponential and two FMAs.
double flops(const Merge& op) {
  return product({op.rows, op.heads, op.parts}) * (2 * static_cast<double>(op.head_dim) + 5);
}

std::vector<Operand> operands(const Attention& op) {
  return op.paged ? paged_operands(op, op.q_rows, op.kv_rows) : plain_operands(op, op.q_rows, op.kv_rows);
}
std::vector<Operand> operands(const AttentionDecode& op) {
  return op.paged ? paged_operands(op, 1, op.context) : plain_operands(op, 1, op.context);
}
std::vector<Operand> operands(const Merge& op) {
  const std::int64_t out = op.rows * op.heads * op.head_dim * bytes_of(op.dtype);
  return {{"parts", op.parts * out, false},
          {"max_expsum", op.parts * op.rows * op.heads * kStatsBytes, false},
          {"out", out, true}};
}

std::string signature(const Attention& op) {
  std::string s = fmt::format("attention_prefill b{} q{} kv{} {} {}{}{} fa{}{} {}", op.batch, op.q_rows,
                              op.kv_rows, heads_text(op), op.causal ? "causal" : "full",
                              op.partial ? " partial" : "", op.paged ? " paged" : "", op.flash_version,
                              op.first_release ? " first release" : "", name_of(op.dtype));
  if (op.causal && (op.q_positions || op.kv_positions))
    s += fmt::format(" at {:016x}/{:016x}", hash_of(op.q_positions), hash_of(op.kv_positions));
  return s;
}
std::string signature(const AttentionDecode& op) {
  return fmt::format("attention_decode b{} c{} {}{}{} {}", op.batch, op.context, heads_text(op),
                     op.partial ? " partial" : "", op.paged ? " paged" : "", name_of(op.dtype));
}
std::string signature(const Merge& op) {
  return fmt::format("merge {}x{}x{} parts {} {}", op.rows, op.heads, op.head_dim, op.parts,
                     name_of(op.dtype));
}

void require_possible(const Attention& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "kv_rows", op.kv_rows);
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
  require_positions(name, "q_positions", op.q_positions, op.q_rows);
  require_positions(name, "kv_positions", op.kv_positions, op.kv_rows);
  if (op.paged && (!op.causal || op.partial || op.flash_version != 3 || op.q_positions || op.kv_positions)) {
    throw std::invalid_argument{fmt::format("{}: a paged call is causal, whole and FlashAttention-3", name)};
  }
  if (op.causal && !op.q_positions && !op.kv_positions && op.q_rows > op.kv_rows) {
    throw std::invalid_argument{fmt::format("{}: {} causal q rows need at least as many kv rows, not {}",
                                            name, op.q_rows, op.kv_rows)};
  }
}
void require_possible(const AttentionDecode& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "context", op.context);
  if (op.paged && op.partial)
    throw std::invalid_argument{fmt::format("{}: a paged call is not partial", name)};
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
}
void require_possible(const Merge& op) {
  const std::string_view name = kind(op);
  require_positive(name, "rows", op.rows);
  require_positive(name, "heads", op.heads);
  require_positive(name, "head_dim", op.head_dim);
  require_positive(name, "parts", op.parts);
}

}  // namespace tessera::models
