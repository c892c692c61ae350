#include "cli/operator_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cli/output.hpp"
#include "cli/table.hpp"
#include "traces/operators/readers.hpp"

namespace tessera::cli {

namespace {

std::string_view kind_of_node(const traces::TraceNode& node) {
  constexpr std::array<std::string_view, 4> kNames{"host", "kernel", "collective", "copy"};
  return kNames[static_cast<std::size_t>(node.kind)];
}

std::string collective_text(const traces::Collective& c) {
  constexpr std::array<std::string_view, 6> kNames{"all_reduce", "all_gather", "reduce_scatter",
                                                   "all_to_all", "broadcast",  "send_recv"};
  return fmt::format("{} {:.0f} B of each of {}", kNames[static_cast<std::size_t>(c.kind)], c.bytes, c.gpus);
}

std::string operator_text(const traces::TraceNode& node) {
  if (node.op) return models::signature_of(*node.op);
  if (node.collective) return collective_text(*node.collective);
  return node.part_of ? fmt::format("part of node {}", *node.part_of) : "";
}

/// A cell of CSV: in quotes where it must be.
std::string cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

/// A name of a kernel may be a whole C++ signature.
std::string shortened(const std::string& name) {
  constexpr std::size_t kMost = 48;
  if (name.size() <= kMost) return name;
  std::size_t cut = kMost;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xC0) == 0x80) --cut;  // between characters
  return name.substr(0, cut) + "...";
}

}  // namespace

std::string head_of_operators(const std::string& file, std::int64_t lines) {
  const traces::OperatorTrace trace = traces::read_operators(file);
  Table table{{"node", "kind", "recorded", "after", "operator", "name"}};
  const auto shown = std::min(trace.nodes.size(), static_cast<std::size_t>(lines));
  for (std::size_t n = 0; n < shown; ++n) {
    const traces::TraceNode& node = trace.nodes[n];
    table.add({fmt::format("{}", n), std::string{kind_of_node(node)}, duration_text(node.recorded_us),
               fmt::format("{}", fmt::join(node.after, " ")), operator_text(node), shortened(node.name)});
  }
  return fmt::format("{} ({} nodes)\n{}", file, trace.nodes.size(), table.text());
}

std::int64_t convert_operators(const std::string& file, const std::function<void(std::string_view)>& write) {
  const traces::OperatorTrace trace = traces::read_operators(file);
  write("node,kind,recorded_us,delay_us,after,operator,name\n");
  for (std::size_t n = 0; n < trace.nodes.size(); ++n) {
    const traces::TraceNode& node = trace.nodes[n];
    write(fmt::format("{},{},{},{},{},{},{}\n", n, kind_of_node(node), node.recorded_us, node.delay_us,
                      fmt::join(node.after, " "), cell(operator_text(node)), cell(node.name)));
  }
  return static_cast<std::int64_t>(trace.nodes.size());
}

}  // namespace tessera::cli
