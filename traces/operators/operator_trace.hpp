#pragma once
// A recorded execution of operators on one GPU, as data: what ran, for how long, after what.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/operators/operator.hpp"

namespace tessera::traces {

enum class CollectiveKind : std::uint8_t {
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  broadcast,
  send_recv
};

struct Collective {
  CollectiveKind kind = CollectiveKind::all_reduce;
  double bytes = 0;  ///< that each GPU puts in
  std::int64_t gpus = 0;
};

struct TraceNode {
  enum class Kind : std::uint8_t { host, kernel, collective, copy };

  std::string name;
  Kind kind = Kind::kernel;
  double recorded_us = 0;
  double delay_us = 0;               ///< from the end of the last one of `after` to its start, as recorded
  std::vector<std::uint32_t> after;  ///< nodes with smaller indices
  std::optional<models::Operator> op;
  std::optional<Collective> collective;
  std::optional<std::uint32_t>
      part_of;  ///< a further kernel of the operator that this earlier node stands for
};

struct OperatorTrace {
  std::vector<TraceNode> nodes;
  std::int64_t passed_over = 0;  ///< records that are of no operator
};

/// What one call of a PyTorch operator was given.
struct OperatorCall {
  std::string name;                             ///< "aten::mm"
  std::vector<std::vector<std::int64_t>> dims;  ///< of each argument; empty for what is no tensor
  std::vector<std::string> types;               ///< "c10::BFloat16"
  std::vector<std::string> values;  ///< of arguments that are no tensors; "" or missing: not recorded
};

/// Our operator of the same work, if we have one. Known: mm, addmm, bmm, linear, matmul, the flash attention
/// forward passes, embedding, rms_norm, layer_norm, softmax, copy_.
std::optional<models::Operator> operator_of(const OperatorCall& call);

/// "[[8, 16], [], [16, 4]]" to dims. Nothing if it is no such text, or lists go deeper.
std::optional<std::vector<std::vector<std::int64_t>>> parse_dims(const std::string& text);

}  // namespace tessera::traces
