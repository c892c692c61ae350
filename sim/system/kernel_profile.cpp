#include "sim/system/kernel_profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <unordered_map>
#include <utility>

#include "sim/system/kernel_cost.hpp"
#include "sim/system/recorded_kernel.hpp"

namespace tessera::sim {

namespace {

using models::BufferId;

/// A buffer and how many bytes of it.
struct Part {
  BufferId buffer = 0;
  std::int64_t bytes = 0;
};

std::int64_t& bytes_of(std::vector<Part>& parts, BufferId buffer) {
  for (Part& part : parts) {
    if (part.buffer == buffer) return part.bytes;
  }
  return parts.emplace_back(Part{buffer, 0}).bytes;
}

/// What a kernel touches. Operands of one buffer are different parts of it (q, k, v of the projections),
/// except that what is written may be what was read (in place).
class Touched {
 public:
  /// The bytes of each buffer; until the next call.
  const std::vector<Part>& of(const std::vector<BufferId>& buffers,
                              const std::vector<models::Operand>& operands) {
    read_.clear();
    parts_.clear();
    for (std::size_t i = 0; i < buffers.size(); ++i)
      bytes_of(operands[i].written ? parts_ : read_, buffers[i]) += operands[i].bytes;
    for (const Part& r : read_) {
      std::int64_t& bytes = bytes_of(parts_, r.buffer);
      bytes = std::max(bytes, r.bytes);
    }
    return parts_;
  }

 private:
  std::vector<Part> read_, parts_;
};

/// The parts of buffers that a node touched, most recent last. Which part of its buffer a kernel touches is
/// taken to be the part touched last; what is left of an earlier, larger part keeps its age. So a row
/// appended to a cold cache does not make the cache warm.
class Residency {
 public:
  explicit Residency(std::int64_t l2_bytes) : l2_bytes_{l2_bytes} {}

  /// Indices of the read operands that are still in L2, least recently used first: an operand is there or not
  /// as a whole, so by the greater part of its buffer's bytes (a cache less the row just appended is there).
  /// Of what is larger than the L2, the end is there at most. `needed`: of the kernel, as touched.
  std::vector<std::uint32_t> warm(const std::vector<BufferId>& buffers,
                                  const std::vector<models::Operand>& operands,
                                  const std::vector<Part>& needed) const {
    std::vector<std::pair<std::size_t, std::uint32_t>> found;  // by age
    for (std::uint32_t i = 0; i < buffers.size(); ++i) {
      if (operands[i].written) continue;
      const std::int64_t bytes = std::find_if(needed.begin(), needed.end(), [&](const Part& p) {
                                   return p.buffer == buffers[i];
                                 })->bytes;
      std::int64_t since = 0, there = 0;
      for (std::size_t age = recent_.size(); age-- > 0 && since < l2_bytes_;) {
        if (recent_[age].buffer == buffers[i]) there += std::min(recent_[age].bytes, l2_bytes_ - since);
        if (2 * there >= bytes) {
          found.emplace_back(age, i);
          break;
        }
        since += recent_[age].bytes;
      }
    }
    std::sort(found.begin(), found.end());
    std::vector<std::uint32_t> indices;
    for (const auto& f : found) indices.push_back(f.second);
    return indices;
  }

  void touch(const std::vector<BufferId>& buffers, const std::vector<Part>& now) {
    for (Part again : now) {
      for (std::size_t age = recent_.size(); age-- > 0 && again.bytes > 0;) {
        if (recent_[age].buffer != again.buffer) continue;
        const std::int64_t taken = std::min(again.bytes, recent_[age].bytes);
        again.bytes -= taken;
        recent_[age].bytes -= taken;
      }
    }
    std::erase_if(recent_, [](const Part& p) { return p.bytes == 0; });
    // In the order of each buffer's last operand.
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (std::find(buffers.begin() + static_cast<std::ptrdiff_t>(i) + 1, buffers.end(), buffers[i]) !=
          buffers.end())
        continue;
      for (const Part& part : now) {
        if (part.buffer == buffers[i]) recent_.push_back(part);
      }
    }
    // What lies beyond the L2's size is cold whatever comes.
    std::int64_t kept = 0;
    for (std::size_t age = recent_.size(); age-- > 0;) {
      kept += recent_[age].bytes;
      if (kept > 2 * l2_bytes_) {
        recent_.erase(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(age));
        break;
      }
    }
  }

 private:
  std::int64_t l2_bytes_;
  std::vector<Part> recent_;
};

Time mix(Time a, Time b, double x) {
  const auto p = static_cast<double>(a.fs), q = static_cast<double>(b.fs);
  return Time{std::llround(p + (q - p) * x)};
}

constexpr std::size_t kMostContexts = 3;  // simulated per kind of decode attention
// Contexts that differ by less than this share are taken as the greatest of them: the parts of a cache that
// was shared out evenly are rarely of exactly one length.
constexpr double kAlikeContexts = 1e-3;

/// Whether the machine's two kinds of GPU are one kind.
bool one_gpu(const MachineSpec& spec) {
  return spec.comp_key.empty() && spec.attn_key.empty() ? spec.comp_gpu.name == spec.attn_gpu.name
                                                        : spec.comp_key == spec.attn_key;
}

}  // namespace

