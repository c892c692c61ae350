#pragma once
// What tests of task graphs ask of every graph.

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <map>
#include <vector>

#include "models/dataflow/task_graph.hpp"

namespace tessera::models::testing {

struct Totals {
  double attention_flops = 0;
  std::map<Stage, std::int64_t> sent;
  std::map<Stage, int> messages;
};
/// Requires that tasks wait for earlier ones that end where they run, and that operators are possible and
/// have their operands on their node.
inline Totals totals_of(const TaskGraph& g) {
  Totals t;
  for (TaskId id = 0; id < g.tasks.size(); ++id) {
    const Task& task = g.tasks[id];
    for (const TaskId before : task.after) {
      REQUIRE(before < id);
      const auto* transfer = std::get_if<Transfer>(&g.tasks[before].work);
      const std::uint32_t arrives = transfer != nullptr ? transfer->destination : g.tasks[before].node;
      REQUIRE((arrives == task.node || g.tasks[before].node == task.node));
    }
    if (const auto* transfer = std::get_if<Transfer>(&task.work)) {
      REQUIRE(transfer->destination != task.node);
      REQUIRE(transfer->bytes > 0);
      t.sent[task.stage] += transfer->bytes;
      ++t.messages[task.stage];
    } else {
      const auto& compute = std::get<Compute>(task.work);
      check(compute.op);
      REQUIRE(compute.operands.size() == operands_of(compute.op).size());
      for (const BufferId b : compute.operands) REQUIRE(g.buffers[b].node == task.node);
      if (task.stage == Stage::attention) t.attention_flops += flops_of(compute.op);
    }
  }
  return t;
}

/// The message that a task is, or null.
inline const Transfer* transfer_of(const Task& task) { return std::get_if<Transfer>(&task.work); }

/// The operator that a task runs, or null if it runs another kind.
template <class Op>
const Op* operator_of(const Task& task) {
  const auto* compute = std::get_if<Compute>(&task.work);
  return compute == nullptr ? nullptr : std::get_if<Op>(&compute->op);
}

/// Everything that must have completed before a task, one bit per task.
inline std::vector<std::vector<bool>> ancestors_of(const TaskGraph& g) {
  std::vector<std::vector<bool>> before(g.tasks.size(), std::vector<bool>(g.tasks.size()));
  for (TaskId id = 0; id < g.tasks.size(); ++id) {
    for (const TaskId a : g.tasks[id].after) {
      before[id][a] = true;
      for (TaskId b = 0; b < a; ++b) before[id][b] = before[id][b] || before[a][b];
    }
  }
  return before;
}

inline void require_operands_fit(const TaskGraph& g) {
  for (const Task& task : g.tasks) {
    const auto* compute = std::get_if<Compute>(&task.work);
    if (compute == nullptr) continue;
    const std::vector<Operand> operands = operands_of(compute->op);
    for (std::size_t o = 0; o < operands.size(); ++o) {
      INFO(kind_of(compute->op) << ": " << operands[o].role << " in "
                                << g.buffers[compute->operands[o]].name);
      REQUIRE(operands[o].bytes <= g.buffers[compute->operands[o]].bytes);
      REQUIRE(!(operands[o].written && g.buffers[compute->operands[o]].weight));
    }
  }
}

}  // namespace tessera::models::testing
