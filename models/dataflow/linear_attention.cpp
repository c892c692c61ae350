#include "models/dataflow/linear_attention.hpp"

#include "models/dataflow/linear_block.hpp"
#include "models/dataflow/linear_heads.hpp"
#include "models/dataflow/linear_segments.hpp"

namespace tessera::models {

std::vector<KdaShape> kda_shapes(const Architecture& model) {
  std::vector<KdaShape> shapes;
  for (const Layer& l : model.layers) {
    const auto* kda = std::get_if<KdaShape>(&l.attention);
    shapes.push_back(kda != nullptr ? *kda : KdaShape{});
  }
  return shapes;
}

LinearOnOneNode::LinearOnOneNode(GraphBuilder& g, const CompNode& node)
    : g_{g},
      n_{node},
      heads_{linear::heads(g, node.id, std::max<std::int64_t>(1, g.workload.new_tokens()) * g.workload.batch,
                           kda_shapes(g.model), true)} {}

TaskId LinearOnOneNode::run(const KdaShape& k, std::int64_t rows, TaskId after) {
  const LinearActivations& a = n_.linear;
  TaskId t = linear::project(g_, n_, k, rows, after);
  t = linear::recur(g_, n_.id, k, heads_, a.projections, a.gated, a.gated, {t});
  return linear::project_out(g_, n_, k, rows, {t});
}

LinearOverNodes::LinearOverNodes(GraphBuilder& g, const Placement& placement,
                                 const std::vector<CompNode>& comp) {
  if (g.workload.recurrence == RecurrencePlacement::segments)
    placed_ = std::make_unique<LinearBySegments>(g, placement, comp);
  else
    placed_ = std::make_unique<LinearByHeads>(g, placement, comp);
}

}  // namespace tessera::models