KernelPlan plan_kernels(const models::TaskGraph& graph, const MachineSpec& spec, const RunOptions& options) {
  KernelPlan plan;
  plan.instances.resize(graph.tasks.size());
  std::vector<std::vector<std::uint32_t>> warm_operands(graph.tasks.size());
  std::vector<std::string> keys(graph.tasks.size());
  std::unordered_map<std::string, std::uint32_t>
      family_of;                                 // decode attention, by the key without its context
  std::vector<std::set<std::int64_t>> contexts;  // of each family
  std::vector<Residency> residency;
  for (const models::Node& n : graph.nodes) {
    residency.emplace_back((n.kind == models::NodeKind::comp ? spec.comp_gpu : spec.attn_gpu).l2.bytes);
  }
  const bool alike = one_gpu(spec);
  Touched touched;
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    const models::Task& task = graph.tasks[id];
    const auto* compute = std::get_if<models::Compute>(&task.work);
    if (compute == nullptr) continue;
    const std::vector<models::Operand> operands = models::operands_of(compute->op);
    KernelPlan::Instance& instance = plan.instances[id];
    instance.node = graph.nodes[task.node].kind;
    instance.runs = true;
    const std::vector<Part>& now = touched.of(compute->operands, operands);
    warm_operands[id] = residency[task.node].warm(compute->operands, operands, now);
    residency[task.node].touch(compute->operands, now);
    const bool comp = instance.node == models::NodeKind::comp;
    std::string tail = "|" + (comp ? spec.comp_gpu : spec.attn_gpu).name;
    tail += alike || comp ? "|" : "|attn|";
    if (!options.cuda_graph) tail += "host|";
    for (const std::uint32_t warm : warm_operands[id]) tail += std::to_string(warm) + ",";
    keys[id] = models::signature_of(compute->op) + tail;
    if (options.exact) {
      keys[id] += fmt::format("|{}", id);
    } else {
      const auto decodes = [&](auto decode) {
        instance.context = std::exchange(decode.context, 0);
        const auto next = static_cast<std::uint32_t>(contexts.size());
        const auto [at, added] = family_of.try_emplace(models::signature_of(decode) + tail, next);
        if (added) contexts.emplace_back();
        instance.family = at->second;
        contexts[instance.family].insert(instance.context);
      };
      if (const auto* dense = std::get_if<models::AttentionDecode>(&compute->op)) decodes(*dense);
      if (const auto* latent = std::get_if<models::LatentDecode>(&compute->op); latent && latent->q_rows == 1)
        decodes(*latent);
    }
  }

  // Which contexts of a family are simulated.
  for (std::set<std::int64_t>& all : contexts) {
    const auto least = static_cast<double>(*all.begin()), greatest = static_cast<double>(*all.rbegin());
    if (greatest - least <= kAlikeContexts * greatest) all = {*all.rbegin()};
    if (all.size() <= kMostContexts) continue;
    const auto middle = std::next(all.begin(), static_cast<std::ptrdiff_t>(all.size() / 2));
    all = {*all.begin(), *middle, *all.rbegin()};
  }

  plan.samples.resize(contexts.size());
  std::unordered_map<std::string, std::uint32_t> job_of_key;
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    KernelPlan::Instance& instance = plan.instances[id];
    if (!instance.runs) continue;
    const bool of_family = instance.family != KernelPlan::kNone;
    if (of_family && contexts[instance.family].count(instance.context) == 0) continue;
    const auto [at, added] =
        job_of_key.try_emplace(std::move(keys[id]), static_cast<std::uint32_t>(plan.jobs.size()));
    if (added) {
      KernelJob& job = plan.jobs.emplace_back(
          KernelJob{.op = std::get<models::Compute>(graph.tasks[id].work).op, .key = at->first});
      job.options.graph = options.cuda_graph;
      job.options.exact = options.exact;
      job.options.warm_operands = std::move(warm_operands[id]);
      plan.node_of_job.push_back(instance.node);
      plan.signatures.push_back(models::signature_of(job.op));
    }
    instance.job = at->second;
    if (of_family) plan.samples[instance.family][instance.context] = at->second;
  }
  return plan;
}

KernelPlan& PlanMemory::of(const std::string& graph_key, const models::TaskGraph& graph,
                           const MachineSpec& spec, const RunOptions& options) {
  std::string key = fmt::format("{}\n{} {} {} {} {} {} {}", graph_key, spec.comp_gpu.name,
                                spec.comp_gpu.l2.bytes, spec.attn_gpu.name, spec.attn_gpu.l2.bytes,
                                one_gpu(spec), options.exact, options.cuda_graph);
  constexpr std::size_t kMost = 16;
  if (const auto known = plans_.find(key); known != plans_.end()) return known->second;
  if (plans_.size() >= kMost) plans_.clear();
  return plans_.emplace(std::move(key), plan_kernels(graph, spec, options)).first->second;
}

