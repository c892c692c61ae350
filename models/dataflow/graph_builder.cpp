#include "models/dataflow/graph_builder.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::models {

GraphBuilder::GraphBuilder(const Architecture& architecture, const Workload& work)
    : model{architecture}, workload{work} {
  if (workload.prefill_tokens <= 0) throw std::invalid_argument{"prefill_tokens must be positive"};
  if (workload.cached_tokens < 0 || workload.cached_tokens > workload.prefill_tokens) {
    throw std::invalid_argument{fmt::format("cached_tokens must be 0 to the prompt's {}, not {}",
                                            workload.prefill_tokens, workload.cached_tokens)};
  }
  if (workload.cached_tokens > 0 && !model.causal) {
    throw std::invalid_argument{
        fmt::format("cached_tokens: {} is bidirectional and has no cache", model.name)};
  }
  if (workload.new_tokens() == 0 && workload.decode_steps == 0)
    throw std::invalid_argument{"the whole prompt is cached and nothing is decoded: there is nothing to run"};
  if (workload.decode_steps < 0) throw std::invalid_argument{"decode_steps must not be negative"};
  if (workload.batch <= 0) throw std::invalid_argument{"batch must be positive"};
  if (workload.decode_steps > 0 && !model.causal) {
    throw std::invalid_argument{
        fmt::format("decode_steps: {} is bidirectional and cannot decode", model.name)};
  }
  // Rotary positions go on beyond the trained length (at what quality is not our question); learned ones end.
  if (model.learned_positions && tokens() > model.max_positions) {
    throw std::invalid_argument{
        fmt::format("{} tokens exceed the {} positions of {}", tokens(), model.max_positions, model.name)};
  }
}

BufferId GraphBuilder::buffer(std::uint32_t node, std::int64_t bytes, std::string name, bool weight) {
  graph.buffers.push_back({node, bytes, weight, std::move(name)});
  return static_cast<BufferId>(graph.buffers.size() - 1);
}

TaskId GraphBuilder::add(std::uint32_t node, Stage stage, Operator op, std::vector<BufferId> operands,
                         std::vector<TaskId> after) {
  graph.tasks.push_back(
      {node, layer, step, stage, Compute{std::move(op), std::move(operands)}, std::move(after)});
  return static_cast<TaskId>(graph.tasks.size() - 1);
}

TaskId GraphBuilder::send(std::uint32_t from, std::uint32_t to, Stage stage, std::int64_t bytes,
                          std::vector<TaskId> after) {
  graph.tasks.push_back({from, layer, step, stage, Transfer{to, bytes}, std::move(after)});
  return static_cast<TaskId>(graph.tasks.size() - 1);
}

void GraphBuilder::not_built(std::string_view kind) const {
  throw std::invalid_argument{
      fmt::format("layer {} of {} has {}, of which no task graph can be built yet", layer, model.name, kind)};
}

}  // namespace tessera::models
