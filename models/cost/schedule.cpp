#include "models/cost/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <queue>
#include <span>
#include <stdexcept>
#include <tuple>

namespace tessera::cost {

namespace {

using models::TaskId;

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kByteSlack = 1e-3;  // of rounding: a message with less left has been sent

/// Latencies below 1 ns are simulated as 1 ns (sim/fabric).
Time at_least_1ns(double ns) { return max(Time::from_ns(ns), Time::nanoseconds(1)); }

/// A list per row, all in one array.
struct Lists {
  std::vector<std::uint32_t> first, items;
  std::span<const std::uint32_t> of(std::size_t row) const {
    return {items.data() + first[row], items.data() + first[row + 1]};
  }
};

/// Of each task, those that wait for it: on its own node, and where its message goes.
struct Edges {
  Lists local, remote;
};

Edges edges_of(const models::TaskGraph& graph) {
  const std::size_t n = graph.tasks.size();
  Edges edges;
  const auto each = [&](auto visit) {
    for (TaskId id = 0; id < n; ++id) {
      for (const TaskId before : graph.tasks[id].after)
        visit(graph.tasks[before].node == graph.tasks[id].node ? edges.local : edges.remote, before, id);
    }
  };
  for (Lists* lists : {&edges.local, &edges.remote}) lists->first.assign(n + 2, 0);
  each([](Lists& lists, TaskId before, TaskId) { ++lists.first[before + 2]; });
  for (Lists* lists : {&edges.local, &edges.remote}) {
    for (std::size_t i = 2; i < lists->first.size(); ++i) lists->first[i] += lists->first[i - 1];
    lists->items.resize(lists->first.back());
  }
  each([](Lists& lists, TaskId before, TaskId id) { lists.items[lists.first[before + 1]++] = id; });
  return edges;
}

/// The links of sim/fabric, by number: node n up 2n and down 2n + 1, then of each first-level switch up and
/// down.
class Network {
 public:
  Network(const FabricSpec& spec, const std::vector<models::Node>& nodes)
      : spec_{spec},
        nodes_{nodes.size()},
        per_switch_{static_cast<std::size_t>(spec.nodes_per_switch)},
        leaves_{(nodes.size() + per_switch_ - 1) / per_switch_} {
    rates_.assign(2 * nodes_, spec.node_gb_per_s * 1e-6);
    for (std::size_t s = 0; leaves_ > 1 && s < leaves_; ++s) {
      const std::size_t below = std::min(nodes_, (s + 1) * per_switch_) - s * per_switch_;
      const double gb_per_s =
          spec.uplink_gb_per_s > 0 ? spec.uplink_gb_per_s : spec.node_gb_per_s * static_cast<double>(below);
      rates_.insert(rates_.end(), 2, gb_per_s * 1e-6);
    }
    // A byte's place in the far buffer is free again a round trip later.
    const double packet = static_cast<double>(spec.packet_bytes + spec.header_bytes);
    for (std::size_t l = 0; l < rates_.size(); ++l) {
      const Time hop = at_least_1ns(spec.link_latency_ns + (l < 2 * nodes_ ? 0 : spec.core_latency_ns / 2));
      const double round_trip = static_cast<double>((hop * 2 + Time::from_ns(spec.switch_latency_ns)).fs);
      usable_.push_back(
          std::min(rates_[l], static_cast<double>(spec.buffer_bytes) / (round_trip + packet / rates_[l])));
    }
  }

