#include "models/dataflow/mlp.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::models {

namespace {

std::int64_t up_width(const MlpShape& shape) { return (shape.gated ? 2 : 1) * shape.width; }

}  // namespace

void add_mlp_weights(GraphBuilder& g, std::uint32_t node, const MlpShape& shape, LayerWeights& weights) {
  const std::int64_t row = g.model.hidden * g.element_bytes();
  weights.up = g.buffer(node, up_width(shape) * row, fmt::format("up.{}", g.layer), true);
  weights.down = g.buffer(node, shape.width * row, fmt::format("down.{}", g.layer), true);
}

MlpActivations mlp_activations(GraphBuilder& g, std::uint32_t node, std::int64_t rows) {
  std::int64_t wide = 0, activated = 0;
  for (const Layer& l : g.model.layers) {
    if (const auto* shape = std::get_if<MlpShape>(&l.feed_forward)) {
      wide = std::max(wide, up_width(*shape));
      activated = std::max(activated, shape->width);
    }
  }
  if (wide == 0) return {};
  const std::int64_t e = g.element_bytes();
  MlpActivations a;
  a.wide = g.buffer(node, rows * wide * e, "up projection");
  a.activated = g.buffer(node, rows * activated * e, "activated");
  return a;
}

TaskId mlp(GraphBuilder& g, const CompNode& n, const MlpShape& shape, std::int64_t rows, TaskId after) {
  const Architecture& m = g.model;
  const LayerWeights& w = n.weights(g);
  const ActivationKind kind = shape.gated ? ActivationKind::swiglu : ActivationKind::gelu;
  TaskId t = g.add(n.id, Stage::mlp, Gemm{rows, up_width(shape), m.hidden, m.dtype},
                   {n.normed, w.up, n.mlp.wide}, {after});
  t = g.add(n.id, Stage::mlp, Activation{rows, shape.width, kind, m.dtype}, {n.mlp.wide, n.mlp.activated},
            {t});
  return g.add(n.id, Stage::mlp, Gemm{rows, m.hidden, shape.width, m.dtype},
               {n.mlp.activated, w.down, n.branch}, {t});
}

}  // namespace tessera::models
