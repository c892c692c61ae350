#include "traces/steps/step_graph.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <tuple>

#include "models/architecture/overloaded.hpp"

namespace tessera::traces {

namespace {

using models::Positions;
using models::Task;
using models::TaskGraph;
using models::TaskId;

constexpr std::int64_t kShortPrompt = 512;  // in front of decoded tokens, before put_behind

/// `past` first positions, all visible, and then the given ones behind all that is cached.
Positions behind(const Positions& positions, std::int64_t past_here, std::int64_t past) {
  if (!positions) return positions;
  std::vector<std::int32_t> all(static_cast<std::size_t>(past_here));
  std::iota(all.begin(), all.end(), 0);
  for (const std::int32_t p : *positions) all.push_back(p + static_cast<std::int32_t>(past));
  return std::make_shared<const std::vector<std::int32_t>>(std::move(all));
}

const models::MlaShape* latent_of(const models::Architecture& model, const Task& task) {
  if (task.layer < 0) return nullptr;
  return std::get_if<models::MlaShape>(&model.layers[static_cast<std::size_t>(task.layer)].attention);
}

std::int64_t beta_of(const TaskGraph& graph) {
  const std::int64_t attn = std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const models::Node& n) {
    return n.kind == models::NodeKind::attn;
  });
  std::int64_t beta = 1;
  while (beta * beta < attn) ++beta;
  return beta;
}

/// The tasks of decode steps alone, each step free of the others, layer by layer.
TaskGraph decode_part(TaskGraph graph, std::int64_t layers) {
  std::vector<TaskId> order;
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    if (graph.tasks[t].step >= 0) order.push_back(t);
  }
  const auto place = [&](TaskId t) {
    const Task& task = graph.tasks[t];
    const std::int64_t layer = task.stage == models::Stage::head ? layers : task.layer;
    return std::tuple{layer, task.step, t};
  };
  std::sort(order.begin(), order.end(), [&](TaskId a, TaskId b) { return place(a) < place(b); });
  std::vector<TaskId> at(graph.tasks.size(), UINT32_MAX);
  for (TaskId n = 0; n < order.size(); ++n) at[order[n]] = n;
  std::vector<Task> tasks;
  tasks.reserve(order.size());
  for (const TaskId t : order) {
    Task task = std::move(graph.tasks[t]);
    std::erase_if(task.after, [&](TaskId before) {
      return at[before] == UINT32_MAX || tasks.size() <= at[before] || tasks[at[before]].step != task.step;
    });
    for (TaskId& before : task.after) before = at[before];
    tasks.push_back(std::move(task));
  }
  graph.tasks = std::move(tasks);
  return graph;
}

}  // namespace

void put_behind(TaskGraph& graph, const ServedModel& served, std::int64_t past) {
  if (past == 0) return;
  const std::int64_t beta = beta_of(graph);
  for (Task& task : graph.tasks) {
    auto* compute = std::get_if<models::Compute>(&task.work);
    if (compute == nullptr) continue;
    const std::int64_t here = graph.nodes[task.node].kind == models::NodeKind::attn ? past / beta : past;
    const models::MlaShape* latent = latent_of(*served.model, task);
    std::visit(models::Overloaded{
                   [&](models::Attention& a) {
                     a.kv_rows += here;
                     a.kv_positions = behind(a.kv_positions, here, past);
                     a.q_positions = behind(a.q_positions, 0, past);
                   },
                   [&](models::LatentAttention& a) {
                     a.kv_rows += here;
                     a.kv_positions = behind(a.kv_positions, here, past);
                     a.q_positions = behind(a.q_positions, 0, past);
                   },
                   [&](models::AttentionDecode& a) { a.context += here; },
                   [&](models::LatentDecode& a) { a.context += here; },
                   [&](models::LinearAttention& a) { a.initial_state = true; },
                   [&](models::Gemm& g) {
                     // The up-projection of latents, and the copy that completes the keys, in front of a
                     // prompt's attention.
                     if (latent != nullptr && task.stage == models::Stage::qkv && task.step < 0 &&
                         g.k == latent->kv_lora && g.n == latent->heads * (latent->nope + latent->v_dim))
                       g.m += here;
                   },
                   [&](models::Copy& c) {
                     if (latent != nullptr && task.stage == models::Stage::qkv && task.step < 0)
                       c.bytes +=
                           here * latent->heads * latent->qk_dim() * models::bytes_of(served.model->dtype);
                   },
                   [](auto&) {}},
               compute->op);
  }
}

TaskGraph prefill_graph(const ServedModel& served, std::int64_t tokens, std::int64_t past) {
  models::Workload w = served.workload;
  w.prefill_tokens = tokens;
  w.decode_steps = 0;
  w.batch = 1;
  TaskGraph graph = served.cascade ? build_cascade(*served.model, served.share_out(tokens), w)
                                   : build_single(*served.model, w);
  put_behind(graph, served, past);
  return graph;
}

TaskGraph decode_graph(const ServedModel& served, std::int64_t sequences, std::int64_t context) {
  models::Workload w = served.workload;
  w.prefill_tokens = std::min(kShortPrompt, std::max<std::int64_t>(1, context));
  TaskGraph graph;
  if (served.cascade) {
    models::Sharding sharding = served.share_out(w.prefill_tokens);
    w.decode_steps = std::min<std::int64_t>(sequences, sharding.alpha());
    w.batch = (sequences + w.decode_steps - 1) / w.decode_steps;
    for (std::int64_t n = 0; n < w.decode_steps; ++n) {
      const auto token = static_cast<std::int32_t>(w.prefill_tokens + n);
      sharding.r.sets[static_cast<std::size_t>(n % sharding.alpha())].push_back(token);
      sharding.s.sets[static_cast<std::size_t>(n % sharding.beta())].push_back(token);
    }
    sharding.r.tokens = sharding.s.tokens = w.prefill_tokens + w.decode_steps;
    graph = build_cascade(*served.model, sharding, w);
  } else {
    w.decode_steps = 1;
    w.batch = sequences;
    graph = build_single(*served.model, w);
  }
  graph = decode_part(std::move(graph), served.model->layer_count());
  put_behind(graph, served, std::max<std::int64_t>(0, context - w.prefill_tokens));
  return graph;
}

}  // namespace tessera::traces
