#include "models/operators/block_sparse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::models {

namespace {

std::int64_t blocks_of(std::int64_t rows, std::int64_t block, const Positions& positions) {
  return static_cast<std::int64_t>(rows_per_block(rows, block, positions).size());
}

/// Earlier whole blocks, summed over rows.
double scored_blocks(std::int64_t rows, std::int64_t block, const Positions& positions) {
  const RowsPerBlock r = rows_per_block(rows, block, positions);
  double sum = 0;
  for (std::size_t b = 0; b < r.size(); ++b) sum += static_cast<double>(r[b]) * static_cast<double>(b);
  return sum;
}

/// FNV-1a over whole numbers.
std::uint64_t fnv1a(const std::vector<std::int64_t>& numbers) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const std::int64_t n : numbers) h = (h ^ static_cast<std::uint64_t>(n)) * 0x100000001b3ULL;
  return h;
}

std::string positions_text(const Positions& positions) {
  return positions ? fmt::format(" at {:016x}", hash_of(positions)) : std::string{};
}

template <class Op>
std::string heads_text(const Op& op) {
  return fmt::format("h{}/{}x{} block {} top {}", op.heads, op.kv_heads, op.head_dim, op.block, op.topk);
}

/// Lists must be of this call's heads and rows, and name earlier blocks only, at most topk - 1 of them.
void require_selection(std::string_view name, const Selection& s, std::int64_t heads, std::int64_t rows,
                       std::int64_t block, std::int64_t topk) {
  if (s.kind != SelectionKind::lists) {
    if (!(s.skew >= 0 && s.skew <= 10))
      throw std::invalid_argument{fmt::format("{}: skew must be from 0 to 10, not {}", name, s.skew)};
    return;
  }
  if (!s.lists) throw std::invalid_argument{fmt::format("{}: a selection of lists without lists", name)};
  const SelectionLists& l = *s.lists;
  if (l.heads != heads || l.rows < rows) {
    throw std::invalid_argument{fmt::format("{}: the selection is of {} heads and {} rows, not of {} and {}",
                                            name, l.heads, l.rows, heads, rows)};
  }
  for (std::int64_t i = 0; i < l.heads * l.rows; ++i) {
    const std::uint64_t first = l.offsets[static_cast<std::size_t>(i)],
                        last = l.offsets[static_cast<std::size_t>(i) + 1];
    const std::int64_t row = i % l.rows;
    if (static_cast<std::int64_t>(last - first) >= topk)
      throw std::invalid_argument{fmt::format("{}: head {} row {} takes {} past blocks, top-k {} at most {}",
                                              name, i / l.rows, row, last - first, topk, topk - 1)};
    for (std::uint64_t b = first; b < last; ++b) {
      if (l.blocks[b] >= row / block)
        throw std::invalid_argument{fmt::format("{}: head {} row {} lies in block {} and takes block {}",
                                                name, i / l.rows, row, row / block, l.blocks[b])};
    }
  }
}

/// Of every block what does not depend on the selection.
std::vector<BlockRows> held_rows(const BlockSparseAttention& op) {
  RowsPerBlock q = rows_per_block(op.q_rows, op.block, op.q_positions),
               k = rows_per_block(op.kv_rows, op.block, op.kv_positions);
  const std::size_t blocks = std::max(q.size(), k.size());
  q.resize(blocks);
  k.resize(blocks);
  std::vector<BlockRows> all(blocks);
  std::int64_t first_q = 0, first_k = 0;
  for (std::size_t b = 0; b < blocks; ++b) {
    all[b] = {0, q[b], k[b], 0};
    if (!op.q_positions && !op.kv_positions && q[b] == k[b]) {
      all[b].own_pairs = q[b] * (q[b] + 1) / 2;
    } else if (q[b] > 0 && k[b] > 0) {
      std::int64_t seen = 0;
      const auto at = [](const Positions& p, std::int64_t i) {
        return p ? std::int64_t{(*p)[static_cast<std::size_t>(i)]} : i;
      };
      for (std::int64_t r = first_q; r < first_q + q[b]; ++r) {
        while (seen < k[b] && at(op.kv_positions, first_k + seen) <= at(op.q_positions, r)) ++seen;
        all[b].own_pairs += seen;
      }
    }
    first_q += q[b];
    first_k += k[b];
  }
  return all;
}