namespace {

/// Kernels whose part of the run is small may be known less well.
void set_shares(KernelPlan& plan) {
  std::vector<double> uses(plan.jobs.size()), rough(plan.jobs.size());
  for (const KernelPlan::Instance& instance : plan.instances) {
    if (instance.runs && instance.job != KernelPlan::kNone) uses[instance.job] += 1;
  }
  for (std::size_t i = 0; i < rough.size(); ++i) rough[i] = uses[i] * rough_seconds(plan.jobs[i]);
  const double whole = std::accumulate(rough.begin(), rough.end(), 0.0);
  for (std::size_t i = 0; i < rough.size(); ++i)
    plan.jobs[i].options.share = whole > 0 ? rough[i] / whole : 1;
  for (const auto& points : plan.samples) {  // they stand for the contexts between them too
    for (const auto& [context, job] : points) plan.jobs[job].options.share = 1;
  }
}

}  // namespace

KernelProfile profile_kernels(const models::TaskGraph& graph, const MachineSpec& spec,
                              const RunOptions& options, const Simulate& simulate) {
  KernelProfile profile;
  profile.kernel_of_task.assign(graph.tasks.size(), UINT32_MAX);
  profile.duration_of_task.assign(graph.tasks.size(), Time{});

  KernelPlan own;
  if (options.memory.plans == nullptr) own = plan_kernels(graph, spec, options);
  KernelPlan& plan = options.memory.plans == nullptr
                         ? own
                         : options.memory.plans->of(options.memory.graph_key, graph, spec, options);
  for (std::size_t i = 0; i < plan.jobs.size(); ++i)
    plan.jobs[i].gpu = plan.node_of_job[i] == models::NodeKind::comp ? &spec.comp_gpu : &spec.attn_gpu;
  if (!options.price && !options.cost) set_shares(plan);
  std::vector<KernelResult> results = options.price ? options.price(plan.jobs)
                                      : options.cost
                                          ? cost_all(plan.jobs, spec, options.memory)
                                          : simulate_all(plan.jobs, options.jobs, simulate, options.progress);
  for (std::size_t i = 0; i < plan.jobs.size(); ++i)
    profile.kernels.push_back({plan.signatures[i], std::move(results[i]), 0});
  const auto result_of_job = [&](std::uint32_t job) -> const KernelResult& {
    return profile.kernels[job].result;
  };

  double total_us = 0, uncertain_us = 0;
  std::vector<double> interval_us(plan.jobs.size());  // of a kernel's instances, which err alike
  std::vector<Time> spent(plan.jobs.size());
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    const KernelPlan::Instance& instance = plan.instances[id];
    if (!instance.runs) continue;
    std::uint32_t kernel;
    Time duration;
    if (instance.job != KernelPlan::kNone) {
      kernel = instance.job;
      duration = result_of_job(kernel).latency;
    } else {
      const auto& points = plan.samples[instance.family];
      if (points.size() == 1) {
        const auto& [context, of_job] = *points.begin();
        kernel = of_job;
        duration = result_of_job(kernel).latency;
        uncertain_us +=
            duration.us() * static_cast<double>(context - instance.context) / static_cast<double>(context);
      } else {
        const auto above = points.lower_bound(instance.context);
        const auto below = std::prev(above);
        const double x = static_cast<double>(instance.context - below->first) /
                         static_cast<double>(above->first - below->first);
        const auto between = [&](std::uint32_t a, std::uint32_t b, double at) {
          return mix(result_of_job(a).latency, result_of_job(b).latency, at);
        };
        kernel = x < 0.5 ? below->second : above->second;
        duration = between(below->second, above->second, x);
        // Left-out error: the middle point predicted from the outer two.
        const auto first = points.begin(), middle = std::next(first), last = std::prev(points.end());
        const double y = static_cast<double>(middle->first - first->first) /
                         static_cast<double>(last->first - first->first);
        uncertain_us += std::abs(between(first->second, last->second, y).us() -
                                 result_of_job(middle->second).latency.us());
      }
    }
    profile.kernel_of_task[id] = kernel;
    profile.duration_of_task[id] = duration;
    ++profile.kernels[kernel].instances;
    interval_us[kernel] += duration.us() * result_of_job(kernel).ci95_percent / 100;
    total_us += duration.us();
    spent[kernel] += duration;
  }
  if (options.record && !options.cost && !options.price && !spent.empty()) {
    profile.recorded_kernel =
        static_cast<std::uint32_t>(std::max_element(spent.begin(), spent.end()) - spent.begin());
    profile.recording = std::make_shared<const Recording>(record_kernel(plan.jobs[profile.recorded_kernel]));
  }
  double squares = 0;  // distinct kernels err independently
  for (const double us : interval_us) squares += us * us;
  if (total_us > 0) profile.ci95_percent = 100 * (std::sqrt(squares) + 1.96 * uncertain_us) / total_us;
  return profile;
}

}  // namespace tessera::sim
