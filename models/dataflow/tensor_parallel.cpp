// Tensor parallelism: the work of one GPU, with a part of the heads and widths, on each of them, and
// all-reduces between.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "models/architecture/overloaded.hpp"
#include "models/dataflow/build.hpp"
#include "models/dataflow/comp_node.hpp"
#include "models/dataflow/dense_attention.hpp"
#include "models/dataflow/feed_forward.hpp"
#include "models/dataflow/graph_builder.hpp"
#include "models/dataflow/latent_attention.hpp"
#include "models/dataflow/linear_attention.hpp"
#include "models/dataflow/moba.hpp"

namespace tessera::models {

namespace {

constexpr std::int64_t kTokenBytes = 8;  // a sampled token's id
// Up to here every GPU sends its whole rows to every other; beyond, each sums its share of them (vLLM,
// csrc/custom_all_reduce.cuh, for eight GPUs).
constexpr std::int64_t kOneShotBytes = 256 * 1024;

std::int64_t share(std::int64_t whole, std::int64_t gpus, const char* what) {
  if (whole % gpus != 0) {
    throw std::invalid_argument{
        fmt::format("{} GPUs do not divide {} {} (tensor parallelism)", gpus, whole, what)};
  }
  return whole / gpus;
}

DenseShape part_of(DenseShape d, std::int64_t gpus) {
  d.heads = share(d.heads, gpus, "heads");
  // Fewer key heads than GPUs: each has a copy of one.
  d.kv_heads = d.kv_heads < gpus && gpus % d.kv_heads == 0 ? 1 : share(d.kv_heads, gpus, "key heads");
  return d;
}

/// What one GPU has of the model.
Architecture part_of(const Architecture& model, std::int64_t gpus) {
  if (model.post_norm)
    throw std::invalid_argument{fmt::format("{}: no tensor parallelism of post-norm layers", model.name)};
  Architecture part = model;
  for (Layer& l : part.layers) {
    std::visit(Overloaded{[&](DenseShape& d) { d = part_of(d, gpus); },
                          [&](MobaShape& m) { m.dense = part_of(m.dense, gpus); },
                          [&](MlaShape& m) { m.heads = share(m.heads, gpus, "heads"); },
                          [&](KdaShape& k) { k.heads = share(k.heads, gpus, "heads"); }},
               l.attention);
    std::visit(Overloaded{[&](MlpShape& m) { m.width = share(m.width, gpus, "columns of an MLP"); },
                          [&](MoeShape& m) { m.width = share(m.width, gpus, "columns of an expert"); }},
               l.feed_forward);
  }
  part.vocab = (model.vocab + gpus - 1) / gpus;
  return part;
}

/// What attends on one GPU, by a layer's shape.
struct Attends {
  DenseOnOneNode dense;
  MobaOnOneNode moba;
  LatentOnOneNode latent;
  LinearOnOneNode linear;

  Attends(GraphBuilder& g, const CompNode& n) : dense{g, n}, moba{g, dense}, latent{g, n}, linear{g, n} {}
  TaskId run(const DenseShape& s, std::int64_t rows, TaskId after) { return dense.run(s, rows, after); }
  TaskId run(const MobaShape& s, std::int64_t rows, TaskId after) { return moba.run(s, rows, after); }
  TaskId run(const MlaShape& s, std::int64_t rows, TaskId after) { return latent.run(s, rows, after); }
  TaskId run(const KdaShape& s, std::int64_t rows, TaskId after) { return linear.run(s, rows, after); }
};

class AllReduce {
 public:
  AllReduce(GraphBuilder& g, const std::vector<CompNode>& nodes, std::int64_t most_rows)
      : g_{g}, nodes_{nodes}, gpus_{static_cast<std::int64_t>(nodes.size())} {
    const std::int64_t row = g.model.hidden * g.element_bytes();
    const std::int64_t one_shot_rows = std::min(most_rows, std::max(gpus_, kOneShotBytes / row));
    for (const CompNode& n : nodes) {
      parts_.push_back(
          g.buffer(n.id, std::max(most_rows + gpus_, gpus_ * one_shot_rows) * row, "parts to sum"));
      flags_.push_back(g.buffer(n.id, kFlagBytes * gpus_, "flags"));
    }
  }

