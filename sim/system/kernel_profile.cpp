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

KernelResult interpolate(const KernelResult& a, const KernelResult& b, double x) {
  KernelResult r = x < 0.5 ? a : b;
  const auto mix = [x](double p, double q) { return p + (q - p) * x; };
  r.latency.fs = std::llround(mix(static_cast<double>(a.latency.fs), static_cast<double>(b.latency.fs)));
  r.execution.fs =
      std::llround(mix(static_cast<double>(a.execution.fs), static_cast<double>(b.execution.fs)));
  return r;
}

constexpr std::size_t kMostContexts = 3;  // simulated per kind of decode attention
// Contexts that differ by less than this share are taken as the greatest of them: the parts of a cache that
// was shared out evenly are rarely of exactly one length.
constexpr double kAlikeContexts = 1e-3;

}  // namespace

KernelProfile profile_kernels(const models::TaskGraph& graph, const MachineSpec& spec,
                              const RunOptions& options, const Simulate& simulate) {
  KernelProfile profile;
  profile.kernel_of_task.assign(graph.tasks.size(), UINT32_MAX);
  profile.duration_of_task.assign(graph.tasks.size(), Time{});

  // What each Compute task would run.
  struct Instance {
    const GpuSpec* gpu = nullptr;
    std::vector<std::uint32_t> warm_operands;
    std::string key;
    std::string family;  // decode attention: the key without its context
    std::int64_t context = 0;
    std::uint32_t job = UINT32_MAX;  // of jobs; UINT32_MAX: interpolated
  };
  std::vector<Instance> instances(graph.tasks.size());
  std::map<std::string, std::set<std::int64_t>> contexts;
  std::vector<Residency> residency;
  for (const models::Node& n : graph.nodes) {
    residency.emplace_back((n.kind == models::NodeKind::comp ? spec.comp_gpu : spec.attn_gpu).l2.bytes);
  }
  Touched touched;
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    const models::Task& task = graph.tasks[id];
    const auto* compute = std::get_if<models::Compute>(&task.work);
    if (compute == nullptr) continue;
    const std::vector<models::Operand> operands = models::operands_of(compute->op);
    Instance& instance = instances[id];
    instance.gpu = graph.nodes[task.node].kind == models::NodeKind::comp ? &spec.comp_gpu : &spec.attn_gpu;
    const std::vector<Part>& now = touched.of(compute->operands, operands);
    instance.warm_operands = residency[task.node].warm(compute->operands, operands, now);
    residency[task.node].touch(compute->operands, now);
    std::string tail = "|" + instance.gpu->name + "|";
    for (const std::uint32_t warm : instance.warm_operands) tail += std::to_string(warm) + ",";
    instance.key = models::signature_of(compute->op) + tail;
    if (options.exact) {
      instance.key += fmt::format("|{}", id);
    } else {
      const auto decodes = [&](auto decode) {
        instance.context = std::exchange(decode.context, 0);
        instance.family = models::signature_of(decode) + tail;
        contexts[instance.family].insert(instance.context);
      };
      if (const auto* dense = std::get_if<models::AttentionDecode>(&compute->op)) decodes(*dense);
      if (const auto* latent = std::get_if<models::LatentDecode>(&compute->op); latent && latent->q_rows == 1)
        decodes(*latent);
    }
  }

  // Which contexts of a family are simulated.
  for (auto& [family, all] : contexts) {
    const auto least = static_cast<double>(*all.begin()), greatest = static_cast<double>(*all.rbegin());
    if (greatest - least <= kAlikeContexts * greatest) all = {*all.rbegin()};
    if (all.size() <= kMostContexts) continue;
    const auto middle = std::next(all.begin(), static_cast<std::ptrdiff_t>(all.size() / 2));
    all = {*all.begin(), *middle, *all.rbegin()};
  }

  std::vector<KernelJob> jobs;
  std::unordered_map<std::string, std::uint32_t> job_of_key;
  std::map<std::string, std::map<std::int64_t, std::uint32_t>> samples;  // family -> context -> job
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    Instance& instance = instances[id];
    if (instance.gpu == nullptr) continue;
    const bool sampled = instance.family.empty() || contexts[instance.family].count(instance.context) != 0;
    if (!sampled) continue;
    const auto [at, added] = job_of_key.try_emplace(instance.key, static_cast<std::uint32_t>(jobs.size()));
    if (added) {
      KernelJob& job = jobs.emplace_back(KernelJob{.gpu = instance.gpu,
                                                   .op = std::get<models::Compute>(graph.tasks[id].work).op,
                                                   .key = std::move(instance.key)});
      job.options.graph = options.cuda_graph;
      job.options.exact = options.exact;
      job.options.warm_operands = std::move(instance.warm_operands);
    }
    instance.job = at->second;
    if (!instance.family.empty()) samples[instance.family][instance.context] = at->second;
  }
  // Kernels whose part of the run is small may be known less well.
  std::vector<double> uses(jobs.size()), rough(jobs.size());
  for (const Instance& instance : instances) {
    if (instance.job != UINT32_MAX) uses[instance.job] += 1;
  }
  for (std::size_t i = 0; i < jobs.size(); ++i) rough[i] = uses[i] * rough_seconds(jobs[i]);
  const double whole = std::accumulate(rough.begin(), rough.end(), 0.0);
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].options.share = whole > 0 ? rough[i] / whole : 1;
  for (const auto& [family, points] : samples) {  // they stand for the contexts between them too
    for (const auto& [context, job] : points) jobs[job].options.share = 1;
  }

  const std::vector<KernelResult> results =
      options.price  ? options.price(jobs)
      : options.cost ? cost_all(jobs, spec, options.memory)
                     : simulate_all(jobs, options.jobs, simulate, options.progress);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    profile.kernels.push_back({models::signature_of(jobs[i].op), results[i], 0});
  }

  double total_us = 0, uncertain_us = 0;
  std::vector<double> interval_us(jobs.size());  // of a kernel's instances, which err alike
  for (models::TaskId id = 0; id < graph.tasks.size(); ++id) {
    const Instance& instance = instances[id];
    if (instance.gpu == nullptr) continue;
    std::uint32_t kernel;
    Time duration;
    if (instance.job != UINT32_MAX) {
      kernel = instance.job;
      duration = results[kernel].latency;
    } else {
      const auto& points = samples[instance.family];
      if (points.size() == 1) {
        const auto& [context, of_job] = *points.begin();
        kernel = of_job;
        duration = results[kernel].latency;
        uncertain_us +=
            duration.us() * static_cast<double>(context - instance.context) / static_cast<double>(context);
      } else {
        const auto above = points.lower_bound(instance.context);
        const auto below = std::prev(above);
        const double x = static_cast<double>(instance.context - below->first) /
                         static_cast<double>(above->first - below->first);
        kernel = x < 0.5 ? below->second : above->second;
        duration = interpolate(results[below->second], results[above->second], x).latency;
        // Left-out error: the middle point predicted from the outer two.
        const auto first = points.begin(), middle = std::next(first), last = std::prev(points.end());
        const double y = static_cast<double>(middle->first - first->first) /
                         static_cast<double>(last->first - first->first);
        const double predicted = interpolate(results[first->second], results[last->second], y).latency.us();
        uncertain_us += std::abs(predicted - results[middle->second].latency.us());
      }
    }
    profile.kernel_of_task[id] = kernel;
    profile.duration_of_task[id] = duration;
    ++profile.kernels[kernel].instances;
    interval_us[kernel] += duration.us() * results[kernel].ci95_percent / 100;
    total_us += duration.us();
  }
  double squares = 0;  // distinct kernels err independently
  for (const double us : interval_us) squares += us * us;
  if (total_us > 0) profile.ci95_percent = 100 * (std::sqrt(squares) + 1.96 * uncertain_us) / total_us;
  return profile;
}

}  // namespace tessera::sim
