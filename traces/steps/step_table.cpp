#include "traces/steps/step_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "models/cost/critical_path.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::traces {

namespace {

/// 1, 2, 3, 4, 6, 8, 12, ... up to the first that is `most` or more.
std::vector<std::int64_t> halves_of_octaves(std::int64_t most) {
  std::vector<std::int64_t> axis{1};
  for (std::int64_t octave = 2; axis.back() < most; octave *= 2) {
    axis.push_back(octave);
    if (axis.back() < most) axis.push_back(octave + octave / 2);
  }
  return axis;
}

// Attention takes time in proportion to what is attended to, beyond a few thousand keys.
const std::vector<std::int64_t> kPast{0, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20};
const std::vector<std::int64_t> kContext{1, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20};

/// The last index i with axis[i] <= at, and one more.
std::size_t below(const std::vector<std::int64_t>& axis, double at) {
  const auto above = std::upper_bound(axis.begin(), axis.end(), at,
                                      [](double v, std::int64_t a) { return v < static_cast<double>(a); });
  const auto i = static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, above - axis.begin() - 1));
  return std::min(i, axis.size() - 2);
}

std::vector<std::int64_t> bytes_by_node(const models::TaskGraph& graph) {
  std::vector<std::int64_t> bytes(graph.nodes.size());
  for (const models::Buffer& b : graph.buffers) bytes[b.node] += b.bytes;
  return bytes;
}

double between(const std::vector<std::int64_t>& axis, std::size_t i, std::size_t j, double at) {
  return (at - static_cast<double>(axis[i])) / static_cast<double>(axis[j] - axis[i]);
}

}  // namespace

StepTable::StepTable(ServedModel served, const sim::MachineSpec& machine, const ServingSpec& spec)
    : model_{*served.model}, served_{std::move(served)}, machine_{machine} {
  model_.max_positions = INT64_MAX;
  served_.model = &model_;
  prefill_.x = halves_of_octaves(std::max<std::int64_t>(2, spec.max_batched_tokens));
  prefill_.y = kPast;
  prefill_.build = [this](std::int64_t n, std::int64_t p) { return prefill_graph(served_, n, p); };
  decode_.x = halves_of_octaves(std::max<std::int64_t>(2, spec.max_sequences));
  decode_.y = kContext;
  decode_.build = [this](std::int64_t b, std::int64_t c) { return decode_graph(served_, b, c); };
  for (Grid* grid : {&prefill_, &decode_}) {
    const std::size_t cells = grid->x.size() * grid->y.size();
    grid->steps.resize(cells);
    grid->known.assign(cells, false);
    grid->used.assign(static_cast<std::size_t>(spec.replicas), std::vector<double>(cells));
    grid->used_attention = grid->used;
  }
  for (const models::Node& n : decode_.build(1, 1).nodes) nodes_.push_back(n.name);
}

TimedStep StepTable::time(const models::TaskGraph& graph, KernelPrices& prices) const {
  sim::RunOptions options{.cuda_graph = served_.cuda_graph};
  options.price = [&](const std::vector<sim::KernelJob>& jobs) { return prices(jobs); };
  const sim::KernelProfile profile = profile_kernels(graph, machine_, options, {});
  const cost::Schedule s =
      cost::schedule_tasks(graph, machine_.fabric, profile.duration_of_task, /*spans=*/false);
  TimedStep step{.busy_ns = std::vector<double>(graph.nodes.size()),
                 .attention_busy_ns = std::vector<double>(graph.nodes.size())};
  const auto attends = [&](models::TaskId t) {
    return graph.tasks[t].stage == models::Stage::attention && profile.duration_of_task[t] > Time{};
  };
  for (models::TaskId t = 0; t < graph.tasks.size(); ++t) {
    const double ns = profile.duration_of_task[t].ns();  // none of a message
    step.ns = std::max(step.ns, s.end[t].ns());
    step.busy_ns[graph.tasks[t].node] += ns;
    if (attends(t)) step.attention_busy_ns[graph.tasks[t].node] += ns;
  }
  for (const models::TaskId t : cost::critical_path(graph, s)) {
    if (attends(t)) step.attention_ns += profile.duration_of_task[t].ns();
  }
  return step;
}

void StepTable::scale(TimedStep& step, double by) {
  step.ns *= by;
  step.attention_ns *= by;
  for (double& b : step.busy_ns) b *= by;
  for (double& b : step.attention_busy_ns) b *= by;
}

const TimedStep& StepTable::step(Grid& grid, std::size_t at) {
  if (!grid.known[at]) {
    grid.steps[at] = time(grid.build(grid.x[at % grid.x.size()], grid.y[at / grid.x.size()]), cost_);
    scale(grid.steps[at], scale_);
    grid.known[at] = true;
    ++timed_;
  }
  return grid.steps[at];
}

