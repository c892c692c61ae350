#include "traces/steps/step_graph.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <stdexcept>
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

/// The same tasks, each behind those it waits for, layer by layer.
std::vector<Task> in_order(const std::vector<Task>& tasks, std::int64_t layers) {
  std::vector<std::vector<TaskId>> dependents(tasks.size());
  std::vector<std::size_t> waits(tasks.size());
  const auto layer = [&](TaskId t) {
    return tasks[t].stage == models::Stage::head ? layers : tasks[t].layer;
  };
  std::set<std::pair<std::int64_t, TaskId>> ready;
  for (TaskId t = 0; t < tasks.size(); ++t) {
    waits[t] = tasks[t].after.size();
    if (waits[t] == 0) ready.emplace(layer(t), t);
    for (const TaskId before : tasks[t].after) dependents[before].push_back(t);
  }
  std::vector<TaskId> at(tasks.size());
  std::vector<Task> ordered;
  ordered.reserve(tasks.size());
  while (!ready.empty()) {
    const TaskId t = ready.extract(ready.begin()).value().second;
    at[t] = static_cast<TaskId>(ordered.size());
    ordered.push_back(tasks[t]);
    for (TaskId& before : ordered.back().after) before = at[before];
    for (const TaskId next : dependents[t]) {
      if (--waits[next] == 0) ready.emplace(layer(next), next);
    }
  }
  if (ordered.size() != tasks.size()) throw std::logic_error{"joined decode steps wait for each other"};
  return ordered;
}

/// Makes `a` the work of both, as one kernel on more rows; false if it cannot be.
bool join(models::Operator& a, const models::Operator& b) {
  using namespace models;
  if (a.index() != b.index()) return false;
  return std::visit(Overloaded{[&](Gemm& x) {
                                 const auto& y = std::get<Gemm>(b);
                                 if (x.n != y.n || x.k != y.k) return false;
                                 x.m += y.m;
                                 return true;
                               },
                               [&](BatchedGemm& x) {
                                 const auto& y = std::get<BatchedGemm>(b);
                                 if (x.batches != y.batches || x.n != y.n || x.k != y.k) return false;
                                 x.m += y.m;
                                 return true;
                               },
                               [&](AttentionDecode& x) {
                                 const auto& y = std::get<AttentionDecode>(b);
                                 x.batch += y.batch;
                                 x.context = std::max(x.context, y.context);
                                 return true;
                               },
                               [&](LatentDecode& x) {
                                 const auto& y = std::get<LatentDecode>(b);
                                 x.batch += y.batch;
                                 x.context = std::max(x.context, y.context);
                                 return true;
                               },
                               [&](LinearDecode& x) {
                                 x.batch += std::get<LinearDecode>(b).batch;
                                 return true;
                               },
                               [&](CausalConv1d& x) {
                                 x.batch += std::get<CausalConv1d>(b).batch;
                                 return true;
                               },
                               [&](Norm& x) {
                                 x.rows += std::get<Norm>(b).rows;
                                 return true;
                               },
                               [&](Rope& x) {
                                 x.rows += std::get<Rope>(b).rows;
                                 return true;
                               },
                               [&](Activation& x) {
                                 x.rows += std::get<Activation>(b).rows;
                                 return true;
                               },
                               [&](Merge& x) {
                                 const auto& y = std::get<Merge>(b);
                                 if (x.parts != y.parts) return false;
                                 x.rows += y.rows;
                                 return true;
                               },
                               [&](Copy& x) {
                                 x.bytes += std::get<Copy>(b).bytes;
                                 return true;
                               },
                               [&](Sum& x) {
                                 x.rows += std::get<Sum>(b).rows;
                                 x.inputs += std::get<Sum>(b).inputs;
                                 return true;
                               },
                               [&](Moe& x) {
                                 const auto& y = std::get<Moe>(b);
                                 if (x.experts != y.experts) return false;
                                 x.tokens += y.tokens;
                                 std::vector<std::int32_t> loads = *x.loads;
                                 for (std::size_t e = 0; e < loads.size(); ++e) loads[e] += (*y.loads)[e];
                                 x.loads =
                                     std::make_shared<const std::vector<std::int32_t>>(std::move(loads));
                                 return true;
                               },
                               [](auto&) { return false; }},
                    a);
}

bool join(Task& a, const Task& b) {
  if (auto* sent = std::get_if<models::Transfer>(&a.work)) {
    sent->bytes += std::get<models::Transfer>(b.work).bytes;
    return true;
  }
  return join(std::get<models::Compute>(a.work).op, std::get<models::Compute>(b.work).op);
}

/// The tasks of decode steps alone, as one step: what a node does in the same place of each is one kernel on
/// all its rows, what one node sends another one message.
TaskGraph decode_part(TaskGraph graph, std::int64_t layers) {
  // Where a task stands in its step; equal places of different steps are joined.
  using Place = std::tuple<std::int64_t, models::Stage, std::uint32_t, std::int64_t, std::int64_t>;
  std::map<Place, TaskId> joined;
  std::map<std::pair<std::int32_t, Place>, std::int64_t> occurrences;
  std::vector<Task> tasks;
  std::vector<TaskId> at(graph.tasks.size(), UINT32_MAX);
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    Task& task = graph.tasks[t];
    if (task.step < 0) continue;
    const auto* sent = std::get_if<models::Transfer>(&task.work);
    const std::int64_t what =
        sent != nullptr ? -1 - static_cast<std::int64_t>(sent->destination)
                        : static_cast<std::int64_t>(std::get<models::Compute>(task.work).op.index());
    const std::int64_t layer = task.stage == models::Stage::head ? layers : task.layer;
    Place place{layer, task.stage, task.node, what, 0};
    std::get<4>(place) = occurrences[{task.step, place}]++;
    // Other steps' sequences are not waited for.
    std::erase_if(task.after, [&](TaskId before) {
      return at[before] == UINT32_MAX || graph.tasks[before].step != task.step;
    });
    for (TaskId& before : task.after) before = at[before];
    const auto known = joined.find(place);
    if (known != joined.end() && join(tasks[known->second], task)) {
      at[t] = known->second;
      std::vector<TaskId>& after = tasks[known->second].after;
      after.insert(after.end(), task.after.begin(), task.after.end());
      std::sort(after.begin(), after.end());
      after.erase(std::unique(after.begin(), after.end()), after.end());
      continue;
    }
    at[t] = static_cast<TaskId>(tasks.size());
    joined.emplace(place, at[t]);
    tasks.push_back(task);
    tasks.back().step = 0;
  }
  graph.tasks = in_order(tasks, layers);
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
