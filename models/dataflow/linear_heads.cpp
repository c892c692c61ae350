#include "models/dataflow/linear_heads.hpp"

#include <algorithm>

#include "models/dataflow/linear_block.hpp"

namespace tessera::models {

LinearByHeads::LinearByHeads(GraphBuilder& g, const Placement& placement, const std::vector<CompNode>& comp)
    : g_{g}, p_{placement}, comp_{comp} {
  if (largest<KdaShape>(g.model, linear::sent_width) == 0) return;
  const std::int64_t rows = std::max<std::int64_t>(1, g.workload.new_tokens()) * g.workload.batch;
  nodes_.resize(std::size_t{p_.beta} * p_.beta);
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const auto mine = [&](auto size) {
      return largest<KdaShape>(g.model, [&](const KdaShape& k) { return size(part(k, a)); });
    };
    if (mine(linear::sent_width) == 0) continue;
    AttnNode& n = nodes_[a];
    n.received =
        g.buffer(id(a), rows * mine(linear::sent_width) * g.element_bytes(), "received q, k, v, decay");
    n.out = g.buffer(id(a), rows * mine([](const KdaShape& k) { return k.v_width(); }) * g.element_bytes(),
                     "output");
    std::vector<KdaShape> parts = kda_shapes(g.model);
    for (KdaShape& k : parts) k = part(k, a);
    n.heads = linear::heads(g, id(a), rows, parts, true);
  }
}

KdaShape LinearByHeads::part(const KdaShape& shape, std::uint32_t a) const {
  const auto nodes = static_cast<std::int64_t>(std::size_t{p_.beta} * p_.beta);
  KdaShape part = shape;
  part.heads = shape.heads * (a + 1) / nodes - shape.heads * a / nodes;
  return part;
}

void LinearByHeads::send(const KdaShape& k, std::uint32_t i, std::int64_t rows, TaskId ready,
                         TasksByNode& received) {
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const std::int64_t bytes = rows * linear::sent_width(part(k, a)) * g_.element_bytes();
    if (bytes > 0) received[a].push_back(g_.send(i, id(a), Stage::send, bytes, {ready}));
  }
}

TaskId LinearByHeads::recur(const KdaShape& part, std::uint32_t a, std::vector<TaskId> after) {
  const AttnNode& n = nodes_[a];
  return linear::recur(g_, id(a), part, n.heads, n.received, n.received, n.out, std::move(after));
}

void LinearByHeads::prefill(const KdaShape& k, const std::vector<TaskId>& ready) {
  const std::int64_t batch = g_.workload.batch;
  TasksByNode received(nodes_.size());
  for (std::uint32_t i = 0; i < p_.alpha; ++i) {
    if (p_.r[i].empty()) continue;
    const std::int64_t rows = p_.r_rows(i) * batch;
    send(k, i, rows, linear::project(g_, comp_[i], k, rows, ready[i]), received);
  }
  returned_.assign(p_.alpha, {});
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const KdaShape mine = part(k, a);
    if (mine.heads == 0) continue;
    const TaskId t = recur(mine, a, std::move(received[a]));
    for (std::uint32_t i = 0; i < p_.alpha; ++i) {
      if (p_.r[i].empty()) continue;
      const std::int64_t bytes = p_.r_rows(i) * batch * mine.v_width() * g_.element_bytes();
      returned_[i].push_back(g_.send(id(a), i, Stage::returns, bytes, {t}));
    }
  }
}

TaskId LinearByHeads::finish(const KdaShape& k, std::uint32_t i) {
  return linear::project_out(g_, comp_[i], k, p_.r_rows(i) * g_.workload.batch, returned_[i]);
}

TaskId LinearByHeads::decode(const KdaShape& k, std::uint32_t i, std::int64_t, TaskId after) {
  const std::int64_t batch = g_.workload.batch;
  TasksByNode received(nodes_.size());
  send(k, i, batch, linear::project(g_, comp_[i], k, batch, after), received);
  std::vector<TaskId> returned;
  for (std::uint32_t a = 0; a < nodes_.size(); ++a) {
    const KdaShape mine = part(k, a);
    if (mine.heads == 0) continue;
    const TaskId t = recur(mine, a, std::move(received[a]));
    returned.push_back(g_.send(id(a), i, Stage::returns, batch * mine.v_width() * g_.element_bytes(), {t}));
  }
  return linear::project_out(g_, comp_[i], k, batch, std::move(returned));
}

}  // namespace tessera::models