/// Where a node's rows lie, as far as it matters: how many are in each block. Null positions: nothing to say.
std::string blocks_text(std::int64_t rows, std::int64_t block, const Positions& positions) {
  if (!positions) return {};
  const RowsPerBlock r = rows_per_block(rows, block, positions);
  return fmt::format(" in {:016x}", fnv1a(r));
}

template <class Op>
void require_blocks(const Op& op) {
  require_positive(kind(op), "batch", op.batch);
  require_positive(kind(op), "block", op.block);
}

}  // namespace

std::vector<BlockRows> block_rows(const Moba& op, std::int64_t sequence, std::int64_t head) {
  const RowsPerBlock rows = rows_per_block(op.seq, op.block);
  const std::vector<std::int64_t> routed =
      routed_rows(op.selection, sequence * op.heads + head, op.topk, rows);
  std::vector<BlockRows> all(rows.size());
  for (std::size_t b = 0; b < rows.size(); ++b)
    all[b] = {routed[b], rows[b], rows[b], rows[b] * (rows[b] + 1) / 2};
  return all;
}

std::vector<BlockRows> block_rows(const BlockSparseAttention& op, std::int64_t sequence, std::int64_t head) {
  std::vector<BlockRows> all = held_rows(op);
  // By the rows' own blocks only: what a row chooses is the same on every node that it is sent to.
  const RowsPerBlock q = rows_per_block(op.q_rows, op.block, op.q_positions);
  const std::vector<std::int64_t> routed =
      routed_rows(op.selection, sequence * op.heads + head, op.topk, q, op.q_positions);
  for (std::size_t b = 0; b < q.size(); ++b) all[b].routed = routed[b];
  return all;
}

std::string_view kind(const Moba&) { return "moba_prefill"; }
std::string_view kind(const BlockPool&) { return "block_pool"; }
std::string_view kind(const BlockGate&) { return "block_gate"; }
std::string_view kind(const BlockSparseAttention&) { return "block_sparse_attention"; }

namespace {

template <class Op>
double attention_flops(const Op& op) {
  double pairs = 0;
  for (std::int64_t s = 0; s < op.batch; ++s) {
    for (std::int64_t h = 0; h < op.heads; ++h) {
      for (const BlockRows& b : block_rows(op, s, h))
        pairs +=
            static_cast<double>(b.routed) * static_cast<double>(b.keys) + static_cast<double>(b.own_pairs);
      // Of a distribution over a whole sequence every head has as many pairs.
      if constexpr (requires { op.seq; }) {
        if (op.selection.kind != SelectionKind::lists)
          return 4 * pairs * product({op.batch, op.heads, op.head_dim});
      }
    }
  }
  return 4 * pairs * static_cast<double>(op.head_dim);
}

}  // namespace

double flops(const Moba& op) {
  return attention_flops(op) +
         2 * product({op.batch, op.heads, op.head_dim}) * scored_blocks(op.seq, op.block, nullptr) +
         product({op.batch, op.seq, op.kv_heads, op.head_dim});
}
double flops(const BlockPool& op) { return product({op.batch, op.kv_rows, op.kv_heads, op.head_dim}); }
double flops(const BlockGate& op) {
  return 2 * product({op.batch, op.heads, op.head_dim}) * scored_blocks(op.q_rows, op.block, op.q_positions);
}
double flops(const BlockSparseAttention& op) { return attention_flops(op); }

