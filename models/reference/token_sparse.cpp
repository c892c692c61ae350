#include "models/reference/token_sparse.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tessera::models::reference {

namespace {

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }
std::int64_t rows_of(const Rows& r) { return static_cast<std::int64_t>(r.positions.size()); }

/// Row `row` of `width` values, columns first .. first + count - 1.
Rows part(const Rows& all, std::int64_t row, std::int64_t width, std::int64_t first, std::int64_t count) {
  const auto at = all.values.begin() + row * width + first;
  return {{all.positions[z(row)]}, {at, at + count}};
}

void append(Rows& to, const Rows& row) {
  to.positions.push_back(row.positions[0]);
  to.values.insert(to.values.end(), row.values.begin(), row.values.end());
}

}  // namespace

Rows compress(const NativeSparseRule& rule, const Rows& rows, std::int64_t width) {
  Rows out;
  for (std::int64_t first = 0; first + rule.compressed <= rows_of(rows); first += rule.stride) {
    out.positions.push_back(rows.positions[z(first + rule.compressed - 1)]);
    for (std::int64_t c = 0; c < width; ++c) {
      double sum = 0;
      for (std::int64_t r = first; r < first + rule.compressed; ++r) sum += rows.values[z(r * width + c)];
      out.values.push_back(sum / static_cast<double>(rule.compressed));
    }
  }
  return out;
}

std::vector<std::vector<std::int32_t>> selected_blocks(const HeadShape& s, const NativeSparseRule& rule,
                                                       const Rows& q, const Rows& compressed_k) {
  const std::int64_t group = s.heads / s.kv_heads, d = s.head_dim;
  std::vector<std::vector<std::int32_t>> lists;
  for (std::int64_t r = 0; r < rows_of(q); ++r) {
    const std::int64_t own = q.positions[z(r)] / rule.block;
    for (std::int64_t g = 0; g < s.kv_heads; ++g) {
      std::vector<double> importance(z(own + 1));
      for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
        std::vector<double> scores;
        for (std::int64_t i = 0;
             i < rows_of(compressed_k) && compressed_k.positions[z(i)] <= q.positions[z(r)]; ++i) {
          double dot = 0;
          for (std::int64_t c = 0; c < d; ++c)
            dot += q.values[z(r * s.q_width() + h * d + c)] *
                   compressed_k.values[z(i * s.kv_width() + g * d + c)];
          scores.push_back(dot / std::sqrt(static_cast<double>(d)));
        }
        if (scores.empty()) continue;
        const double most = *std::max_element(scores.begin(), scores.end());
        double total = 0;
        for (double& x : scores) total += x = std::exp(x - most);
        for (std::size_t i = 0; i < scores.size(); ++i) {
          const std::int64_t begin = static_cast<std::int64_t>(i) * rule.stride;
          for (std::int64_t at = begin; at < begin + rule.compressed; at += rule.stride)
            if (at / rule.block <= own) importance[z(at / rule.block)] += scores[i] / total;
        }
      }
      // Those always taken first, then by importance, the earlier of equals first.
      std::vector<std::int32_t> order(z(own + 1));
      std::iota(order.begin(), order.end(), 0);
      const auto always = [&](std::int32_t b) { return b < rule.first || b > own - rule.local; };
      std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        // The own block must be among them, however few are taken.
        if ((a == own) != (b == own)) return a == own;
        if (always(a) != always(b)) return always(a);
        return importance[z(a)] > importance[z(b)];
      });
      order.resize(std::min(order.size(), z(rule.selected)));
      std::sort(order.begin(), order.end());
      lists.push_back(std::move(order));
    }
  }
  return lists;
}

std::vector<double> native_sparse(const HeadShape& s, const NativeSparseRule& rule, const Rows& q,
                                  const Rows& k, const Rows& v, const std::vector<double>& gates) {
  const std::int64_t d = s.head_dim, group = s.heads / s.kv_heads;
  const Rows short_k = compress(rule, k, s.kv_width()), short_v = compress(rule, v, s.kv_width());
  const auto lists = selected_blocks(s, rule, q, short_k);
  std::vector<double> out(q.values.size());
  for (std::int64_t r = 0; r < rows_of(q); ++r) {
    const std::int64_t position = q.positions[z(r)];
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t g = h / group;
      const auto& blocks = lists[z(r * s.kv_heads + g)];
      const Rows query = part(q, r, s.q_width(), h * d, d);
      const auto attend = [&](const Rows& keys, const Rows& values, std::int64_t branch, auto takes) {
        Rows seen_k, seen_v;
        for (std::int64_t i = 0; i < rows_of(keys); ++i) {
          if (keys.positions[z(i)] > position || !takes(keys.positions[z(i)])) continue;
          append(seen_k, part(keys, i, s.kv_width(), g * d, d));
          append(seen_v, part(values, i, s.kv_width(), g * d, d));
        }
        const Partial p = partial_attention({1, 1, d}, query, seen_k, seen_v, false);
        const double gate = gates[z((r * s.heads + h) * 3 + branch)];
        for (std::int64_t c = 0; c < d; ++c) out[z((r * s.heads + h) * d + c)] += gate * p.out[z(c)];
      };
      attend(short_k, short_v, 0, [](std::int64_t) { return true; });
      attend(k, v, 1, [&](std::int64_t at) {
        return std::binary_search(blocks.begin(), blocks.end(), static_cast<std::int32_t>(at / rule.block));
      });
      attend(k, v, 2, [&](std::int64_t at) { return at > position - rule.window; });
    }
  }
  return out;
}

std::vector<std::vector<std::int32_t>> indexed_rows(const Indexer& x, std::int64_t rows,
                                                    const std::vector<double>& q,
                                                    const std::vector<double>& weights,
                                                    const std::vector<double>& k) {
  std::vector<std::vector<std::int32_t>> lists;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<double> scores;
    for (std::int64_t c = 0; c <= r; ++c) {
      double score = 0;
      for (std::int64_t h = 0; h < x.heads; ++h) {
        double dot = 0;
        for (std::int64_t i = 0; i < x.dim; ++i)
          dot += q[z((r * x.heads + h) * x.dim + i)] * k[z(c * x.dim + i)];
        score += weights[z(r * x.heads + h)] * std::max(dot, 0.0);
      }
      scores.push_back(score);
    }
    std::vector<std::int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return scores[z(a)] > scores[z(b)]; });
    order.resize(std::min(order.size(), z(x.selected)));
    std::sort(order.begin(), order.end());
    lists.push_back(std::move(order));
  }
  return lists;
}

std::vector<double> indexed_latent_attention(const LatentShape& shape, const LatentWeights& weights,
                                             const Rows& queries, const Rows& cache,
                                             const std::vector<std::vector<std::int32_t>>& lists) {
  const Rows absorbed = absorb(shape, weights, queries);
  const std::int64_t q_width = shape.heads * shape.cache_width();
  std::vector<double> latents;
  for (std::int64_t r = 0; r < rows_of(queries); ++r) {
    Rows seen;
    for (const std::int32_t at : lists[z(r)])
      append(seen, part(cache, at, shape.cache_width(), 0, shape.cache_width()));
    const Partial p = attend_to_latents(shape, part(absorbed, r, q_width, 0, q_width), seen, false);
    latents.insert(latents.end(), p.out.begin(), p.out.end());
  }
  return values_of(shape, weights, latents);
}

}  // namespace tessera::models::reference
