#include "models/operators/token_sparse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::models {

std::int64_t NativeSparse::selected_seen(std::int64_t row) const {
  const std::int64_t own = row / block;
  return std::min(selected - 1, own) * block + row % block + 1;
}

std::string_view kind(const NativeSparse&) { return "nsa_prefill"; }
std::string_view kind(const IndexedLatent& op) { return op.q_rows == 1 ? "dsa_decode" : "dsa_prefill"; }

double flops(const NativeSparse& op) {
  double pairs = 0;
  for (std::int64_t row = 0; row < op.seq; ++row)
    pairs +=
        static_cast<double>(op.compressed_seen(row) + op.selected_seen(row) + std::min(op.window, row + 1));
  // Compression is a mean here: an addition for each element it covers.
  return 4 * pairs * product({op.batch, op.heads, op.head_dim}) +
         2 * product({op.batch, op.compressed_keys(), op.compressed, op.kv_heads, op.head_dim});
}
double flops(const IndexedLatent& op) {
  double scored = 0, attended = 0;
  for (std::int64_t q = 0; q < op.q_rows; ++q) {
    scored += static_cast<double>(op.visible(q));
    attended += static_cast<double>(std::min(op.selected, op.visible(q)));
  }
  return static_cast<double>(op.batch) * (2 * scored * product({op.index_heads, op.index_dim}) +
                                          2 * attended * product({op.heads, 2 * op.latent + op.rope}));
}

std::vector<Operand> operands(const NativeSparse& op) {
  const std::int64_t e = bytes_of(op.dtype), rows = op.batch * op.seq, q = rows * op.heads * op.head_dim * e,
                     kv = rows * op.kv_heads * op.head_dim * e;
  return {{"q", q, false},
          {"k", kv, false},
          {"v", kv, false},
          {"gates", rows * op.heads * 3 * e, false},
          {"out", q, true}};
}
std::vector<Operand> operands(const IndexedLatent& op) {
  const std::int64_t e = bytes_of(op.dtype), i = bytes_of(op.index_dtype), rows = op.batch * op.q_rows,
                     cached = op.batch * op.context;
  return {{"q_latent", rows * op.heads * op.latent * e, false},
          {"q_rope", rows * op.heads * op.rope * e, false},
          {"cache", cached * (op.latent + op.rope) * e, false},
          {"index_q", rows * op.index_heads * op.index_dim * i, false},
          {"index_weights", rows * op.index_heads * 4, false},
          {"index_k", cached * op.index_dim * i, false},
          {"out", rows * op.heads * op.latent * e, true}};
}

std::string signature(const NativeSparse& op) {
  return fmt::format("nsa_prefill b{} s{} h{}/{}x{} compress {}/{} block {} take {} window {} {}", op.batch,
                     op.seq, op.heads, op.kv_heads, op.head_dim, op.compressed, op.stride, op.block,
                     op.selected, op.window, name_of(op.dtype));
}
std::string signature(const IndexedLatent& op) {
  return fmt::format("{} b{} q{} c{} h{} index {}x{} {} take {} latent {}+{} {}", kind(op), op.batch,
                     op.q_rows, op.context, op.heads, op.index_heads, op.index_dim, name_of(op.index_dtype),
                     op.selected, op.latent, op.rope, name_of(op.dtype));
}

void require_possible(const NativeSparse& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "seq", op.seq);
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
  require_positive(name, "compressed", op.compressed);
  require_positive(name, "stride", op.stride);
  require_positive(name, "block", op.block);
  require_positive(name, "selected", op.selected);
  require_positive(name, "window", op.window);
  if (op.compressed % op.stride != 0 || op.block % op.stride != 0)
    throw std::invalid_argument{fmt::format("{}: compressed {} and block {} must be multiples of stride {}",
                                            name, op.compressed, op.block, op.stride)};
}
void require_possible(const IndexedLatent& op) {
  const std::string_view name = kind(op);
  require_positive(name, "batch", op.batch);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "context", op.context);
  require_positive(name, "heads", op.heads);
  require_positive(name, "index_heads", op.index_heads);
  require_positive(name, "index_dim", op.index_dim);
  require_positive(name, "selected", op.selected);
  require_positive(name, "latent", op.latent);
  require_positive(name, "rope", op.rope);
  if (op.q_rows > op.context)
    throw std::invalid_argument{
        fmt::format("{}: {} rows are no part of a context of {}", name, op.q_rows, op.context)};
}

}  // namespace tessera::models
