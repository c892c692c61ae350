#pragma once
// What all that builds task graphs shares: the graph so far, and the layer and step that it stands at.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "models/dataflow/build.hpp"

namespace tessera::models {

struct GraphBuilder {
  /// Throws std::invalid_argument if the model cannot run the workload.
  GraphBuilder(const Architecture& model, const Workload& workload);

  const Architecture& model;
  const Workload& workload;
  TaskGraph graph;
  std::int32_t layer = -1, step = -1;  ///< of the tasks that are added

  std::int64_t element_bytes() const { return bytes_of(model.dtype); }
  std::int64_t tokens() const { return workload.prefill_tokens + workload.decode_steps; }
  /// A causal model's prompt is kept for the tokens to come, decoded in this run or not; a bidirectional
  /// model recomputes everything, and so keeps nothing.
  bool keeps_cache() const { return model.causal; }
  const Layer& current() const { return model.layers[static_cast<std::size_t>(layer)]; }

  BufferId buffer(std::uint32_t node, std::int64_t bytes, std::string name, bool weight = false);
  TaskId add(std::uint32_t node, Stage stage, Operator op, std::vector<BufferId> operands,
             std::vector<TaskId> after);
  TaskId send(std::uint32_t from, std::uint32_t to, Stage stage, std::int64_t bytes,
              std::vector<TaskId> after);

  /// For kinds of layers whose task graphs are still to come: throws std::invalid_argument that names the
  /// layer.
  [[noreturn]] void not_built(std::string_view kind) const;
};

/// The largest size(shape) of the model's layers with attention of this kind; 0 if it has none.
template <class Shape, class Size>
std::int64_t largest(const Architecture& model, Size size) {
  std::int64_t most = 0;
  for (const Layer& l : model.layers) {
    if (const auto* shape = std::get_if<Shape>(&l.attention)) most = std::max(most, size(*shape));
  }
  return most;
}

}  // namespace tessera::models
