#include "models/reference/block_sparse.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace tessera::models::reference {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

std::int64_t rows_of(const Rows& r) { return static_cast<std::int64_t>(r.positions.size()); }

std::int64_t blocks_in(std::int64_t tokens, std::int64_t block) { return (tokens + block - 1) / block; }

/// The rows numbered `which`.
Rows take(const Rows& all, const std::vector<std::int32_t>& which, std::int64_t width) {
  Rows r;
  for (const std::int32_t i : which) {
    r.positions.push_back(all.positions[z(i)]);
    r.values.insert(r.values.end(), all.values.begin() + i * width, all.values.begin() + (i + 1) * width);
  }
  return r;
}

/// Columns first .. first + width - 1.
Rows columns(const Rows& all, std::int64_t row_width, std::int64_t first, std::int64_t width) {
  Rows r{all.positions, {}};
  for (std::int64_t i = 0; i < rows_of(all); ++i)
    for (std::int64_t c = 0; c < width; ++c) r.values.push_back(all.values[z(i * row_width + first + c)]);
  return r;
}

double score(Gate gate, const double* q, const BlockSummary& s, std::int64_t block, std::int64_t kv_head,
             const HeadShape& shape) {
  const std::size_t at = z((block * shape.kv_heads + kv_head) * shape.head_dim);
  double sum = 0;
  for (std::size_t d = 0; d < z(shape.head_dim); ++d) {
    sum += gate == Gate::mean ? q[d] * s.sum[at + d] / static_cast<double>(s.count[z(block)])
                              : std::max(q[d] * s.least[at + d], q[d] * s.most[at + d]);
  }
  return sum;
}

/// Earlier blocks, the ones taken first in front.
std::vector<std::int32_t> ranked(const HeadShape& shape, const BlockSparse& rule, const double* q,
                                 std::int64_t kv_head, std::int64_t own, const BlockSummary& summary) {
  std::vector<std::int32_t> order(z(own));
  std::iota(order.begin(), order.end(), 0);
  if (rule.gate == Gate::recent || rule.gate == Gate::sink) {
    const std::int64_t sinks = rule.gate == Gate::sink ? std::min(rule.sinks, own) : 0;
    std::reverse(order.begin() + sinks, order.end());
    return order;
  }
  std::vector<double> scores(order.size());
  for (std::size_t b = 0; b < order.size(); ++b)
    scores[b] = score(rule.gate, q, summary, static_cast<std::int64_t>(b), kv_head, shape);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return scores[z(a)] > scores[z(b)]; });
  return order;
}

bool full(const BlockSparse& rule, std::int64_t position) {
  return rule.full_from <= position && position < rule.full_to;
}

}  // namespace

BlockSummary pool(const HeadShape& shape, const BlockSparse& rule, const Rows& k, std::int64_t blocks) {
  const std::int64_t width = shape.kv_width();
  BlockSummary s{std::vector<std::int64_t>(z(blocks)), std::vector<double>(z(blocks * width)),
                 std::vector<double>(z(blocks * width), kInfinity),
                 std::vector<double>(z(blocks * width), -kInfinity)};
  for (std::int64_t r = 0; r < rows_of(k); ++r) {
    const std::int64_t block = k.positions[z(r)] / rule.block;
    ++s.count[z(block)];
    for (std::int64_t c = 0; c < width; ++c) {
      const double x = k.values[z(r * width + c)];
      const std::size_t at = z(block * width + c);
      s.sum[at] += x;
      s.least[at] = std::min(s.least[at], x);
      s.most[at] = std::max(s.most[at], x);
    }
  }
  return s;
}

BlockSummary combine(const std::vector<BlockSummary>& parts) {
  BlockSummary all = parts.front();
  for (std::size_t p = 1; p < parts.size(); ++p) {
    for (std::size_t b = 0; b < all.count.size(); ++b) all.count[b] += parts[p].count[b];
    for (std::size_t i = 0; i < all.sum.size(); ++i) {
      all.sum[i] += parts[p].sum[i];
      all.least[i] = std::min(all.least[i], parts[p].least[i]);
      all.most[i] = std::max(all.most[i], parts[p].most[i]);
    }
  }
  return all;
}

