#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "configs/reader/document.hpp"
#include "traces/input/utf8.hpp"
#include "traces/input/wire.hpp"
#include "traces/operators/readers.hpp"

namespace tessera::traces {

namespace {

// Field numbers of et_def.proto.
namespace field {
constexpr std::uint32_t kId = 1, kName = 2, kType = 3, kControl = 4, kData = 5, kStart = 6, kDuration = 7,
                        kInputs = 8, kAttribute = 10;
constexpr std::uint32_t kValues = 1, kShapes = 2, kTypes = 3;  // IOInfo
constexpr std::uint32_t kAttrName = 1, kInt32 = 7, kInt64 = 9, kUint32 = 11, kUint64 = 13,
                        kBool = 27;  // AttributeProto
}  // namespace field

enum NodeType : std::uint64_t {
  kMetadata = 1,
  kLoad = 2,
  kStore = 3,
  kComp = 4,
  kSend = 5,
  kRecv = 6,
  kCollective = 7
};

struct Node {
  std::uint64_t id = 0, type = 0, duration_us = 0;
  std::string name;
  std::vector<std::uint64_t> deps;
  std::string shapes, types, values;
  bool cpu = false;
  std::int64_t comm_type = -1, comm_bytes = -1, group = 0;
};

std::string text_of(std::string_view bytes, const char* what) {
  if (first_bad_utf8(bytes) != std::string_view::npos) throw WireError{fmt::format("{} is no UTF-8", what)};
  return std::string{bytes};
}

void read_attribute(std::string_view message, Node& node) {
  std::string name;
  std::int64_t value = 0;
  bool whole = false;
  for (WireFields f{message}; f.next();) {
    if (f.number() == field::kAttrName) name = f.bytes();
    if (f.number() == field::kInt32 || f.number() == field::kInt64 || f.number() == field::kUint32 ||
        f.number() == field::kUint64 || f.number() == field::kBool) {
      value = static_cast<std::int64_t>(f.varint());
      whole = true;
    }
  }
  if (!whole) return;
  if (name == "is_cpu_op") node.cpu = value != 0;
  if (name == "comm_type") node.comm_type = value;
  if (name == "comm_size") node.comm_bytes = value;
  if (name == "group_size") node.group = value;
}

Node read_node(std::string_view message) {
  Node node;
  for (WireFields f{message}; f.next();) {
    switch (f.number()) {
      case field::kId:
        node.id = f.varint();
        break;
      case field::kName:
        node.name = text_of(f.bytes(), "a node's name");
        break;
      case field::kType:
        node.type = f.varint();
        break;
      case field::kControl:
      case field::kData:
        f.integers([&](std::uint64_t id) { node.deps.push_back(id); });
        break;
      case field::kDuration:
        node.duration_us = f.varint();
        break;
      case field::kInputs:
        for (WireFields in{f.bytes()}; in.next();) {
          if (in.number() == field::kShapes) node.shapes = in.bytes();
          if (in.number() == field::kTypes) node.types = in.bytes();
          if (in.number() == field::kValues) node.values = in.bytes();
        }
        break;
      case field::kAttribute:
        read_attribute(f.bytes(), node);
        break;
      default:
        break;
    }
  }
  if (node.duration_us > 1'000'000'000'000'000)
    throw WireError{fmt::format("node {} lasts {} us", node.id, node.duration_us)};
  return node;
}

/// "['Tensor(c10::BFloat16)', 'Int']" or with double quotes.
std::vector<std::string> list_of(const std::string& text) {
  std::vector<std::string> list;
  for (std::size_t at = 0; (at = text.find_first_of("'\"", at)) != std::string::npos;) {
    const std::size_t end = text.find(text[at], at + 1);
    if (end == std::string::npos) break;
    list.push_back(text.substr(at + 1, end - at - 1));
    at = end + 1;
  }
  return list;
}

std::optional<models::Operator> mapped(const Node& node) {
  const auto dims = parse_dims(node.shapes);
  if (!dims) return std::nullopt;
  return operator_of({.name = node.name, .dims = *dims, .types = list_of(node.types), .values = {}});
}

std::optional<Collective> collective_of(const Node& node) {
  // CollectiveCommType of et_def.proto.
  static const std::unordered_map<std::int64_t, CollectiveKind> kinds{{0, CollectiveKind::all_reduce},
                                                                      {2, CollectiveKind::all_gather},
                                                                      {5, CollectiveKind::broadcast},
                                                                      {6, CollectiveKind::all_to_all},
                                                                      {7, CollectiveKind::reduce_scatter}};
  if (node.comm_bytes < 0) return std::nullopt;
  if (node.type == kSend || node.type == kRecv)
    return Collective{CollectiveKind::send_recv, static_cast<double>(node.comm_bytes), 2};
  const auto at = kinds.find(node.comm_type);
  if (at == kinds.end()) return std::nullopt;
  return Collective{at->second, static_cast<double>(node.comm_bytes), node.group};
}

/// In an order in which every node follows those it depends on; the file's where it allows.
std::vector<std::uint32_t> ordered(const std::vector<std::vector<std::uint32_t>>& after,
                                   const std::vector<Node>& nodes) {
  std::vector<std::uint32_t> order, waits(nodes.size());
  std::vector<std::vector<std::uint32_t>> before(nodes.size());
  for (std::uint32_t n = 0; n < nodes.size(); ++n) {
    waits[n] = static_cast<std::uint32_t>(after[n].size());
    for (const std::uint32_t a : after[n]) before[a].push_back(n);
  }
  std::vector<std::uint32_t> ready;  // a heap: the first of the file first
  const auto later = std::greater<>{};
  for (std::uint32_t n = 0; n < nodes.size(); ++n) {
    if (waits[n] == 0) ready.push_back(n);
  }
  std::make_heap(ready.begin(), ready.end(), later);
  while (!ready.empty()) {
    std::pop_heap(ready.begin(), ready.end(), later);
    const std::uint32_t n = ready.back();
    ready.pop_back();
    order.push_back(n);
    for (const std::uint32_t b : before[n]) {
      if (--waits[b] > 0) continue;
      ready.push_back(b);
      std::push_heap(ready.begin(), ready.end(), later);
    }
  }
  if (order.size() == nodes.size()) return order;
  const auto stuck = static_cast<std::size_t>(
      std::find_if(waits.begin(), waits.end(), [](std::uint32_t w) { return w > 0; }) - waits.begin());
  throw WireError{
      fmt::format("node {} ('{}') depends on itself, by way of others", nodes[stuck].id, nodes[stuck].name)};
}

OperatorTrace assembled(std::vector<Node> nodes) {
  OperatorTrace trace;
  std::unordered_map<std::uint64_t, std::uint32_t> index;
  for (std::uint32_t n = 0; n < nodes.size(); ++n) {
    if (!index.emplace(nodes[n].id, n).second)
      throw WireError{fmt::format("two nodes have the id {}", nodes[n].id)};
  }
  std::vector<std::vector<std::uint32_t>> after(nodes.size());
  for (std::uint32_t n = 0; n < nodes.size(); ++n) {
    for (const std::uint64_t id : nodes[n].deps) {
      const auto at = index.find(id);
      if (at == index.end()) {
        ++trace.passed_over;
      } else {
        after[n].push_back(at->second);
      }
    }
    std::sort(after[n].begin(), after[n].end());
    after[n].erase(std::unique(after[n].begin(), after[n].end()), after[n].end());
  }
  std::vector<std::uint32_t> place(nodes.size());
  std::unordered_map<std::uint32_t, std::uint32_t> launched;  // host node to the node of its first kernel
  for (const std::uint32_t n : ordered(after, nodes)) {
    const Node& node = nodes[n];
    place[n] = static_cast<std::uint32_t>(trace.nodes.size());
    TraceNode& made = trace.nodes.emplace_back();
    made.name = node.name;
    made.recorded_us = static_cast<double>(node.duration_us);
    for (const std::uint32_t a : after[n]) made.after.push_back(place[a]);
    if (node.type == kCollective || node.type == kSend || node.type == kRecv) {
      made.kind = TraceNode::Kind::collective;
      made.collective = collective_of(node);
    } else if (node.type == kLoad || node.type == kStore) {
      made.kind = TraceNode::Kind::copy;
    } else if (node.cpu || node.type != kComp) {
      made.kind = TraceNode::Kind::host;
    } else {
      made.op = mapped(node);
      // A kernel is named by its symbol: what it does is said by the host operator that launched it.
      for (std::size_t a = 0; !made.op && a < after[n].size(); ++a) {
        const std::uint32_t launcher = after[n][a];
        if (!nodes[launcher].cpu) continue;
        made.op = mapped(nodes[launcher]);
        if (!made.op) continue;
        const auto [first, added] = launched.try_emplace(launcher, place[n]);
        if (added) break;
        made.op.reset();
        made.part_of = first->second;
        break;
      }
    }
  }
  return trace;
}

}  // namespace

OperatorTrace read_chakra(std::unique_ptr<ByteSource> source, const std::string& name) {
  WireMessages messages{std::move(source)};
  std::string message;
  std::vector<Node> nodes;
  try {
    if (!messages.next(message)) throw WireError{"is empty; expected a Chakra execution trace"};
    for (WireFields f{message}; f.next();) {
      if (f.number() > 2)
        throw WireError{fmt::format("the first message has a field {}: no GlobalMetadata", f.number())};
      f.bytes();
    }
    while (messages.next(message)) nodes.push_back(read_node(message));
    return assembled(std::move(nodes));
  } catch (const WireError& e) {
    throw config::InputError{fmt::format("{}: message at byte {}: {}", name, messages.offset(), e.what())};
  }
}

}  // namespace tessera::traces
