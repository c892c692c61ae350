#include "models/operators/latent.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::models {

namespace {

/// The end of a signature.
template <class Op>
std::string algorithm_of(const Op& op) {
  return op.algorithm == LatentAlgorithm::by_gpu ? "" : fmt::format(" {}", name_of(op.algorithm));
}

template <class Op>
void require_not(const Op& op, LatentAlgorithm other) {
  if (op.algorithm == other) {
    throw std::invalid_argument{fmt::format("{}: algorithm {} is of the {} form", kind(op), name_of(other),
                                            other == LatentAlgorithm::triton ? "absorbed" : "naive")};
  }
}

}  // namespace

Attention LatentAttention::scores() const {
  return {.batch = batch,
          .q_rows = q_rows,
          .kv_rows = kv_rows,
          .heads = heads,
          .kv_heads = heads,
          .head_dim = nope + rope,
          .causal = causal,
          .partial = partial,
          .q_positions = q_positions,
          .kv_positions = kv_positions,
          .dtype = dtype};
}

std::string_view name_of(LatentAlgorithm algorithm) {
  switch (algorithm) {
    case LatentAlgorithm::by_gpu:
      return "auto";
    case LatentAlgorithm::flash3:
      return "fa3";
    case LatentAlgorithm::flash2:
      return "fa2";
    case LatentAlgorithm::triton:
      return "triton";
  }
  return "";
}

std::string_view kind(const LatentAttention&) { return "mla_prefill"; }
std::string_view kind(const LatentDecode&) { return "mla_decode"; }

double flops(const LatentAttention& op) {
  return 2 * product({op.batch, op.heads, op.scores().visible_pairs(), op.nope + op.rope + op.value});
}
double flops(const LatentDecode& op) {
  const std::int64_t pairs =
      op.q_rows * op.context - (op.causal ? op.q_rows * (op.q_rows - 1) / 2 : std::int64_t{0});
  return 2 * product({op.batch, op.heads, pairs, 2 * op.latent + op.rope});
}

std::vector<Operand> operands(const LatentAttention& op) {
  const std::int64_t e = bytes_of(op.dtype), q_heads = op.batch * op.q_rows * op.heads,
                     kv_heads = op.batch * op.kv_rows * op.heads, qk = op.nope + op.rope;
  std::vector<Operand> o{{"q", q_heads * qk * e, false},
                         {"k", kv_heads * qk * e, false},
                         {"v", kv_heads * op.value * e, false},
                         {"out", q_heads * op.value * e, true}};
  if (op.partial) o.push_back({"max_expsum", q_heads * kStatsBytes, true});
  return o;
}

std::vector<Operand> operands(const LatentDecode& op) {
  const std::int64_t e = bytes_of(op.dtype), rows = op.batch * op.q_rows,
                     cached = op.batch * op.context * (op.latent + op.rope) * e;
  std::vector<Operand> o{{"q_latent", rows * op.heads * op.latent * e, false},
                         {"q_rope", rows * op.heads * op.rope * e, false},
                         {"latent_cache", cached, false},
                         {"out", rows * op.heads * op.latent * e, true}};
  if (op.partial) o.push_back({"max_expsum", rows * op.heads * kStatsBytes, true});
  if (op.paged) {
    // A place per new row, an entry per page, and per sequence its lengths and its part of the schedule.
    const std::int64_t pages = (op.context + kPageRows - 1) / kPageRows;
    o.push_back({"latent_new", rows * (op.latent + op.rope) * e, false});
    o.push_back({"tables", 4 * op.batch * (op.q_rows + pages + kSequenceWords), false});
  }
  return o;
}

std::string signature(const LatentAttention& op) {
  std::string s = fmt::format("mla_prefill b{} q{} kv{} h{} {}+{}/{} {}{} {}", op.batch, op.q_rows,
                              op.kv_rows, op.heads, op.nope, op.rope, op.value, op.causal ? "causal" : "full",
                              op.partial ? " partial" : "", name_of(op.dtype));
  if (op.causal && (op.q_positions || op.kv_positions))
    s += fmt::format(" at {:016x}/{:016x}", hash_of(op.q_positions), hash_of(op.kv_positions));
  return s + algorithm_of(op);
}
std::string signature(const LatentDecode& op) {
  return fmt::format("mla_decode b{} q{} c{} h{} {}+{} {}{}{} {}{}", op.batch, op.q_rows, op.context,
                     op.heads, op.latent, op.rope, op.causal ? "causal" : "full",
                     op.partial ? " partial" : "", op.paged ? " paged" : "", name_of(op.dtype),
                     algorithm_of(op));
}

void require_possible(const LatentAttention& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "kv_rows", op.kv_rows);
  require_positive(name, "heads", op.heads);
  require_positive(name, "nope", op.nope);
  require_positive(name, "rope", op.rope);
  require_positive(name, "value", op.value);
  require_positions(name, "q_positions", op.q_positions, op.q_rows);
  require_positions(name, "kv_positions", op.kv_positions, op.kv_rows);
  require_not(op, LatentAlgorithm::triton);
  if (op.causal && !op.q_positions && !op.kv_positions && op.q_rows > op.kv_rows) {
    throw std::invalid_argument{fmt::format("{}: {} causal q rows need at least as many kv rows, not {}",
                                            name, op.q_rows, op.kv_rows)};
  }
}
void require_possible(const LatentDecode& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "context", op.context);
  require_positive(name, "heads", op.heads);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "latent", op.latent);
  require_positive(name, "rope", op.rope);
  if (op.causal && op.q_rows > op.context) {
    throw std::invalid_argument{fmt::format("{}: {} causal q rows need a context of at least as many, not {}",
                                            name, op.q_rows, op.context)};
  }
  require_not(op, LatentAlgorithm::flash2);
  if (op.paged && op.partial)
    throw std::invalid_argument{fmt::format("{}: a paged call is not partial", name)};
}

}  // namespace tessera::models