std::vector<Operand> operands(const Moba& op) {
  const std::int64_t row = op.head_dim * bytes_of(op.dtype), q = op.batch * op.seq * op.heads * row,
                     kv = op.batch * op.seq * op.kv_heads * row;
  return {{"q", q, false}, {"k", kv, false}, {"v", kv, false}, {"out", q, true}};
}
std::vector<Operand> operands(const BlockPool& op) {
  const std::int64_t blocks = blocks_of(op.kv_rows, op.block, op.kv_positions);
  return {{"k", op.batch * op.kv_rows * op.kv_heads * op.head_dim * bytes_of(op.dtype), false},
          {"sums", op.batch * blocks * op.kv_heads * (op.head_dim + 1) * 4, true}};
}
std::vector<Operand> operands(const BlockGate& op) {
  const std::int64_t row = op.head_dim * bytes_of(op.dtype);
  const std::int64_t blocks = blocks_of(op.q_rows, op.block, op.q_positions);
  return {{"q", op.batch * op.q_rows * op.heads * row, false},
          {"means", op.batch * blocks * op.kv_heads * row, false},
          {"selected", op.batch * op.q_rows * op.heads * op.topk * 4, true}};
}
std::vector<Operand> operands(const BlockSparseAttention& op) {
  const std::int64_t row = op.head_dim * bytes_of(op.dtype), q = op.batch * op.q_rows * op.heads,
                     kv = op.batch * op.kv_rows * op.kv_heads * row;
  return {{"q", q * row, false},  {"k", kv, false},
          {"v", kv, false},       {"selected", q * op.topk * 4, false},
          {"out", q * row, true}, {"max_expsum", q * kStatsBytes, true}};
}

std::string signature(const Moba& op) {
  return fmt::format("moba_prefill b{} s{} {} {} {} {}", op.batch, op.seq, heads_text(op),
                     op.variant == MobaVariant::fused ? "fused" : "five_step", signature(op.selection),
                     name_of(op.dtype));
}
std::string signature(const BlockPool& op) {
  return fmt::format("block_pool b{} kv{} {}x{} block {}{} {}", op.batch, op.kv_rows, op.kv_heads,
                     op.head_dim, op.block, blocks_text(op.kv_rows, op.block, op.kv_positions),
                     name_of(op.dtype));
}
std::string signature(const BlockGate& op) {
  return fmt::format("block_gate b{} q{} {}{} {}", op.batch, op.q_rows, heads_text(op),
                     blocks_text(op.q_rows, op.block, op.q_positions), name_of(op.dtype));
}
std::string signature(const BlockSparseAttention& op) {
  std::string rows;
  if (op.selection.kind == SelectionKind::lists) {
    rows = positions_text(op.q_positions) + positions_text(op.kv_positions);
  } else if (op.q_positions || op.kv_positions) {
    // Not how many pairs of a row's own block the causal mask leaves: the kernels go through them all.
    std::vector<std::int64_t> numbers;
    for (const BlockRows& b : held_rows(op)) numbers.insert(numbers.end(), {b.own, b.keys});
    rows = fmt::format(" in {:016x}", fnv1a(numbers));
  }
  return fmt::format("block_sparse_attention b{} q{} kv{} {} {}{} {}", op.batch, op.q_rows, op.kv_rows,
                     heads_text(op), signature(op.selection), rows, name_of(op.dtype));
}

void require_possible(const Moba& op) {
  const std::string_view name = kind(op);
  require_blocks(op);
  require_positive(name, "seq", op.seq);
  require_positive(name, "topk", op.topk);
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
  require_selection(name, op.selection, op.batch * op.heads, op.seq, op.block, op.topk);
}
void require_possible(const BlockPool& op) {
  const std::string_view name = kind(op);
  require_blocks(op);
  require_positive(name, "kv_rows", op.kv_rows);
  require_heads(name, op.kv_heads, op.kv_heads, op.head_dim);
  require_positions(name, "kv_positions", op.kv_positions, op.kv_rows);
}
void require_possible(const BlockGate& op) {
  const std::string_view name = kind(op);
  require_blocks(op);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "topk", op.topk);
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
  require_positions(name, "q_positions", op.q_positions, op.q_rows);
}
void require_possible(const BlockSparseAttention& op) {
  const std::string_view name = kind(op);
  require_blocks(op);
  require_positive(name, "q_rows", op.q_rows);
  require_positive(name, "kv_rows", op.kv_rows);
  require_positive(name, "topk", op.topk);
  require_heads(name, op.heads, op.kv_heads, op.head_dim);
  require_positions(name, "q_positions", op.q_positions, op.q_rows);
  require_positions(name, "kv_positions", op.kv_positions, op.kv_rows);
  const std::int64_t rows = op.q_positions ? op.q_positions->back() + std::int64_t{1} : op.q_rows;
  require_selection(name, op.selection, op.batch * op.heads, rows, op.block, op.topk);
}

}  // namespace tessera::models