  std::size_t links() const { return rates_.size(); }
  double bytes_per_fs(std::size_t link) const { return rates_[link]; }
  /// The same as far as the credits of its far end's buffer let it.
  double usable_bytes_per_fs(std::size_t link) const { return usable_[link]; }
  /// Beyond the sender's own port.
  std::vector<std::uint32_t> path(std::size_t from, std::size_t to) const {
    const auto down = static_cast<std::uint32_t>(2 * to + 1);
    const std::size_t a = from / per_switch_, b = to / per_switch_;
    if (a == b) return {down};
    return {static_cast<std::uint32_t>(2 * (nodes_ + a)), static_cast<std::uint32_t>(2 * (nodes_ + b) + 1),
            down};
  }
  /// From the last byte's leaving its node to its arrival at the other.
  Time way(std::size_t from, std::size_t to, std::int64_t bytes) const {
    const Time hop = at_least_1ns(spec_.link_latency_ns), forwarding = Time::from_ns(spec_.switch_latency_ns);
    const auto last = static_cast<double>(std::min(bytes, spec_.packet_bytes) + spec_.header_bytes);
    Time time = hop + forwarding + hop + endpoint();
    const std::vector<std::uint32_t> links = path(from, to);
    for (const std::uint32_t link : links) time += Time{std::llround(last / rates_[link])};
    if (links.size() > 1)
      time += (at_least_1ns(spec_.link_latency_ns + spec_.core_latency_ns / 2) + forwarding) * 2;
    return time;
  }
  Time endpoint() const { return at_least_1ns(spec_.endpoint_latency_ns); }
  std::int64_t wire_bytes(std::int64_t bytes) const {
    return bytes + (bytes + spec_.packet_bytes - 1) / spec_.packet_bytes * spec_.header_bytes;
  }
  /// In the order of sim::Fabric::links().
  std::vector<std::pair<std::size_t, std::string>> names(const std::vector<models::Node>& nodes) const {
    std::vector<std::pair<std::size_t, std::string>> all;
    for (std::size_t n = 0; n < nodes_; ++n)
      all.emplace_back(2 * n, fmt::format("{} -> switch{}", nodes[n].name, n / per_switch_));
    for (std::size_t s = 0; s < leaves_; ++s) {
      for (std::size_t n = s * per_switch_; n < std::min(nodes_, (s + 1) * per_switch_); ++n)
        all.emplace_back(2 * n + 1, fmt::format("switch{} -> {}", s, nodes[n].name));
      if (leaves_ > 1) all.emplace_back(2 * (nodes_ + s), fmt::format("switch{} -> core", s));
    }
    for (std::size_t s = 0; leaves_ > 1 && s < leaves_; ++s)
      all.emplace_back(2 * (nodes_ + s) + 1, fmt::format("core -> switch{}", s));
    return all;
  }

 private:
  const FabricSpec& spec_;
  std::size_t nodes_, per_switch_, leaves_;
  std::vector<double> rates_, usable_;
};

/// Messages on their way out, a node's all at one rate.
class Flows {
 public:
  Flows(const Network& network, std::size_t nodes, bool spans)
      : network_{network}, senders_(nodes), residual_(network.links()), inputs_(network.links()) {
    if (spans) spans_.resize(network.links());
  }

  void add(double now, std::uint32_t node, TaskId message, double wire_bytes,
           std::vector<std::uint32_t> path) {
    advance(now);
    Sender& s = senders_[node];
    if (s.messages.empty()) {
      active_.push_back(node);
      s.served = 0;
    }
    for (const std::uint32_t link : path) {
      const auto at =
          std::find_if(s.uses.begin(), s.uses.end(), [&](const Use& u) { return u.link == link; });
      if (at == s.uses.end())
        s.uses.push_back({link, 1});
      else
        ++at->messages;
    }
    s.messages.push_back({s.served + wire_bytes, message, std::move(path)});
    std::push_heap(s.messages.begin(), s.messages.end());
    stale_ = true;
  }

  /// When the next message will have left its node, in fs.
  double next() {
    if (stale_) share_out();
    return next_;
  }

  /// Takes out the messages that have left at `now`, and calls left(message).
  template <class Left>
  void take(double now, Left left) {
    advance(now);
    for (std::size_t i = 0; i < active_.size();) {
      Sender& s = senders_[active_[i]];
      while (!s.messages.empty() && s.messages.front().until <= s.served + kByteSlack) {
        std::pop_heap(s.messages.begin(), s.messages.end());
        for (const std::uint32_t link : s.messages.back().path)
          --std::find_if(s.uses.begin(), s.uses.end(), [&](const Use& u) {
              return u.link == link;
            })->messages;
        std::erase_if(s.uses, [](const Use& u) { return u.messages == 0; });
        left(s.messages.back().id);
        s.messages.pop_back();
        stale_ = true;
      }
      if (s.messages.empty())
        active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
      else
        ++i;
    }
  }

  std::vector<LinkSpan> spans_of(std::size_t link) {
    return spans_.empty() ? std::vector<LinkSpan>{} : spans_[link];
  }

 private:
  struct Use {
    std::uint32_t link = 0, messages = 0;
  };
  struct Message {
    double until = 0;  // of Sender::served
    TaskId id = 0;
    std::vector<std::uint32_t> path;
    // A heap's front is its greatest: here, the first to end.
    bool operator<(const Message& o) const { return std::tie(until, id) > std::tie(o.until, o.id); }
  };
  struct Sender {
    double served = 0, rate = 0;  // bytes of each of its messages, and per fs
    std::vector<Message> messages;
    std::vector<Use> uses;  // links beyond its own port
    bool fixed = false;
  };

  void advance(double now) {
    const double span = now - now_;
    if (span <= 0) return;
    for (const std::uint32_t n : active_) senders_[n].served += senders_[n].rate * span;
    if (!spans_.empty() && !active_.empty()) record(now);
    now_ = now;
  }

