#pragma once
// The task graph of a sharded model: who computes what, and who sends what to whom.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "models/operators/operator.hpp"

namespace tessera::models {

/// The stages of a layer, in the order they are reported.
enum class Stage : std::uint8_t {
  embed,  ///< embedding lookup (before the first layer)
  norm,   ///< normalisation before attention
  qkv,    ///< q, k, v projections, and all else that attention is given; keys and values from latents
  rope,
  send,   ///< CompNode -> AttnNode: q, k, v slices, or what stands for them
  cache,  ///< new k, v or latent rows appended to the cache
  gate,   ///< block means, the choice of blocks, and the AttnNodes' messages about both (MoBA)
  scan,   ///< the state that reaches a segment: maps, and their messages between AttnNodes (KDA)
  attention,
  returns,  ///< AttnNode -> CompNode: partial results
  merge,
  o_proj,
  mlp,       ///< norm, up, activation, down; of a mixture of experts, the norm and the shared experts
  route,     ///< scores of experts and their choice
  dispatch,  ///< CompNode -> CompNode: rows for the experts there
  experts,   ///< the routed experts
  combine,   ///< their results back, and the sum
  reduce,    ///< all-reduce of partial sums (tensor parallelism)
  head,      ///< final norm and vocabulary projection (after the last layer)
};
std::string_view name_of(Stage stage);
inline constexpr int kStages = 19;

enum class NodeKind : std::uint8_t { comp, attn };

struct Node {
  std::string name;  ///< "comp0", "attn1,0"
  NodeKind kind = NodeKind::comp;
};

using BufferId = std::uint32_t;
/// A piece of one node's memory: a weight, an activation, a cache.
struct Buffer {
  std::uint32_t node = 0;
  std::int64_t bytes = 0;
  bool weight = false;
  std::string name;
};

/// A kernel on `node`: operands in the order of operands_of(op).
struct Compute {
  Operator op;
  std::vector<BufferId> operands;
};

/// A message from the task's node to `destination`.
struct Transfer {
  std::uint32_t destination = 0;
  std::int64_t bytes = 0;
};

using TaskId = std::uint32_t;
struct Task {
  std::uint32_t node = 0;   ///< where it runs; a transfer runs at its sender
  std::int32_t layer = -1;  ///< -1: before the first or after the last layer
  std::int32_t step = -1;   ///< -1: prefill; 0, 1, ...: decode step
  Stage stage = Stage::embed;
  std::variant<Compute, Transfer> work;
  std::vector<TaskId> after;  ///< tasks that must have completed; a transfer completes on arrival
  /// Of a kernel: once it could start, the host is at work for so long before it does (a step's scheduling,
  /// inputs and outputs).
  double host_us = 0;
};

/// Tasks are numbered so that `after` only names smaller ones; kernels of one node run in that order.
struct TaskGraph {
  std::vector<Node> nodes;
  std::vector<Buffer> buffers;
  std::vector<Task> tasks;
};

}  // namespace tessera::models