SelectionLists select(const HeadShape& shape, const BlockSparse& rule, const Rows& q,
                      const BlockSummary& summary, std::int64_t tokens) {
  std::vector<std::vector<std::int32_t>> lists(z(shape.heads * tokens));
  for (std::int64_t r = 0; r < rows_of(q); ++r) {
    const std::int64_t position = q.positions[z(r)], own = position / rule.block;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      std::vector<std::int32_t> order =
          ranked(shape, rule, &q.values[z(r * shape.q_width() + h * shape.head_dim)],
                 h / (shape.heads / shape.kv_heads), own, summary);
      if (!full(rule, position)) order.resize(std::min(order.size(), z(rule.topk - 1)));
      lists[z(h * tokens + position)] = std::move(order);
    }
  }
  SelectionLists s{shape.heads, tokens, {0}, {}};
  for (const auto& list : lists) {
    s.blocks.insert(s.blocks.end(), list.begin(), list.end());
    s.offsets.push_back(s.blocks.size());
  }
  return s;
}

Partial selected_attention(const HeadShape& s, const BlockSparse& rule, const SelectionLists& selection,
                           const Rows& q, const Rows& k, const Rows& v) {
  const std::int64_t rows = rows_of(q);
  Partial p{std::vector<double>(z(rows * s.q_width())), std::vector<double>(z(rows * s.heads), -kInfinity),
            std::vector<double>(z(rows * s.heads))};
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t position = q.positions[z(r)], own = position / rule.block;
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::size_t list = z(h * selection.rows + position);
      const auto* first = selection.blocks.data() + selection.offsets[list];
      const auto* last = selection.blocks.data() + selection.offsets[list + 1];
      // The row's visible keys, as a sequence of their own.
      std::vector<std::int32_t> seen;
      for (std::int64_t c = 0; c < rows_of(k); ++c) {
        const std::int64_t at = k.positions[z(c)], block = at / rule.block;
        if (block == own ? at <= position : std::find(first, last, block) != last)
          seen.push_back(static_cast<std::int32_t>(c));
      }
      const std::int64_t kv_head = h / (s.heads / s.kv_heads);
      const Partial one = partial_attention(
          {1, 1, s.head_dim},
          columns(take(q, {static_cast<std::int32_t>(r)}, s.q_width()), s.q_width(), h * s.head_dim,
                  s.head_dim),
          columns(take(k, seen, s.kv_width()), s.kv_width(), kv_head * s.head_dim, s.head_dim),
          columns(take(v, seen, s.kv_width()), s.kv_width(), kv_head * s.head_dim, s.head_dim), false);
      std::copy(one.out.begin(), one.out.end(), &p.out[z((r * s.heads + h) * s.head_dim)]);
      p.max[z(r * s.heads + h)] = one.max[0];
      p.expsum[z(r * s.heads + h)] = one.expsum[0];
    }
  }
  return p;
}

std::vector<double> block_sparse(const HeadShape& shape, const BlockSparse& rule, const Rows& q,
                                 const Rows& k, const Rows& v) {
  const std::int64_t tokens = rows_of(q);
  const BlockSummary summary = pool(shape, rule, k, blocks_in(tokens, rule.block));
  return selected_attention(shape, rule, select(shape, rule, q, summary, tokens), q, k, v).out;
}