  void record(double now) {
    load_.assign(network_.links(), 0);
    for (const std::uint32_t n : active_) {
      const Sender& s = senders_[n];
      load_[2 * n] += s.rate * static_cast<double>(s.messages.size());
      for (const Use& u : s.uses) load_[u.link] += s.rate * u.messages;
    }
    const Time from{static_cast<std::int64_t>(now_)}, to{static_cast<std::int64_t>(now)};
    for (std::size_t l = 0; l < load_.size(); ++l) {
      if (load_[l] <= 0) continue;
      const double share = std::min(1.0, load_[l] / network_.bytes_per_fs(l));
      std::vector<LinkSpan>& spans = spans_[l];
      if (!spans.empty() && spans.back().end == from && spans.back().share == share)
        spans.back().end = to;
      else
        spans.push_back({from, to, share});
    }
  }

  void share_out() {
    stale_ = false;
    for (const std::uint32_t n : active_) {
      senders_[n].fixed = false;
      for (const Use& u : senders_[n].uses) inputs_[u.link] = 0;
    }
    for (const std::uint32_t n : active_) {
      for (const Use& u : senders_[n].uses) {
        residual_[u.link] = network_.usable_bytes_per_fs(u.link);
        ++inputs_[u.link];
      }
    }
    next_ = kNever;
    for (std::size_t left = active_.size(); left > 0;) {
      // The most constrained nodes have their rate; what they leave is shared out among the others.
      double least = kNever;
      bounds_.clear();
      for (const std::uint32_t n : active_) {
        const Sender& s = senders_[n];
        double bound = kNever;
        if (!s.fixed) {
          bound = network_.usable_bytes_per_fs(2 * n) / static_cast<double>(s.messages.size());
          for (const Use& u : s.uses)
            bound = std::min(bound, residual_[u.link] / inputs_[u.link] / u.messages);
        }
        bounds_.push_back(bound);
        least = std::min(least, bound);
      }
      for (std::size_t i = 0; i < active_.size(); ++i) {
        Sender& s = senders_[active_[i]];
        if (s.fixed || bounds_[i] > least * (1 + 1e-12)) continue;
        s.fixed = true;
        --left;
        s.rate = bounds_[i];
        for (const Use& u : s.uses) {
          residual_[u.link] = std::max(0.0, residual_[u.link] - s.rate * u.messages);
          --inputs_[u.link];
        }
        next_ = std::min(next_, now_ + std::max(0.0, s.messages.front().until - s.served) / s.rate);
      }
    }
  }

  const Network& network_;
  std::vector<Sender> senders_;
  std::vector<std::uint32_t> active_;
  std::vector<double> residual_, bounds_, load_;
  std::vector<std::uint32_t> inputs_;
  std::vector<std::vector<LinkSpan>> spans_;
  double now_ = 0, next_ = kNever;
  bool stale_ = false;
};

class Run {
 public:
  Run(const models::TaskGraph& graph, const FabricSpec& fabric, const std::vector<Time>& durations,
      bool spans)
      : graph_{graph},
        fabric_{fabric},
        durations_{durations},
        network_{fabric, graph.nodes},
        flows_{network_, graph.nodes.size(), spans},
        edges_{edges_of(graph)},
        nodes_(graph.nodes.size()),
        waits_(graph.tasks.size()) {
    result_.start.resize(graph.tasks.size());
    result_.end.resize(graph.tasks.size());
    result_.bytes_out.resize(graph.nodes.size());
    result_.bytes_in.resize(graph.nodes.size());
    wire_.resize(network_.links());
    payload_.resize(network_.links());
  }

  Schedule run() {
    for (TaskId id = 0; id < graph_.tasks.size(); ++id) {
      const models::Task& task = graph_.tasks[id];
      waits_[id] = static_cast<std::uint32_t>(task.after.size());
      if (is_transfer(id)) {
        if (waits_[id] == 0) send(Time{}, id);
      } else {
        nodes_[task.node].stream.push_back(id);
      }
    }
    for (std::uint32_t n = 0; n < nodes_.size(); ++n) start_next(Time{}, n);
    for (;;) {
      const double sent = flows_.next();
      const Time at = events_.empty() ? Time::never() : events_.top().at;
      if (events_.empty() && sent == kNever) break;
      if (events_.empty() || sent < static_cast<double>(at.fs)) {
        const Time now{std::llround(sent)};
        flows_.take(sent, [&](TaskId id) { left(now, id); });
      } else {
        // Everything of one moment, before links are shared out anew.
        while (!events_.empty() && events_.top().at == at) {
          const Event event = events_.top();
          events_.pop();
          ++result_.events;
          handle(event);
        }
      }
    }
    check_done();
    report_links();
    return std::move(result_);
  }