StepTable::Corners StepTable::corners(const Grid& grid, double x, double y, bool extrapolate) const {
  const std::size_t i = below(grid.x, x);
  const double u = between(grid.x, i, i + 1, x);
  std::size_t j = below(grid.y, y), k = j + 1;
  // Several short prompts have fewer pairs than one long prompt without a past: the line through that and one
  // with a past about as long goes on to the left.
  if (extrapolate && y < 0) {
    j = 0;
    while (k + 1 < grid.y.size() && 2 * static_cast<double>(grid.y[k]) < x) ++k;
  }
  const double v = between(grid.y, j, k, y);
  const std::size_t w = grid.x.size();
  return {Corner{j * w + i, (1 - u) * (1 - v)}, Corner{j * w + i + 1, u * (1 - v)},
          Corner{k * w + i, (1 - u) * v}, Corner{k * w + i + 1, u * v}};
}

void StepTable::use(std::vector<std::vector<double>>& used, std::uint32_t instance, const Corners& corners) {
  for (const Corner& c : corners) used[instance][c.at] += c.weight;
}

std::int64_t StepTable::ns(const StepShape& shape, std::uint32_t instance) {
  double total = 0;
  const auto sum = [&](Grid& grid, const Corners& corners, double TimedStep::*what) {
    double ns = 0;
    for (const Corner& c : corners) {
      if (c.weight != 0) ns += c.weight * (step(grid, c.at).*what);
    }
    return ns;
  };
  const auto sequences = static_cast<double>(shape.sequences);
  const double context = sequences > 0 ? static_cast<double>(shape.context_tokens) / sequences : 0;
  if (shape.sequences > 0) {
    const Corners c = corners(decode_, sequences, context, false);
    const bool alone = shape.prefill_tokens == 0;
    total += sum(decode_, c, alone ? &TimedStep::ns : &TimedStep::attention_ns);
    use(alone ? decode_.used : decode_.used_attention, instance, c);
  }
  if (shape.prefill_tokens > 0) {
    const double n = static_cast<double>(shape.prefill_tokens) + sequences;
    const double past = shape.prefill_pairs / n - 0.5 * n;
    const Corners c = corners(prefill_, n, past, true);
    // What goes on to the left of the grid may not fall below a step of one token.
    total += std::max(sum(prefill_, c, &TimedStep::ns), step(prefill_, 0).ns);
    use(prefill_.used, instance, c);
  }
  return std::max<std::int64_t>(1, std::llround(total));
}

std::vector<double> StepTable::busy_ns(std::uint32_t instance) const {
  std::vector<double> busy(nodes_.size());
  for (const Grid* grid : {&prefill_, &decode_}) {
    for (std::size_t at = 0; at < grid->steps.size(); ++at) {
      const double whole = grid->used[instance][at], attention = grid->used_attention[instance][at];
      if (whole == 0 && attention == 0) continue;
      const TimedStep& s = grid->steps[at];
      for (std::size_t n = 0; n < busy.size(); ++n)
        busy[n] += whole * s.busy_ns[n] + attention * s.attention_busy_ns[n];
    }
  }
  return busy;
}

/// The grid's steps by the time spent in them, most first.
std::vector<StepTable::Use> StepTable::uses() {
  std::vector<Use> all;
  for (Grid* grid : {&prefill_, &decode_}) {
    for (std::size_t at = 0; at < grid->steps.size(); ++at) {
      Use u{.grid = grid, .at = at};
      for (std::size_t i = 0; i < grid->used.size(); ++i) {
        u.weight += grid->used[i][at] + grid->used_attention[i][at];
        u.ns += grid->used[i][at] * grid->steps[at].ns +
                grid->used_attention[i][at] * grid->steps[at].attention_ns;
      }
      if (u.weight > 0) all.push_back(u);
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Use& a, const Use& b) { return a.ns > b.ns; });
  return all;
}

double StepTable::interpolated(Grid& grid, double x, double y) {
  double ns = 0;
  for (const Corner& c : corners(grid, x, y, false)) {
    if (c.weight != 0) ns += c.weight * step(grid, c.at).ns;
  }
  return ns;
}

StepTable::Error StepTable::interpolation_error(int steps) {
  Error error;
  double weights = 0;
  for (const Use& u : uses()) {
    if (error.steps == steps) break;
    const std::size_t i = u.at % u.grid->x.size(), j = u.at / u.grid->x.size();
    if (i + 1 == u.grid->x.size() || j + 1 == u.grid->y.size()) continue;
    const std::int64_t x = (u.grid->x[i] + u.grid->x[i + 1]) / 2, y = (u.grid->y[j] + u.grid->y[j + 1]) / 2;
    const double built = time(u.grid->build(x, y), cost_).ns;
    const double off =
        100 * std::abs(interpolated(*u.grid, static_cast<double>(x), static_cast<double>(y)) / built - 1);
    error.mean_percent += u.ns * off;
    error.max_percent = std::max(error.max_percent, off);
    weights += u.ns;
    ++error.steps;
  }
  if (weights > 0) error.mean_percent /= weights;
  return error;
}