std::vector<double> block_sparse_five_step(const HeadShape& s, const BlockSparse& rule, const Rows& q,
                                           const Rows& k, const Rows& v) {
  const std::int64_t tokens = rows_of(q), blocks = blocks_in(tokens, rule.block), d = s.head_dim;
  // 1, 2: partition, pool, gate.
  const SelectionLists selection = select(s, rule, q, pool(s, rule, k, blocks), tokens);

  // 3: the queries of each (block, head), in order; 4: both attentions.
  struct Part {  // of some rows of one head
    std::int64_t head;
    std::vector<std::int32_t> rows;
    Partial partial;
  };
  std::vector<Part> parts;
  for (std::int64_t b = 0; b < blocks; ++b) {
    std::vector<std::int32_t> own(z(std::min(rule.block, tokens - b * rule.block)));
    std::iota(own.begin(), own.end(), static_cast<std::int32_t>(b * rule.block));
    const Rows keys = take(k, own, s.kv_width()), values = take(v, own, s.kv_width());
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t kv_column = h / (s.heads / s.kv_heads) * d;
      const Rows head_keys = columns(keys, s.kv_width(), kv_column, d),
                 head_values = columns(values, s.kv_width(), kv_column, d);
      const auto attend = [&](const std::vector<std::int32_t>& rows, bool causal) {
        const Rows queries = columns(take(q, rows, s.q_width()), s.q_width(), h * d, d);
        parts.push_back({h, rows, partial_attention({1, 1, d}, queries, head_keys, head_values, causal)});
      };
      attend(own, true);
      std::vector<std::int32_t> routed;
      for (std::int64_t r = 0; r < tokens; ++r) {
        const std::size_t list = z(h * tokens + r);
        const auto* first = selection.blocks.data() + selection.offsets[list];
        const auto* last = selection.blocks.data() + selection.offsets[list + 1];
        if (std::find(first, last, b) != last) routed.push_back(static_cast<std::int32_t>(r));
      }
      if (!routed.empty()) attend(routed, false);
    }
  }
  // 5: maximum, sum of exponentials, weighted sum, scattered back.
  std::vector<double> most(z(tokens * s.heads), -kInfinity), total(z(tokens * s.heads)),
      out(z(tokens * s.q_width()));
  const auto each = [&](const auto& visit) {
    for (const Part& p : parts)
      for (std::size_t i = 0; i < p.rows.size(); ++i) visit(p, i, z(p.rows[i] * s.heads + p.head));
  };
  each(
      [&](const Part& p, std::size_t i, std::size_t at) { most[at] = std::max(most[at], p.partial.max[i]); });
  each([&](const Part& p, std::size_t i, std::size_t at) {
    total[at] += p.partial.expsum[i] * std::exp(p.partial.max[i] - most[at]);
  });
  each([&](const Part& p, std::size_t i, std::size_t at) {
    const double w = p.partial.expsum[i] * std::exp(p.partial.max[i] - most[at]) / total[at];
    for (std::size_t c = 0; c < z(d); ++c) out[at * z(d) + c] += w * p.partial.out[i * z(d) + c];
  });
  return out;
}

std::vector<double> block_sparse_sharded(const HeadShape& shape, const BlockSparse& rule, const Partition& s,
                                         const Rows& q, const Rows& k, const Rows& v) {
  const std::int64_t tokens = rows_of(q), blocks = blocks_in(tokens, rule.block);
  std::vector<BlockSummary> held;
  for (const auto& column : s.sets)
    held.push_back(pool(shape, rule, take(k, column, shape.kv_width()), blocks));
  const BlockSummary summary = combine(held);
  std::vector<double> out(z(tokens * shape.q_width()));
  // Of some rows, whose part on a column `attend` gives.
  const auto attend_rows = [&](const std::vector<std::int32_t>& rows, const auto& attend) {
    if (rows.empty()) return;
    std::vector<Partial> parts;
    for (const auto& column : s.sets)
      parts.push_back(attend(take(k, column, shape.kv_width()), take(v, column, shape.kv_width())));
    const std::vector<double> merged = merge(shape, parts);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(merged.begin() + static_cast<std::ptrdiff_t>(i) * shape.q_width(), shape.q_width(),
                  out.begin() + rows[i] * shape.q_width());
  };
  for (const auto& row_set : s.sets) {
    std::vector<std::int32_t> sparse, dense;
    for (const std::int32_t row : row_set) (full(rule, q.positions[z(row)]) ? dense : sparse).push_back(row);
    const Rows choosing = take(q, sparse, shape.q_width()), seeing_all = take(q, dense, shape.q_width());
    const SelectionLists selection = select(shape, rule, choosing, summary, tokens);
    attend_rows(sparse, [&](const Rows& keys, const Rows& values) {
      return selected_attention(shape, rule, selection, choosing, keys, values);
    });
    attend_rows(dense, [&](const Rows& keys, const Rows& values) {
      return partial_attention(shape, seeing_all, keys, values, true);
    });
  }
  return out;
}

}  // namespace tessera::models::reference
