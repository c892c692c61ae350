#include "models/dataflow/linear_segments.hpp"

#include <algorithm>

#include "models/dataflow/linear_block.hpp"

namespace tessera::models {

namespace {

std::int64_t map_of(const KdaShape& k) { return map_bytes(k.heads, k.k_dim, k.v_dim); }

}  // namespace

LinearBySegments::LinearBySegments(GraphBuilder& g, const Placement& placement,
                                   const std::vector<CompNode>& comp)
    : g_{g}, p_{placement}, comp_{comp} {
  const auto most = [&](auto size) { return largest<KdaShape>(g.model, size); };
  if (most(linear::sent_width) == 0) return;
  const Workload& w = g.workload;
  const std::int64_t e = g.element_bytes(), maps = w.batch * most(map_of);
  const auto n = static_cast<std::int64_t>(std::size_t{p_.beta} * p_.beta);
  nodes_.resize(static_cast<std::size_t>(n));
  std::int64_t before = 0;  // segments that have tokens
  for (std::int64_t a = 0; a < n; ++a) {
    AttnNode& node = nodes_[static_cast<std::size_t>(a)];
    const std::uint32_t at = id(static_cast<std::size_t>(a));
    node.first = w.cached_tokens + w.new_tokens() * a / n;
    node.last = w.cached_tokens + w.new_tokens() * (a + 1) / n;
    const bool keeps = a + 1 == n;
    if (node.tokens() == 0 && !keeps) continue;
    const std::int64_t own = std::max<std::int64_t>(1, node.tokens()) * w.batch;
    const std::int64_t past =
        node.tokens() > 0 ? w.batch * most([](const KdaShape& k) { return k.taps - 1; }) : 0;
    node.received = g.buffer(at, (own * most(linear::sent_width) + past * most(linear::qkv_width)) * e,
                             "received q, k, v, decay");
    node.out = g.buffer(at, own * most([](const KdaShape& k) { return k.v_width(); }) * e, "output");
    if (node.tokens() > 0) {
      node.map = g.buffer(at, maps, "state map");
      if (before > 0) node.maps = g.buffer(at, before * maps, "state maps of the segments before");
      ++before;
    }
    node.heads = linear::heads(g, at, own, kda_shapes(g.model), keeps);
  }
}

std::int64_t LinearBySegments::rows(std::uint32_t i, std::int64_t first, std::int64_t last) const {
  const auto& r = p_.r[i];
  return std::lower_bound(r.begin(), r.end(), static_cast<std::int32_t>(last)) -
         std::lower_bound(r.begin(), r.end(), static_cast<std::int32_t>(first));
}

TasksByNode LinearBySegments::send(const KdaShape& k, const std::vector<TaskId>& ready) {
  const std::int64_t element = g_.workload.batch * g_.element_bytes();
  TasksByNode received(nodes_.size());
  for (std::uint32_t i = 0; i < p_.alpha; ++i) {
    if (p_.r[i].empty()) continue;
    const TaskId t = linear::project(g_, comp_[i], k, p_.r_rows(i) * g_.workload.batch, ready[i]);
    for (std::size_t a = 0; a < nodes_.size(); ++a) {
      const AttnNode& node = nodes_[a];
      if (node.tokens() == 0) continue;
      const std::int64_t past = rows(i, node.first - (k.taps - 1), node.first);
      const std::int64_t bytes =
          element * (rows(i, node.first, node.last) * linear::sent_width(k) + past * linear::qkv_width(k));
      if (bytes > 0) received[a].push_back(g_.send(i, id(a), Stage::send, bytes, {t}));
    }
  }
  return received;
}

void LinearBySegments::prefill(const KdaShape& k, const std::vector<TaskId>& ready) {
  const auto l = static_cast<std::size_t>(g_.layer);
  const Workload& w = g_.workload;
  const bool cached = w.cached_tokens > 0;
  TasksByNode received = send(k, ready);
  // The state that the cached tokens left, with the convolutions' inputs, from where it is kept.
  TasksByNode to_scan(nodes_.size());
  const std::size_t keeper = nodes_.size() - 1;
  const LinearDecode one = linear::step(g_, k);
  for (std::size_t a = 0; cached && a < keeper; ++a) {
    if (nodes_[a].tokens() == 0) continue;
    const std::int64_t bytes = w.batch * (state_bytes(one) + state_bytes(linear::convolution(g_, k, 1)));
    to_scan[a].push_back(g_.send(id(keeper), id(a), Stage::scan, bytes, {}));
    received[a].push_back(to_scan[a].back());
  }
  // Maps, to all later segments.
  std::vector<TaskId> mapped(nodes_.size());
  std::vector<std::int64_t> maps(nodes_.size());
  for (std::size_t a = 0; a < nodes_.size(); ++a) {
    const AttnNode& node = nodes_[a];
    if (node.tokens() == 0) continue;
    const LinearHeads& h = node.heads;
    const TaskId mixed = g_.add(id(a), Stage::qkv, linear::convolution(g_, k, node.tokens()),
                                {node.received, h.weights[l], h.mixed, h.conv_past[l]}, received[a]);
    LinearAttention map = linear::chunked(g_, k);
    map.seq = node.tokens();
    map.part = SegmentPart::map;
    mapped[a] = g_.add(id(a), Stage::attention, map,
                       {h.mixed, h.mixed, h.mixed, node.received, node.received, node.map}, {mixed});
    for (std::size_t b = a + 1; b < nodes_.size(); ++b) {
      if (nodes_[b].tokens() == 0) continue;
      ++maps[b];
      to_scan[b].push_back(g_.send(id(a), id(b), Stage::scan, w.batch * map_of(k), {mapped[a]}));
    }
  }
  returned_.assign(p_.alpha, {});
  for (std::size_t a = 0; a < nodes_.size(); ++a) {
    const AttnNode& node = nodes_[a];
    if (node.tokens() == 0) continue;
    const BufferId state = node.heads.state[l];
    std::vector<TaskId> after = std::move(to_scan[a]);
    if (maps[a] > 0) {
      std::vector<BufferId> operands{node.maps};
      if (cached) operands.push_back(state);
      operands.push_back(state);
      after = {g_.add(id(a), Stage::scan,
                      StateScan{.batch = w.batch,
                                .heads = k.heads,
                                .k_dim = k.k_dim,
                                .v_dim = k.v_dim,
                                .maps = maps[a],
                                .initial_state = cached},
                      std::move(operands), std::move(after))};
    }
    after.push_back(mapped[a]);
    LinearAttention rest = linear::chunked(g_, k);
    rest.seq = node.tokens();
    rest.initial_state = cached || maps[a] > 0;
    rest.part = SegmentPart::rest;
    std::vector<BufferId> operands;
    if (rest.initial_state) operands.push_back(state);
    operands.insert(operands.end(), {node.out, state});
    const TaskId t = g_.add(id(a), Stage::attention, rest, std::move(operands), std::move(after));
    for (std::uint32_t i = 0; i < p_.alpha; ++i) {
      const std::int64_t bytes = rows(i, node.first, node.last) * w.batch * k.v_width() * g_.element_bytes();
      if (bytes > 0) returned_[i].push_back(g_.send(id(a), i, Stage::returns, bytes, {t}));
    }
  }
}

TaskId LinearBySegments::finish(const KdaShape& k, std::uint32_t i) {
  return linear::project_out(g_, comp_[i], k, p_.r_rows(i) * g_.workload.batch, returned_[i]);
}

TaskId LinearBySegments::decode(const KdaShape& k, std::uint32_t i, std::int64_t, TaskId after) {
  const std::int64_t batch = g_.workload.batch, e = g_.element_bytes();
  const std::uint32_t keeper = id(nodes_.size() - 1);
  const AttnNode& node = nodes_.back();
  const TaskId sent = g_.send(i, keeper, Stage::send, batch * linear::sent_width(k) * e,
                              {linear::project(g_, comp_[i], k, batch, after)});
  const TaskId t = linear::recur(g_, keeper, k, node.heads, node.received, node.received, node.out, {sent});
  return linear::project_out(g_, comp_[i], k, batch,
                             {g_.send(keeper, i, Stage::returns, batch * k.v_width() * e, {t})});
}

}  // namespace tessera::models
