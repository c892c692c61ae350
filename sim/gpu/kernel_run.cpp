#include "sim/gpu/kernel_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/library/lower.hpp"
#include "sim/core/error.hpp"
#include "sim/core/statistics.hpp"
#include "sim/gpu/front_end.hpp"
#include "sim/gpu/gpc.hpp"
#include "sim/gpu/hbm/hbm.hpp"
#include "sim/gpu/l2/l2.hpp"
#include "sim/gpu/recording.hpp"

namespace tessera::sim {

namespace {

constexpr std::uint64_t kAlignment = 2 << 20;  // device allocations come in 2 MiB pages

/// Device addresses of the operands; in-place outputs share their input's.
kernels::Addresses place(const models::Operator& op) {
  kernels::Addresses addresses;
  std::uint64_t next = kAlignment;
  const std::vector<models::Operand> operands = models::operands_of(op);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].over >= 0) {
      addresses.operands.push_back(addresses.operands[static_cast<std::size_t>(operands[i].over)]);
      continue;
    }
    addresses.operands.push_back(next);
    next += (static_cast<std::uint64_t>(operands[i].bytes) + kAlignment - 1) / kAlignment * kAlignment;
  }
  addresses.workspace = next;
  return addresses;
}

void check_conservation(const L2& l2, const std::vector<std::unique_ptr<Gpc>>& gpcs) {
  SmCounters sum;
  for (const auto& gpc : gpcs) {
    for (const Sm& sm : gpc->sms()) {
      const SmCounters& c = sm.counters();
      sum.operations_issued += c.operations_issued;
      sum.operations_retired += c.operations_retired;
      sum.load_bytes_requested += c.load_bytes_requested;
      sum.load_bytes_received += c.load_bytes_received;
      sum.store_bytes += c.store_bytes;
    }
  }
  const auto equal = [](const char* law, std::uint64_t a, std::uint64_t b) {
    if (a != b) throw ConservationError{fmt::format("{}: {} != {}", law, a, b)};
  };
  equal("tile operations issued and retired", sum.operations_issued, sum.operations_retired);
  equal("load bytes requested by SMs and received by the L2", sum.load_bytes_requested,
        l2.counters().read_bytes);
  equal("load bytes returned by the L2 and received by SMs", l2.counters().returned_bytes,
        sum.load_bytes_received);
  equal("load bytes requested and received", sum.load_bytes_requested, sum.load_bytes_received);
  equal("store bytes sent by SMs and received by the L2", sum.store_bytes, l2.counters().write_bytes);
}

/// What the L2 has done, and would have done for what was passed over: of each kernel, for so many bytes more
/// at the hit rate of its measured windows; for `passed_stores` more. What is extrapolated is added to the
/// statistics.
L2Counters whole_l2(const L2& l2, const std::vector<double>& passed_loads, double passed_stores,
                    Statistics& statistics) {
  L2Counters all = l2.counters();
  // Stores come at the ends of pieces of work, too seldom to be counted in windows: all that were simulated
  // count.
  const double store_factor =
      all.write_bytes == 0 ? 0.0 : passed_stores / static_cast<double>(all.write_bytes);
  L2Counters more;
  L2Counters::zip(more, all, [&](const std::string& name, std::uint64_t& n, std::uint64_t simulated) {
    if (name.starts_with("write"))
      n = static_cast<std::uint64_t>(std::llround(static_cast<double>(simulated) * store_factor));
  });
  for (std::size_t k = 0; k < passed_loads.size(); ++k) {
    const L2Counters& marked = l2.marked()[k];
    if (passed_loads[k] <= 0 || marked.read_bytes == 0) continue;
    const double factor = passed_loads[k] / static_cast<double>(marked.read_bytes);
    L2Counters::zip(more, marked, [&](const std::string& name, std::uint64_t& n, std::uint64_t measured) {
      if (!name.starts_with("write"))
        n += static_cast<std::uint64_t>(std::llround(static_cast<double>(measured) * factor));
    });
  }
  L2Counters::zip(all, more, [&](const std::string& name, std::uint64_t& n, std::uint64_t passed) {
    n += passed;
    if (passed != 0) statistics.add("l2." + name, static_cast<double>(passed));
  });
  return all;
}