 private:
  enum class Kind : std::uint8_t { kernel_done, begin, sent, received };
  struct Event {
    Time at;
    Kind kind = Kind::kernel_done;
    TaskId id = 0;
    bool operator<(const Event& o) const { return std::tie(o.at, o.kind, o.id) < std::tie(at, kind, id); }
  };
  struct Node {
    std::vector<TaskId> stream;  // kernels, in order
    std::size_t next = 0;
    bool busy = false;
    Time overhead_until;  // its cost per message, serial
  };

  bool is_transfer(TaskId id) const {
    return std::holds_alternative<models::Transfer>(graph_.tasks[id].work);
  }
  const models::Transfer& transfer(TaskId id) const {
    return std::get<models::Transfer>(graph_.tasks[id].work);
  }

  void send(Time now, TaskId id) {
    Node& node = nodes_[graph_.tasks[id].node];
    result_.start[id] = now;
    node.overhead_until =
        max(node.overhead_until, now + network_.endpoint()) + Time::from_us(fabric_.message_overhead_us);
    events_.push({node.overhead_until, Kind::begin, id});
  }

  void left(Time now, TaskId id) {
    const std::uint32_t from = graph_.tasks[id].node;
    events_.push({now + network_.endpoint(), Kind::sent, id});
    events_.push(
        {now + network_.way(from, transfer(id).destination, transfer(id).bytes), Kind::received, id});
  }

  void handle(const Event& event) {
    const std::uint32_t node = graph_.tasks[event.id].node;
    switch (event.kind) {
      case Kind::kernel_done:
        nodes_[node].busy = false;
        complete(event.at, edges_.local.of(event.id));
        start_next(event.at, node);
        break;
      case Kind::begin: {
        const models::Transfer& t = transfer(event.id);
        std::vector<std::uint32_t> path = network_.path(node, t.destination);
        const std::int64_t wire = network_.wire_bytes(t.bytes);
        const auto book = [&](std::size_t link) {
          wire_[link] += wire;
          payload_[link] += t.bytes;
        };
        book(2 * node);
        for (const std::uint32_t link : path) book(link);
        result_.bytes_out[node] += t.bytes;
        result_.bytes_in[t.destination] += t.bytes;
        flows_.add(static_cast<double>(event.at.fs), node, event.id, static_cast<double>(wire),
                   std::move(path));
        break;
      }
      case Kind::sent:
        complete(event.at, edges_.local.of(event.id));
        start_next(event.at, node);
        break;
      case Kind::received:
        result_.end[event.id] = event.at;
        complete(event.at, edges_.remote.of(event.id));
        start_next(event.at, transfer(event.id).destination);
        break;
    }
  }

  void complete(Time now, std::span<const std::uint32_t> dependents) {
    for (const TaskId id : dependents) {
      if (--waits_[id] == 0 && is_transfer(id)) send(now, id);
    }
  }

  void start_next(Time now, std::uint32_t n) {
    Node& node = nodes_[n];
    if (node.busy || node.next == node.stream.size()) return;
    const TaskId id = node.stream[node.next];
    if (waits_[id] != 0) return;
    ++node.next;
    node.busy = true;
    result_.start[id] = now + Time::from_us(graph_.tasks[id].host_us);
    result_.end[id] = result_.start[id] + durations_[id];
    events_.push({result_.end[id], Kind::kernel_done, id});
  }

  void check_done() const {
    for (TaskId id = 0; id < waits_.size(); ++id) {
      if (waits_[id] == 0) continue;
      const models::Task& t = graph_.tasks[id];
      throw std::logic_error{fmt::format("{} of layer {} on {} lacks {} of what it depends on",
                                         models::name_of(t.stage), t.layer, graph_.nodes[t.node].name,
                                         waits_[id])};
    }
  }

  void report_links() {
    for (auto& [link, name] : network_.names(graph_.nodes)) {
      const Time busy{static_cast<std::int64_t>(
          std::ceil(static_cast<double>(wire_[link]) / network_.bytes_per_fs(link)))};
      result_.links.push_back({std::move(name), payload_[link], busy, flows_.spans_of(link)});
    }
  }

  const models::TaskGraph& graph_;
  const FabricSpec& fabric_;
  const std::vector<Time>& durations_;
  Network network_;
  Flows flows_;
  Edges edges_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> waits_;
  std::priority_queue<Event> events_;
  std::vector<std::int64_t> wire_, payload_;  // by link
  Schedule result_;
};

}  // namespace

Schedule schedule_tasks(const models::TaskGraph& graph, const FabricSpec& fabric,
                        const std::vector<Time>& durations, bool spans) {
  return Run{graph, fabric, durations, spans}.run();
}

}  // namespace tessera::cost
