#include "sim/gpu/front_end.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "sim/gpu/power.hpp"

namespace tessera::sim {

namespace {
constexpr double kReplayUs = 400;
}

unsigned resident_ctas(const SmSpec& sm, const tile::LaunchShape& shape) {
  const auto fit = [&](std::int64_t need, std::int64_t have, const char* what) {
    if (need > have) {
      throw std::invalid_argument{
          fmt::format("{}: a CTA needs {} {}, an SM has {}", shape.name, need, what, have)};
    }
    return need == 0 ? std::int64_t{sm.max_ctas} : have / need;
  };
  const std::int64_t shared = shape.shared_bytes + sm.shared_bytes_reserved_per_cta;
  fit(shape.shared_bytes, sm.shared_bytes_per_cta, "bytes of shared memory");
  return static_cast<unsigned>(
      std::min({fit(shape.threads(), sm.max_threads, "threads"),
                fit(shape.registers_per_cta, sm.registers, "registers"),
                fit(shared, sm.shared_bytes, "bytes of shared memory"), std::int64_t{sm.max_ctas}}));
}

FrontEnd::FrontEnd(sc_core::sc_module_name name, const GpuSpec& gpu, const KernelOptions& options,
                   std::vector<Gpc*> gpcs)
    : EventModule{name},
      to_gpcs(gpcs.size()),
      gpu_{gpu},
      options_{options},
      gpcs_{std::move(gpcs)},
      clock_mhz_{options.start_clock_mhz > 0 ? options.start_clock_mhz : gpu.boost_clock_mhz} {}

void FrontEnd::submit(std::vector<std::unique_ptr<tile::Kernel>> kernels) {
  kernels_ = std::move(kernels);
  for (Gpc* gpc : gpcs_) gpc->set_kernels(kernels_);
  const double launch_us = options_.graph ? gpu_.launch.graph_launch_us : gpu_.launch.host_launch_us;
  schedule(Time::from_us(launch_us), FrontEndEvent{.kind = FrontEndEvent::Kind::start_kernel});
}

void FrontEnd::start_kernel(Time now) {
  const tile::LaunchShape& shape = kernels_[current_]->shape();
  const unsigned slots = resident_ctas(gpu_.sm, shape);
  if (current_ == 0 && clock_mhz_ != gpu_.boost_clock_mhz) send_clock(now);
  slots_.assign(gpcs_.size(), {});
  for (std::size_t g = 0; g < gpcs_.size(); ++g) {
    to_gpcs[g].send(now, GpcEvent{.kind = GpcEvent::Kind::prepare, .bytes = slots, .value = current_});
    slots_[g].free.resize(gpcs_[g]->sms().size());
    for (auto& free : slots_[g].free) {
      for (unsigned s = slots; s > 0; --s) free.push_back(static_cast<std::uint8_t>(s - 1));
    }
  }
  next_cta_ = 0;
  ctas_left_ = shape.grid;
  kernel_start_ = launched_ahead_ ? now + to_gpcs.front().latency()
                                 : now + Time::from_us(gpu_.launch.first_instruction_us);
  to_l2.send(now, L2Event{.kind = L2Event::Kind::start_kernel});
  dispatch_all(kernel_start_);
  if (next_cta_ == 0) {
    throw std::invalid_argument{
        fmt::format("{}: no GPC has room for a cluster of {} CTAs", shape.name, shape.cluster)};
  }
  if (!sampling_) {
    sampling_ = true;
    sampled_at_ = kernel_start_;
    schedule(kernel_start_ + Time::from_us(gpu_.power.window_us),
             FrontEndEvent{.kind = FrontEndEvent::Kind::sample_power});
  }
}

void FrontEnd::dispatch_all(Time at) {
  // Breadth first: one cluster to each GPC in turn, on the emptiest SMs, a CTA per cycle.
  bool progress = true;
  while (progress) {
    progress = false;
    for (unsigned g = 0; g < gpcs_.size(); ++g) {
      progress |= dispatch_cluster(at + Clock::mhz(clock_mhz_).cycles(next_cta_), g);
    }
  }
}

bool FrontEnd::dispatch_cluster(Time when, unsigned gpc) {
  const tile::LaunchShape& shape = kernels_[current_]->shape();
  if (next_cta_ >= shape.grid) return false;
  std::vector<std::vector<std::uint8_t>>& free = slots_[gpc].free;
  std::size_t room = 0;
  for (const auto& f : free) room += f.size();
  if (room < shape.cluster) return false;
  for (std::uint32_t rank = 0; rank < shape.cluster; ++rank) {
    auto emptiest = std::max_element(free.begin(), free.end(),
                                     [](const auto& a, const auto& b) { return a.size() < b.size(); });
    const std::uint8_t slot = emptiest->back();
    emptiest->pop_back();
    const auto sm = static_cast<std::uint8_t>(emptiest - free.begin());
    to_gpcs[gpc].send_at(when - to_gpcs[gpc].latency(), when,
                         GpcEvent{.kind = GpcEvent::Kind::launch,
                                  .to = {.sm = sm, .slot = slot},
                                  .value = next_cta_ | (std::uint64_t{next_cta_ / shape.cluster} << 32U)});
    ++next_cta_;
  }
  return true;
}

void FrontEnd::cta_done(Time now, const FrontEndEvent& event) {
  slots_[event.gpc].free[event.sm].push_back(event.slot);
  if (--ctas_left_ == 0) {
    const Time end = now - to_gpcs[event.gpc].latency();  // when the CTA exited
    execution_ += end - kernel_start_;
    last_exit_ = end;
    schedule(now + Time::from_us(gpu_.launch.completion_us),
             FrontEndEvent{.kind = FrontEndEvent::Kind::finish_kernel});
    return;
  }
  if (next_cta_ < kernels_[current_]->shape().grid) {
    const Time ready = now + Clock::mhz(clock_mhz_).cycles_f(gpu_.launch.cta_launch_cycles);
    schedule(ready - to_gpcs[event.gpc].latency(),
             FrontEndEvent{.kind = FrontEndEvent::Kind::dispatch, .gpc = event.gpc});
  }
}

void FrontEnd::handle(Time now, const FrontEndEvent& event) {
  switch (event.kind) {
    case FrontEndEvent::Kind::start_kernel:
      start_kernel(now);
      break;
    case FrontEndEvent::Kind::cta_done:
      cta_done(now, event);
      break;
    case FrontEndEvent::Kind::dispatch:
      dispatch_cluster(now + to_gpcs[event.gpc].latency(), event.gpc);
      break;
    case FrontEndEvent::Kind::finish_kernel:
      if (++current_ < kernels_.size()) {
        schedule(next_start(now), FrontEndEvent{.kind = FrontEndEvent::Kind::start_kernel});
      } else {
        finished_ = true;
        completed_at_ = now;
        if (energies_missing_ == 0) sample(now);
      }
      break;
    case FrontEndEvent::Kind::sample_power:
      if (!finished_) sample(now);
      break;
    case FrontEndEvent::Kind::energy:
      take_energy(now, event);
      break;
  }
}

Time FrontEnd::next_start(Time now) {
  const Time gap = Time::from_us(gpu_.launch.graph_launch_us);
  // From one node to the next: what follows the last exit is part of the gap.
  launched_ahead_ = true;
  return max(now, (kernels_[current_]->shape().launched_beside ? kernel_start_ : last_exit_) + gap);
}

void FrontEnd::sample(Time now) {
  energies_missing_ = gpcs_.size() + 1;
  sm_pj_ = memory_pj_ = 0;
  for (auto& gpc : to_gpcs) gpc.send(now, GpcEvent{.kind = GpcEvent::Kind::sample_energy});
  to_l2.send(now, L2Event{.kind = L2Event::Kind::sample_energy});
}

void FrontEnd::take_energy(Time now, const FrontEndEvent& event) {
  (event.from_l2 ? memory_pj_ : sm_pj_) += event.energy_pj;
  const Time end = finished_ ? min(now, completed_at_) : now;
  const double window_us = std::max(1e-3, (end - sampled_at_).us());
  if (event.from_l2) {
    const double peak = static_cast<double>(gpu_.hbm.stacks) * gpu_.hbm.channels_per_stack *
                        gpu_.hbm.pseudo_channels * gpu_.hbm.pins_per_pseudo_channel * gpu_.hbm.pin_gbps / 8 *
                        1e3;
    activity_["HBM"].push_back({sampled_at_, end, event.activity / (peak * window_us)});
  } else {
    const auto sms = static_cast<double>(gpcs_[event.gpc]->sms().size());
    activity_[fmt::format("GPC {}", event.gpc)].push_back(
        {sampled_at_, end, event.activity / (sms * window_us)});
  }
  if (--energies_missing_ != 0) return;

  const double scaled = sm_pj_ * voltage_scale(gpu_.power, gpu_.boost_clock_mhz, clock_mhz_);
  energy_pj_ += scaled + memory_pj_;
  clock_time_ += clock_mhz_ * window_us;
  busy_time_ += window_us;
  sampled_at_ = end;
  if (finished_) return;
  if (sm_pj_ + memory_pj_ == 0) {
    // Nothing moved for a whole window: let the simulation run dry, so that the deadlock report can speak.
    sampling_ = false;
    return;
  }
  // A clock given to start with is that of endless replays: short kernels keep it, for what the governor averages over
  // is longer.
  if (options_.start_clock_mhz > 0 && busy_time_ < kReplayUs) {
    schedule(now + Time::from_us(gpu_.power.window_us),
             FrontEndEvent{.kind = FrontEndEvent::Kind::sample_power});
    return;
  }
  // pJ per us are microwatts.
  const double mhz = sustained_clock_mhz(gpu_.power, gpu_.boost_clock_mhz,
                                         {.clock_mhz = clock_mhz_,
                                          .sm_w = scaled / window_us * 1e-6,
                                          .memory_w = memory_pj_ / window_us * 1e-6});
  if (mhz != clock_mhz_) {
    clock_mhz_ = mhz;
    send_clock(now);
  }
  schedule(now + Time::from_us(gpu_.power.window_us),
           FrontEndEvent{.kind = FrontEndEvent::Kind::sample_power});
}

void FrontEnd::send_clock(Time now) {
  for (auto& gpc : to_gpcs) {
    gpc.send(now, GpcEvent{.kind = GpcEvent::Kind::set_clock,
                           .value = static_cast<std::uint64_t>(Clock::mhz(clock_mhz_).period().fs)});
  }
}

double FrontEnd::mean_clock_mhz() const { return busy_time_ > 0 ? clock_time_ / busy_time_ : clock_mhz_; }

void FrontEnd::describe_stuck(std::vector<std::string>& out) const {
  if (finished_ || kernels_.empty()) return;
  out.push_back(fmt::format("{}: kernel {} has {} CTAs left, {} never launched", name(),
                            kernels_[current_]->shape().name, ctas_left_,
                            kernels_[current_]->shape().grid - next_cta_));
}

}  // namespace tessera::sim
