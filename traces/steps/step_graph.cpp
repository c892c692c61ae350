#include "traces/steps/step_graph.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <tuple>

#include "models/architecture/overloaded.hpp"

namespace tessera::traces {

namespace {

using models::Task;
using models::TaskGraph;
using models::TaskId;

/// First the tokens of `past`, then those of `now`, each shared out on its own: an engine shares out the
/// chunk that it computes, whatever is behind it.
models::Partition joined(models::Partition past, const models::Partition& now) {
  for (std::size_t n = 0; n < past.sets.size(); ++n) {
    for (const std::int32_t token : now.sets[n])
      past.sets[n].push_back(token + static_cast<std::int32_t>(past.tokens));
  }
  past.tokens += now.tokens;
  return past;
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

/// The decode steps from `first` on as one step: what a node does in the same place of each is one kernel on
/// all its rows, what one node sends another one message.
TaskGraph as_one_step(TaskGraph graph, std::int32_t first, std::int64_t layers) {
  // Where a task stands in its step; equal places of different steps are joined.
  using Place = std::tuple<std::int64_t, models::Stage, std::uint32_t, std::int64_t, std::int64_t>;
  std::map<Place, TaskId> joined;
  std::map<std::pair<std::int32_t, Place>, std::int64_t> occurrences;
  std::vector<Task> tasks;
  std::vector<TaskId> at(graph.tasks.size(), UINT32_MAX);
  for (TaskId t = 0; t < graph.tasks.size(); ++t) {
    Task& task = graph.tasks[t];
    if (task.step < first) continue;
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

TaskGraph prefill_graph(const ServedModel& served, std::int64_t tokens, std::int64_t past) {
  models::Workload w = served.workload;
  w.prefill_tokens = past + tokens;
  w.cached_tokens = past;
  w.decode_steps = 0;
  w.batch = 1;
  w.host_step_us = w.host_sequence_us = 0;
  if (served.tensor_gpus > 0) return build_tensor_parallel(*served.model, served.tensor_gpus, w);
  if (!served.cascade) return build_single(*served.model, w);
  models::Sharding sharding = served.share_out(tokens);
  if (past > 0) {
    models::Sharding cached = served.share_out(past);
    sharding = {joined(std::move(cached.r), sharding.r), joined(std::move(cached.s), sharding.s)};
  }
  return build_cascade(*served.model, sharding, w);
}

TaskGraph decode_graph(const ServedModel& served, std::int64_t sequences, std::int64_t context) {
  models::Workload w = served.workload;
  w.prefill_tokens = w.cached_tokens = std::max<std::int64_t>(1, context);
  w.decode_steps = 1;
  w.batch = sequences;
  w.host_step_us = w.host_sequence_us = 0;
  if (served.tensor_gpus > 0) return build_tensor_parallel(*served.model, served.tensor_gpus, w);
  if (!served.cascade) return build_single(*served.model, w);
  models::Sharding sharding = served.share_out(w.prefill_tokens);
  const std::int64_t nodes = std::min<std::int64_t>(sequences, sharding.alpha());
  // Who fetches latents has those up to its own last token: the second round is like all later ones.
  const std::int64_t rounds = w.latents == models::LatentPolicy::fetch ? 2 : 1;
  w.decode_steps = rounds * nodes;
  w.batch = (sequences + nodes - 1) / nodes;
  for (std::int64_t n = 0; n < w.decode_steps; ++n) {
    const auto token = static_cast<std::int32_t>(w.prefill_tokens + n);
    sharding.r.sets[static_cast<std::size_t>(n % nodes)].push_back(token);
    sharding.s.sets[static_cast<std::size_t>(n % nodes % sharding.beta())].push_back(token);
  }
  sharding.r.tokens = sharding.s.tokens = w.prefill_tokens + w.decode_steps;
  return as_one_step(build_cascade(*served.model, sharding, w),
                     static_cast<std::int32_t>(w.decode_steps - nodes), served.model->layer_count());
}

}  // namespace tessera::traces
