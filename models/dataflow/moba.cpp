#include "models/dataflow/moba.hpp"

#include <algorithm>

namespace tessera::models {

TaskId MobaOnOneNode::run(const MobaShape& shape, std::int64_t rows, TaskId after) {
  const DenseShape& d = shape.dense;
  if (g_.step >= 0) return dense_.run(d, rows, after);
  if (g_.workload.cached_tokens > 0) {
    if (!shape.full.empty())
      g_.not_built("full attention of a range of tokens of a prompt that is cached in part, on one GPU");
    return behind_cache(shape, rows, after);
  }
  const std::int64_t tokens = g_.workload.prefill_tokens;
  // Rows before the full ones see nothing of them, and are a whole sequence of their own.
  const std::int64_t sparse = shape.full.empty() ? tokens : std::min(shape.full.from, tokens);
  if (sparse < tokens && shape.full.to < tokens)
    g_.not_built("full attention of tokens of a prompt that MoBA goes on behind, on one GPU");
  std::vector<Operator> attention;
  if (sparse > 0) {
    attention.push_back(Moba{.batch = g_.workload.batch,
                             .seq = sparse,
                             .heads = d.heads,
                             .kv_heads = d.kv_heads,
                             .head_dim = d.head_dim,
                             .block = shape.block,
                             .topk = shape.topk,
                             .selection = of_layer(g_.workload.selection, g_.layer),
                             .dtype = g_.model.dtype});
  }
  if (sparse < tokens) {
    attention.push_back(Attention{.batch = g_.workload.batch,
                                  .q_rows = tokens - sparse,
                                  .kv_rows = tokens,
                                  .heads = d.heads,
                                  .kv_heads = d.kv_heads,
                                  .head_dim = d.head_dim,
                                  .causal = true,
                                  .dtype = g_.model.dtype});
  }
  return dense_.run(d, rows, after, std::move(attention));
}

MobaOverNodes::MobaOverNodes(GraphBuilder& g, const Placement& placement, DenseOverNodes& dense)
    : g_{g}, p_{placement}, dense_{dense} {
  nodes_.resize(std::size_t{p_.beta} * p_.beta);
  queries_.resize(p_.beta);
  for (const Layer& l : g.model.layers) {
    const auto* shape = std::get_if<MobaShape>(&l.attention);
    if (shape == nullptr) continue;
    for (std::uint32_t j = 0; j < p_.beta; ++j) queries_[j] = split(shape->full, dense.positions(j));
    break;
  }
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      std::int64_t sums = 0, means = 0, chosen = 0;
      for (const Layer& l : g.model.layers) {
        const auto* shape = std::get_if<MobaShape>(&l.attention);
        if (shape == nullptr) continue;
        if (p_.sees(j, k)) chosen = std::max(chosen, chosen_bytes(*shape, j));
        if (j != k || p_.kept[k].empty() || g.workload.new_tokens() == 0) continue;
        std::int64_t here = operands(pool(*shape, k)).back().bytes;
        for (std::uint32_t from = 0; from < p_.beta; ++from) {
          if (from != j) here += sums_bytes(*shape, shared_blocks(*shape, j, from));
        }
        sums = std::max(sums, here);
        // In fp32, with the counts.
        if (p_.s[j].empty()) continue;
        means = std::max(means, sums_bytes(*shape, past_blocks(*shape, j) + 1));
      }
      Node& n = node(j, k);
      const std::uint32_t id = p_.attn(j, k);
      if (chosen > 0) n.chosen = g.buffer(id, chosen, "chosen blocks");
      if (sums > 0) n.sums = g.buffer(id, sums, "block sums");
      if (means > 0) n.means = g.buffer(id, means, "block means");
    }
  }
}

MobaOverNodes::Queries MobaOverNodes::split(const TokenRange& full, const Positions& positions) {
  if (full.empty()) return {positions, std::make_shared<const std::vector<std::int32_t>>()};
  std::vector<std::int32_t> sparse, rest;
  for (const std::int32_t p : *positions) (full.has(p) ? rest : sparse).push_back(p);
  return {std::make_shared<const std::vector<std::int32_t>>(std::move(sparse)),
          std::make_shared<const std::vector<std::int32_t>>(std::move(rest))};
}

std::int64_t MobaOverNodes::past_blocks(const MobaShape& shape, std::uint32_t j) const {
  return sparse_rows(j) == 0 ? 0 : queries_[j].sparse->back() / shape.block;
}

std::int64_t MobaOverNodes::shared_blocks(const MobaShape& shape, std::uint32_t j, std::uint32_t k) const {
  if (!p_.sees(j, k)) return 0;
  const std::int64_t first = p_.kept[k].front() / shape.block, last = p_.kept[k].back() / shape.block;
  return std::max<std::int64_t>(0, std::min(last + 1, past_blocks(shape, j)) - first);
}

std::int64_t MobaOverNodes::sums_bytes(const MobaShape& shape, std::int64_t blocks) const {
  return g_.workload.batch * blocks * shape.dense.kv_heads * (shape.dense.head_dim + 1) *
         bytes_of(Dtype::fp32);
}

std::int64_t MobaOverNodes::chosen_bytes(const MobaShape& shape, std::uint32_t j) const {
  constexpr std::int64_t kIndexBytes = 4;
  return g_.workload.batch * sparse_rows(j) * shape.dense.heads * shape.topk * kIndexBytes;
}

BlockPool MobaOverNodes::pool(const MobaShape& shape, std::uint32_t k) const {
  return {.batch = g_.workload.batch,
          .kv_rows = p_.kept_rows(k),
          .kv_heads = shape.dense.kv_heads,
          .head_dim = shape.dense.head_dim,
          .block = shape.block,
          .kv_positions = dense_.kept_positions(k),
          .dtype = g_.model.dtype};
}

