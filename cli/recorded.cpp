#include "cli/recorded.hpp"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "cli/command.hpp"
#include "traces/input/byte_source.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"

namespace tessera::cli {

namespace {

template <class Read>
auto read_trace(const std::filesystem::path& file, Read read) {
  try {
    return read(traces::open_file(file), file.string());
  } catch (const std::invalid_argument& e) {
    throw UsageError{e.what()};
  }
}

}  // namespace

std::optional<std::filesystem::path> trace_file(const std::string& value) {
  constexpr std::string_view kPrefix = "trace:";
  if (!value.starts_with(kPrefix)) return std::nullopt;
  return value.substr(kPrefix.size());
}

models::Selection recorded_selection(const std::filesystem::path& file, std::int64_t block,
                                     std::optional<int> layer) {
  traces::SelectionTrace trace = read_trace(file, traces::read_selection_trace);
  if (trace.header.block != block)
    throw UsageError{
        fmt::format("{}: recorded with blocks of {}, not of {}", file.string(), trace.header.block, block)};
  const models::Selection all{
      .kind = models::SelectionKind::lists,
      .layers = std::make_shared<const models::SelectionLayers>(std::move(trace.layers))};
  if (!layer) return all;
  try {
    return models::of_layer(all, *layer);
  } catch (const std::invalid_argument& e) {
    throw UsageError{fmt::format("{}: {}", file.string(), e.what())};
  }
}

models::LoadDistribution recorded_load(const std::filesystem::path& file, std::int64_t experts,
                                       std::int64_t topk) {
  traces::RoutingTrace trace = read_trace(file, traces::read_routing_trace);
  if (trace.header.experts != experts || trace.header.topk != topk)
    throw UsageError{fmt::format("{}: recorded with {} of {} experts, not {} of {}", file.string(),
                                 trace.header.topk, trace.header.experts, topk, experts)};
  return {.kind = models::LoadKind::recorded,
          .counts = std::make_shared<const models::ExpertCounts>(std::move(trace.layers))};
}

}  // namespace tessera::cli