StepTable::Funnel StepTable::simulate_most_used(int steps, KernelPrices& cycle) {
  struct Simulated {
    Use use;
    double ratio = 1;
  };
  std::vector<Use> all = uses();
  double total = 0, covered = 0, weighted = 0;
  for (const Use& u : all) total += u.ns;
  std::vector<Simulated> simulated;
  Funnel funnel;
  for (const Use& u : all) {
    if (static_cast<int>(simulated.size()) == steps) break;
    TimedStep& step = u.grid->steps[u.at];
    const double cost = step.ns;
    step = time(u.grid->build(u.grid->x[u.at % u.grid->x.size()], u.grid->y[u.at / u.grid->x.size()]), cycle);
    simulated.push_back({u, step.ns / cost});
    covered += u.ns;
    weighted += u.ns * step.ns / cost;
  }
  if (covered <= 0) return funnel;
  funnel.steps = static_cast<int>(simulated.size());
  funnel.kernels = cycle.distinct();
  funnel.share = covered / total;
  funnel.ratio = weighted / covered;
  for (const Simulated& s : simulated) {
    if (covered <= s.use.ns) continue;
    const double others = (weighted - s.use.ns * s.ratio) / (covered - s.use.ns);
    funnel.error_percent += 100 * s.use.ns / covered * std::abs(others / s.ratio - 1);
  }
  scale_ *= funnel.ratio;
  for (Grid* grid : {&prefill_, &decode_}) {
    for (std::size_t at = 0; at < grid->steps.size(); ++at) {
      const bool done = std::any_of(simulated.begin(), simulated.end(),
                                    [&](const Simulated& s) { return s.use.grid == grid && s.use.at == at; });
      if (grid->known[at] && !done) scale(grid->steps[at], funnel.ratio);
    }
    for (auto* used : {&grid->used, &grid->used_attention}) {
      for (std::vector<double>& u : *used) std::fill(u.begin(), u.end(), 0.0);
    }
  }
  return funnel;
}

InstanceMemory instance_memory(const ServedModel& served, const sim::MachineSpec& machine,
                               const ServingSpec& spec) {
  const models::TaskGraph graph = prefill_graph(served, spec.max_batched_tokens, 0);
  const std::vector<std::int64_t> whole = bytes_by_node(graph);
  // What a longer context takes, in a graph of one decoded token: rows of the caches.
  constexpr std::int64_t kShort = 256, kLong = 512;
  const std::vector<std::int64_t> fewer = bytes_by_node(decode_graph(served, 1, kShort)),
                                  more = bytes_by_node(decode_graph(served, 1, kLong));
  // Heads' states, of which each AttnNode or GPU has its part; by segments the last AttnNode has all.
  const std::int64_t beta = served.cascade ? served.share_out(spec.max_batched_tokens).beta() : 1;
  const bool by_heads = served.workload.recurrence == models::RecurrencePlacement::heads;
  const std::int64_t parts = served.tensor_gpus > 0 ? served.tensor_gpus : by_heads ? beta * beta : 1;
  const std::int64_t state = (served.model->state_bytes_per_sequence() + parts - 1) / parts;
  InstanceMemory memory;
  double most_tokens = 0;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const bool attn = graph.nodes[n].kind == models::NodeKind::attn;
    const GpuSpec& gpu = attn ? machine.attn_gpu : machine.comp_gpu;
    const std::int64_t token = (more[n] - fewer[n] + kLong - kShort - 1) / (kLong - kShort);
    const std::int64_t states = attn || !served.cascade ? state : 0;
    // The graph has the caches of its own prompt.
    const std::int64_t other = whole[n] - spec.max_batched_tokens * token - states;
    const auto usable =
        static_cast<std::int64_t>(spec.memory_share * static_cast<double>(gpu.hbm.capacity_bytes));
    if (other >= usable) {
      throw std::invalid_argument{fmt::format(
          "{}: weights and activations take {:.1f} GB, of {:.1f} GB that may be used ({:.0f} % of {})",
          graph.nodes[n].name, static_cast<double>(other) * 1e-9, static_cast<double>(usable) * 1e-9,
          100 * spec.memory_share, gpu.name)};
    }
    if (token == 0 && states == 0) continue;
    // The node that is full first; of those without a row per token, as if each sequence were one token.
    const double tokens =
        static_cast<double>(usable - other) / static_cast<double>(token > 0 ? token : states);
    if (memory.capacity_bytes > 0 && tokens >= most_tokens) continue;
    most_tokens = tokens;
    memory = {.capacity_bytes = usable - other, .token_bytes = token, .state_bytes = states};
  }
  return memory;
}

}  // namespace tessera::traces
