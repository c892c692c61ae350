// MoBA on one GPU of a prompt whose beginning is cached.

#include <algorithm>
#include <memory>
#include <numeric>

#include "models/dataflow/moba.hpp"

namespace tessera::models {

MobaOnOneNode::MobaOnOneNode(GraphBuilder& g, DenseOnOneNode& dense) : g_{g}, dense_{dense} {
  const Workload& w = g.workload;
  if (w.cached_tokens == 0 || w.new_tokens() == 0) return;
  std::vector<std::int32_t> positions(static_cast<std::size_t>(w.new_tokens()));
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(w.cached_tokens));
  new_ = std::make_shared<const std::vector<std::int32_t>>(std::move(positions));
  std::int64_t means = 0, chosen = 0, stats = 0;
  for (const Layer& l : g.model.layers) {
    const auto* shape = std::get_if<MobaShape>(&l.attention);
    if (shape == nullptr) continue;
    means = std::max(means, operands(pool(*shape)).back().bytes);
    chosen = std::max(chosen, operands(gate(*shape)).back().bytes);
    stats = std::max(stats, w.batch * w.new_tokens() * shape->dense.heads * kStatsBytes);
  }
  if (means == 0) return;
  const std::uint32_t id = dense.node().id;
  means_ = g.buffer(id, means, "block means");
  chosen_ = g.buffer(id, chosen, "chosen blocks");
  stats_ = g.buffer(id, stats, "max and expsum");
}

BlockPool MobaOnOneNode::pool(const MobaShape& shape) const {
  return {.batch = g_.workload.batch,
          .kv_rows = g_.workload.prefill_tokens,
          .kv_heads = shape.dense.kv_heads,
          .head_dim = shape.dense.head_dim,
          .block = shape.block,
          .dtype = g_.model.dtype};
}

BlockGate MobaOnOneNode::gate(const MobaShape& shape) const {
  return {.batch = g_.workload.batch,
          .q_rows = g_.workload.new_tokens(),
          .heads = shape.dense.heads,
          .kv_heads = shape.dense.kv_heads,
          .head_dim = shape.dense.head_dim,
          .block = shape.block,
          .topk = shape.topk,
          .q_positions = new_,
          .dtype = g_.model.dtype};
}

TaskId MobaOnOneNode::behind_cache(const MobaShape& shape, std::int64_t rows, TaskId after) {
  const DenseShape& d = shape.dense;
  const Workload& w = g_.workload;
  const std::uint32_t id = dense_.node().id;
  const DenseActivations& a = dense_.node().dense;
  const BufferId cache = dense_.cache();
  TaskId t = dense_.begin(d, rows, after);
  t = g_.add(id, Stage::gate, pool(shape), {cache, means_}, {t});
  t = g_.add(id, Stage::gate, gate(shape), {a.projections, means_, chosen_}, {t});
  t = g_.add(id, Stage::attention,
             BlockSparseAttention{.batch = w.batch,
                                  .q_rows = w.new_tokens(),
                                  .kv_rows = w.prefill_tokens,
                                  .heads = d.heads,
                                  .kv_heads = d.kv_heads,
                                  .head_dim = d.head_dim,
                                  .block = shape.block,
                                  .topk = shape.topk,
                                  .q_positions = new_,
                                  .selection = of_layer(w.selection, g_.layer),
                                  .dtype = g_.model.dtype},
             {a.projections, cache, cache, chosen_, a.attended, stats_}, {t});
  return dense_.end(d, rows, t);
}

}  // namespace tessera::models