/// What earlier kernels have left in the L2.
std::vector<AddressRange> cached_ranges(const models::Operator& op, const kernels::Addresses& addresses,
                                        const KernelOptions& options) {
  const std::vector<models::Operand> operands = models::operands_of(op);
  std::vector<AddressRange> ranges;
  const auto add = [&](std::size_t i) {
    const auto bytes = static_cast<std::uint64_t>(operands[i].bytes);
    if (bytes > 0) ranges.push_back({addresses.operands[i], bytes, options.replayed && operands[i].written});
  };
  const std::vector<std::uint32_t>& warm = options.warm_operands;
  for (std::uint32_t i = 0; i < operands.size(); ++i) {
    if (options.replayed && operands[i].written && std::find(warm.begin(), warm.end(), i) == warm.end())
      add(i);
  }
  for (const std::uint32_t i : warm) {
    if (i >= operands.size())
      throw std::invalid_argument{fmt::format("warm operand {} of {}", i, operands.size())};
    add(i);
  }
  return ranges;
}

/// The most used resource, if it is used enough to be the limit.
std::string name_bottleneck(const KernelResult& r) {
  static const std::map<std::string, std::string> names{
      {"tensor", "tensor cores"},  {"fp32", "FP32 units"},   {"mufu", "MUFU"},
      {"shared", "shared memory"}, {"issue", "issue slots"}, {"l2", "L2 bandwidth"},
      {"hbm", "HBM bandwidth"}};
  if (r.execution < r.latency - r.execution) return "launch";
  const auto most = std::max_element(r.utilization.begin(), r.utilization.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  // Below half of every peak, no pipe is the limit: dependences and their latencies are.
  return most->second < 0.5 ? "latency" : names.at(most->first);
}

/// `recording` may be null.
KernelResult simulate(const GpuSpec& gpu, std::vector<std::unique_ptr<tile::Kernel>> launches,
                      const std::vector<AddressRange>& cached, double flops, const KernelOptions& options,
                      Recording* recording) {
  KernelResult result;
  for (const auto& k : launches) result.kernels.push_back(k->shape().name);

  GpuSpec spec = gpu;
  if (!options.random_data) spec.power.tensor_pj_per_flop *= gpu.power.tensor_zero_share;

  const Clock sm_clock = Clock::mhz(gpu.boost_clock_mhz);
  const Time transit = sm_clock.cycles_f(gpu.l2.hit_latency / 3);
  const Time dispatch = sm_clock.cycles_f(gpu.launch.cta_launch_cycles / 2);
  const Threads threads{options.threads};
  // Windows of equal length start together and so run together.
  if (options.threads > 1) set_lookahead_limit(min(lookahead_limit(), min(transit, dispatch)));

  std::vector<std::unique_ptr<Gpc>> gpcs;
  std::vector<Gpc*> gpc_pointers;
  for (std::size_t g = 0; g < gpu.gpc_sms.size(); ++g) {
    gpcs.push_back(std::make_unique<Gpc>(fmt::format("gpc{}", g).c_str(), spec, static_cast<std::uint8_t>(g),
                                         gpu.gpc_sms[g]));
    gpc_pointers.push_back(gpcs.back().get());
  }
  L2 l2{"l2", spec};
  Hbm hbm{"hbm", spec.hbm};
  FrontEnd front_end{"front_end", spec, options, gpc_pointers};
  for (std::size_t g = 0; g < gpcs.size(); ++g) {
    gpcs[g]->to_l2.connect(l2, transit);
    gpcs[g]->to_front_end.connect(front_end, dispatch);
    l2.to_gpcs[g].connect(*gpcs[g], transit);
    front_end.to_gpcs[g].connect(*gpcs[g], dispatch);
  }
  l2.to_hbm.connect(hbm, Time::from_ns(gpu.hbm.l2_to_hbm_ns));
  l2.to_front_end.connect(front_end, dispatch);
  front_end.to_l2.connect(l2, dispatch);
  hbm.connect(l2, Time::from_ns(gpu.hbm.hbm_to_l2_ns));

  if (recording != nullptr) {
    gpcs.front()->record(recording->roles);
    hbm.record(recording->channels);
  }

  for (const AddressRange& range : cached) l2.install(range.address, range.bytes, range.dirty);
  front_end.submit(std::move(launches));

  std::vector<Module*> modules{&front_end, &l2, &hbm};
  for (const auto& g : gpcs) modules.push_back(g.get());
  result.events = run_to_completion(modules);
  check_conservation(l2, gpcs);

  Statistics statistics;
  for (const Module* m : modules) m->report(statistics);
  result.latency = front_end.completed_at();
  result.passed = front_end.passed();
  result.ci95_percent = 100 * front_end.half_width().us() / result.latency.us();
  result.execution = front_end.execution();
  result.executions = front_end.executions();
  result.clock_mhz = front_end.mean_clock_mhz();
  result.cycles = result.latency.us() * result.clock_mhz;
  result.flops = flops;
  result.operations = static_cast<std::uint64_t>(statistics.value("sm.operations_retired"));

  const double us = std::max(result.execution.us(), 1e-6);  // an empty kernel takes no time
  const double sm_us = us * gpu.sms();
  const auto share = [&](const char* pipe) {
    return statistics.value(std::string{"sm.busy_us."} + pipe) / sm_us;
  };
  for (const char* pipe : {"tensor", "fp32", "mufu", "shared", "issue"})
    result.utilization[pipe] = share(pipe);
  double passed_stores = 0;
  for (const auto& g : gpcs) {
    for (const Sm& sm : g->sms()) passed_stores += static_cast<double>(sm.passed().store_bytes);
  }
  const L2Counters c = whole_l2(l2, front_end.passed_loads(), passed_stores, statistics);
  result.l2_bytes = static_cast<std::int64_t>(c.read_bytes + c.write_bytes);
  result.hbm_read_bytes = static_cast<std::int64_t>(c.fill_sectors * kSectorBytes);
  result.hbm_write_bytes = static_cast<std::int64_t>(c.writeback_sectors * kSectorBytes);
  result.l2_hit_rate =
      c.read_sectors == 0 ? 1.0 : static_cast<double>(c.hit_sectors) / static_cast<double>(c.read_sectors);
  // Bytes per microsecond; the crossbar's GPC ports are what bounds L2 bandwidth.
  const double l2_peak =
      static_cast<double>(gpu.gpc_sms.size()) * gpu.l2.gpc_bytes_per_cycle * gpu.l2.clock_mhz;
  result.utilization["l2"] = static_cast<double>(std::max(c.read_bytes, c.write_bytes)) / (l2_peak * us);
  result.utilization["hbm"] = static_cast<double>(result.hbm_read_bytes + result.hbm_write_bytes) /
                              (gpu.hbm.peak_bytes_per_us() * us);
  result.energy_j = front_end.dynamic_energy_pj() * 1e-12 + gpu.power.idle_w * result.latency.seconds();
  result.bottleneck = name_bottleneck(result);
  result.statistics = statistics.all();
  result.activity = front_end.activity();
  return result;
}

KernelResult simulate(const GpuSpec& gpu, const models::Operator& op, const KernelOptions& options,
                      Recording* recording) {
  models::check(op);
  const kernels::Addresses addresses = place(op);
  return simulate(gpu, kernels::lower(op, gpu, addresses), cached_ranges(op, addresses, options),
                  models::flops_of(op), options, recording);
}

}  // namespace

KernelResult simulate_kernel(const GpuSpec& gpu, const models::Operator& op, const KernelOptions& options) {
  return simulate(gpu, op, options, nullptr);
}

KernelResult simulate_recorded(const GpuSpec& gpu, const models::Operator& op, const KernelOptions& options,
                               Recording& recording) {
  return simulate(gpu, op, options, &recording);
}

KernelResult simulate_launches(const GpuSpec& gpu, std::vector<std::unique_ptr<tile::Kernel>> launches,
                               const std::vector<AddressRange>& cached, double flops,
                               const KernelOptions& options) {
  return simulate(gpu, std::move(launches), cached, flops, options, nullptr);
}

}  // namespace tessera::sim