  /// Sums `rows` rows of every GPU's `branch`, which are there after last[n].
  void run(std::int64_t rows, std::vector<TaskId>& last) {
    const std::int64_t row = g_.model.hidden * g_.element_bytes();
    const bool one_shot = rows * row <= kOneShotBytes || rows < gpus_;
    const auto n = static_cast<std::size_t>(gpus_);
    const auto rows_of = [&](std::size_t i) {
      const auto at = static_cast<std::int64_t>(i);
      return one_shot ? rows : rows * (at + 1) / gpus_ - rows * at / gpus_;
    };
    TasksByNode arrived = exchange(last, [&](std::size_t, std::size_t to) { return rows_of(to) * row; });
    for (std::size_t i = 0; i < n; ++i) {
      last[i] = g_.add(nodes_[i].id, Stage::reduce,
                       Sum{rows_of(i), rows_of(i) * gpus_, g_.model.hidden, g_.model.dtype},
                       {parts_[i], nodes_[i].branch}, std::move(arrived[i]));
    }
    if (one_shot) return;
    arrived = exchange(last, [&](std::size_t from, std::size_t) { return rows_of(from) * row; });
    for (std::size_t i = 0; i < n; ++i) {
      last[i] = g_.add(nodes_[i].id, Stage::reduce, Copy{kFlagBytes * gpus_}, {flags_[i], flags_[i]},
                       std::move(arrived[i]));
    }
  }

 private:
  static constexpr std::int64_t kFlagBytes = 8;  // by which a GPU knows that another's rows are there

  /// A message from every GPU to every other; what each then waits for, its own last task included.
  template <class Bytes>
  TasksByNode exchange(const std::vector<TaskId>& last, Bytes bytes) {
    TasksByNode arrived(nodes_.size());
    for (std::size_t from = 0; from < nodes_.size(); ++from) {
      arrived[from].push_back(last[from]);
      for (std::size_t step = 1; step < nodes_.size(); ++step) {
        const std::size_t to = (from + step) % nodes_.size();
        arrived[to].push_back(
            g_.send(nodes_[from].id, nodes_[to].id, Stage::reduce, bytes(from, to), {last[from]}));
      }
    }
    return arrived;
  }

  GraphBuilder& g_;
  const std::vector<CompNode>& nodes_;
  std::int64_t gpus_;
  std::vector<BufferId> parts_, flags_;
};

}  // namespace

TaskGraph build_tensor_parallel(const Architecture& model, std::uint32_t gpus, const Workload& workload) {
  if (gpus < 2) throw std::invalid_argument{"tensor parallelism needs at least 2 GPUs"};
  if (workload.experts == ExpertPlacement::spread)
    throw std::invalid_argument{"experts: tensor parallelism divides every expert, and spreads none"};
  const Architecture part = part_of(model, gpus);
  GraphBuilder g{part, workload};
  const std::int64_t rows = workload.new_tokens() * workload.batch,
                     most_rows = std::max(rows, workload.batch);
  std::vector<CompNode> nodes;
  for (std::uint32_t n = 0; n < gpus; ++n) {
    g.graph.nodes.push_back({fmt::format("gpu{}", n), NodeKind::comp});
    nodes.push_back(comp_node(g, n, most_rows, 0));
  }
  std::vector<std::unique_ptr<Attends>> attention;
  for (const CompNode& n : nodes) attention.push_back(std::make_unique<Attends>(g, n));
  FeedForward feed_forward{g, nodes, std::vector<std::int64_t>(gpus, most_rows)};
  AllReduce all_reduce{g, nodes, most_rows};

  TasksByNode sampled(gpus);  // what the next embedding waits for
  for (g.step = rows > 0 ? -1 : 0; g.step < workload.decode_steps; ++g.step) {
    const std::int64_t step_rows = g.step < 0 ? rows : workload.batch;
    std::vector<TaskId> last;
    // A GPU looks up the tokens of its part of the vocabulary; the rest of its rows are zeros.
    for (std::uint32_t n = 0; n < gpus; ++n) last.push_back(embed(g, nodes[n], step_rows, sampled[n]));
    all_reduce.run(step_rows, last);
    for (g.layer = 0; g.layer < part.layer_count(); ++g.layer) {
      for (std::uint32_t n = 0; n < gpus; ++n) {
        last[n] = std::visit([&](const auto& shape) { return attention[n]->run(shape, step_rows, last[n]); },
                             g.current().attention);
      }
      all_reduce.run(step_rows, last);
      feed_forward.run(std::vector<std::int64_t>(gpus, step_rows), last);
      all_reduce.run(step_rows, last);
    }
    // Logits meet on the first GPU, which tells the others the token.
    for (std::uint32_t n = 0; n < gpus; ++n) last[n] = language_head(g, nodes[n], last[n]);
    if (!part.language_head) continue;
    std::vector<TaskId> logits{last[0]};
    for (std::uint32_t n = 1; n < gpus; ++n) {
      logits.push_back(g.send(n, 0, Stage::head, workload.batch * part.vocab * g.element_bytes(), {last[n]}));
    }
    sampled[0] = {g.add(0, Stage::head, Copy{kTokenBytes * workload.batch},
                        {nodes[0].logits, nodes[0].logits}, std::move(logits))};
    for (std::uint32_t n = 1; n < gpus; ++n)
      sampled[n] = {g.send(0, n, Stage::head, kTokenBytes * workload.batch, sampled[0])};
  }
  return std::move(g.graph);
}

}  // namespace tessera::models