void MobaOverNodes::prefill(const MobaShape& shape, const std::vector<TaskId>& ready) {
  const DenseShape& d = shape.dense;
  const std::int64_t batch = g_.workload.batch;
  dense_.distribute(d, ready);
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) dense_.keep(d, j, k);
  }
  // Sums of keys, to the nodes that score.
  std::vector<std::vector<TaskId>> summed(p_.beta);
  for (std::uint32_t k = 0; k < p_.beta; ++k) {
    if (p_.kept[k].empty()) continue;
    const TaskId pooled = g_.add(p_.attn(k, k), Stage::gate, pool(shape, k),
                                 {dense_.keys(k, k), node(k, k).sums}, dense_.node(k, k).arrived);
    for (std::uint32_t j = 0; j < p_.beta; ++j) {
      if (j == k) {
        summed[j].push_back(pooled);
      } else if (const std::int64_t blocks = shared_blocks(shape, j, k); blocks > 0) {
        summed[j].push_back(
            g_.send(p_.attn(k, k), p_.attn(j, j), Stage::gate, sums_bytes(shape, blocks), {pooled}));
      }
    }
  }
  // Every query's choice, once.
  std::vector<std::vector<TaskId>> chosen(nodes_.size());
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    if (sparse_rows(j) == 0) continue;
    const std::uint32_t id = p_.attn(j, j);
    std::vector<TaskId> after = dense_.node(j, j).arrived;
    if (const std::int64_t past = past_blocks(shape, j); past > 0) {
      std::int64_t inputs = 0;
      for (std::uint32_t k = 0; k < p_.beta; ++k) inputs += shared_blocks(shape, j, k);
      const std::int64_t rows = batch * d.kv_heads;
      after.push_back(g_.add(id, Stage::gate, Sum{rows * past, rows * inputs, d.head_dim + 1, Dtype::fp32},
                             {node(j, j).sums, node(j, j).means}, summed[j]));
    }
    const TaskId gated =
        g_.add(id, Stage::gate,
               BlockGate{.batch = batch,
                         .q_rows = sparse_rows(j),
                         .heads = d.heads,
                         .kv_heads = d.kv_heads,
                         .head_dim = d.head_dim,
                         .block = shape.block,
                         .topk = shape.topk,
                         .q_positions = queries_[j].sparse,
                         .dtype = g_.model.dtype},
               {dense_.node(j, j).received, node(j, j).means, node(j, j).chosen}, std::move(after));
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      if (!p_.sees(j, k)) continue;
      chosen[j * p_.beta + k] = {
          k == j ? gated : g_.send(id, p_.attn(j, k), Stage::gate, chosen_bytes(shape, j), {gated})};
    }
  }
  for (std::uint32_t j = 0; j < p_.beta; ++j) {
    for (std::uint32_t k = 0; k < p_.beta; ++k) {
      if (!p_.sees(j, k)) continue;
      TaskId attended = 0;
      std::vector<TaskId> after = dense_.node(j, k).arrived;
      if (sparse_rows(j) > 0) {
        const auto& choice = chosen[j * p_.beta + k];
        after.insert(after.end(), choice.begin(), choice.end());
        attended = attend_selected(shape, j, k, std::move(after));
        after = {attended};
      }
      if (!queries_[j].full->empty()) attended = attend_all(shape, j, k, std::move(after));
      dense_.give_back(d, j, k, attended);
    }
  }
}

TaskId MobaOverNodes::attend_selected(const MobaShape& shape, std::uint32_t j, std::uint32_t k,
                                      std::vector<TaskId> after) {
  const DenseShape& d = shape.dense;
  const DenseOverNodes::AttnNode& n = dense_.node(j, k);
  return g_.add(p_.attn(j, k), Stage::attention,
                BlockSparseAttention{.batch = g_.workload.batch,
                                     .q_rows = sparse_rows(j),
                                     .kv_rows = p_.kept_rows(k),
                                     .heads = d.heads,
                                     .kv_heads = d.kv_heads,
                                     .head_dim = d.head_dim,
                                     .block = shape.block,
                                     .topk = shape.topk,
                                     .q_positions = queries_[j].sparse,
                                     .kv_positions = dense_.kept_positions(k),
                                     .selection = of_layer(g_.workload.selection, g_.layer),
                                     .dtype = g_.model.dtype},
                {n.received, dense_.keys(j, k), dense_.keys(j, k), node(j, k).chosen, n.out, n.stats},
                std::move(after));
}

TaskId MobaOverNodes::attend_all(const MobaShape& shape, std::uint32_t j, std::uint32_t k,
                                 std::vector<TaskId> after) {
  const DenseShape& d = shape.dense;
  const DenseOverNodes::AttnNode& n = dense_.node(j, k);
  return g_.add(p_.attn(j, k), Stage::attention,
                Attention{.batch = g_.workload.batch,
                          .q_rows = static_cast<std::int64_t>(queries_[j].full->size()),
                          .kv_rows = p_.kept_rows(k),
                          .heads = d.heads,
                          .kv_heads = d.kv_heads,
                          .head_dim = d.head_dim,
                          .causal = true,
                          .partial = true,
                          .q_positions = queries_[j].full,
                          .kv_positions = dense_.kept_positions(k),
                          .dtype = g_.model.dtype},
                {n.received, dense_.keys(j, k), dense_.keys(j, k), n.out, n.stats}, std::move(after));
}

}  // namespace tessera::models
