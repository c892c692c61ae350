#include "models/dataflow/feed_forward.hpp"

#include "models/architecture/overloaded.hpp"
#include "models/dataflow/mlp.hpp"

namespace tessera::models {

FeedForward::FeedForward(GraphBuilder& g, const std::vector<CompNode>& nodes,
                         const std::vector<std::int64_t>& most_rows)
    : g_{g}, nodes_{nodes}, experts_{g, nodes, most_rows} {}

void FeedForward::run(const std::vector<std::int64_t>& rows, std::vector<TaskId>& last) {
  const Architecture& m = g_.model;
  const auto each = [&](const auto& step) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (rows[i] > 0) last[i] = step(nodes_[i], rows[i], last[i]);
    }
  };
  each([&](const CompNode& n, std::int64_t r, TaskId t) {
    return g_.add(n.id, Stage::mlp, Norm{r, m.hidden, m.norm, true, m.dtype},
                  {n.branch, n.hidden, n.norm, n.normed, n.hidden}, {t});
  });
  std::visit(
      Overloaded{[&](const MlpShape& shape) {
                   each([&](const CompNode& n, std::int64_t r, TaskId t) { return mlp(g_, n, shape, r, t); });
                 },
                 [&](const MoeShape& shape) { experts_.run(shape, rows, last); }},
      g_.current().feed_forward);
  if (!m.post_norm) return;
  each([&](const CompNode& n, std::int64_t r, TaskId t) {
    return g_.add(n.id, Stage::mlp, Norm{r, m.hidden, m.norm, true, m.dtype},
                  {n.branch, n.normed, n.norm, n.hidden, n.normed}, {t});
  });
}

}  // namespace tessera::models
