#include "sim/gpu/front_end.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "kernels/tile/occupancy.hpp"
#include "sim/core/power.hpp"
#include "sim/gpu/sampling/sampling_plan.hpp"
#include "sim/gpu/sampling/window_length.hpp"

namespace tessera::sim {

namespace {

// Of the bytes that SMs load: above it, the L2 is not where they come from.
constexpr double kMostMissed = 0.1;
// More than any chain of instructions lasts.
constexpr std::uint32_t kMostQuietWindows = 50;

std::vector<std::size_t> sms_of(const std::vector<Gpc*>& gpcs) {
  std::vector<std::size_t> sms;
  for (const Gpc* gpc : gpcs) sms.push_back(gpc->sms().size());
  return sms;
}

}  // namespace

FrontEnd::FrontEnd(sc_core::sc_module_name name, const GpuSpec& gpu, const KernelOptions& options,
                   std::vector<Gpc*> gpcs)
    : EventModule{name},
      to_gpcs(gpcs.size()),
      gpu_{gpu},
      options_{options},
      gpcs_{std::move(gpcs)},
      ctas_{sms_of(gpcs_)},
      window_us_{options.fixed_clock_mhz > 0 ? fixed_clock_window_us(gpu) : governor_window_us(gpu)},
      whole_us_{window_us_},
      governor_{gpu, options.fixed_clock_mhz},
      seen_{gpcs_.size()} {}

// Kernels and their CTAs ----------------------------------------------------------------------------------

void FrontEnd::submit(std::vector<std::unique_ptr<tile::Kernel>> kernels) {
  kernels_ = std::move(kernels);
  for (Gpc* gpc : gpcs_) {
    gpc->set_kernels(kernels_);
    gpc->set_passes_trips(!options_.exact);
  }
  // In replays the first kernel too may have been launched beside its predecessor, the last of the replay
  // before.
  launched_ahead_ = options_.graph && options_.replayed && kernels_.front()->shape().launched_beside;
  const double launch_us = launched_ahead_  ? 0
                           : options_.graph ? gpu_.launch.graph_launch_us
                                            : gpu_.launch.host_launch_us;
  schedule(Time::from_us(launch_us), FrontEndEvent{.kind = FrontEndEvent::Kind::start_kernel});
}

void FrontEnd::start_kernel(Time now) {
  const tile::LaunchShape& shape = kernels_[current_]->shape();
  const unsigned resident = tile::resident_ctas(gpu_.sm, shape);
  if (current_ == 0 && governor_.clock_mhz() != gpu_.boost_clock_mhz) send_clock(now);
  for (auto& gpc : to_gpcs)
    gpc.send(now, GpcEvent{.kind = GpcEvent::Kind::prepare, .bytes = resident, .value = current_});
  ctas_.start(shape, resident);
  ctas_left_ = shape.grid;

  const SamplingPlan plan = plan_sampling(shape, gpu_, options_, execution_);
  window_us_ = plan.window_us;
  trip_sampling_.start(plan.count, plan.window_us, plan.short_windows);
  seen_.start_kernel();
  passed_loads_.push_back(0);

  kernel_start_ = launched_ahead_ ? now + to_gpcs.front().latency()
                                  : now + Time::from_us(gpu_.launch.first_instruction_us);
  to_l2.send(now, L2Event{.kind = L2Event::Kind::start_kernel});
  // A CTA per cycle.
  const Clock clock = Clock::mhz(governor_.clock_mhz());
  for (bool progress = true; progress;) {
    progress = false;
    for (unsigned g = 0; g < gpcs_.size(); ++g)
      progress |= dispatch_cluster(kernel_start_ + clock.cycles(ctas_.next()), g);
  }
  if (ctas_.next() == 0) {
    throw std::invalid_argument{
        fmt::format("{}: no GPC has room for a cluster of {} CTAs", shape.name, shape.cluster)};
  }
  if (!looking_) {
    looking_ = true;
    quiet_windows_ = 0;
    sampled_at_ = kernel_start_;
    look_after(kernel_start_, kernel_start_, 1);
  }
}

Time FrontEnd::next_start(Time now) {
  const Time gap = Time::from_us(gpu_.launch.graph_launch_us);
  // A kernel launched beside its predecessor has gone through its launch by the time that one ends, if that
  // took long enough; any other is a node of the graph like the first.
  launched_ahead_ = kernels_[current_]->shape().launched_beside;
  return launched_ahead_ ? max(now, kernel_start_ + gap) : now + gap;
}

bool FrontEnd::dispatch_cluster(Time when, unsigned gpc) {
  const std::uint32_t cluster = kernels_[current_]->shape().cluster;
  std::uint64_t cta = ctas_.next();
  const auto& places = ctas_.place_cluster(gpc);
  for (const CtaScheduler::Place& place : places) {
    to_gpcs[gpc].send_at(when - to_gpcs[gpc].latency(), when,
                         GpcEvent{.kind = GpcEvent::Kind::launch,
                                  .to = {.sm = place.sm, .slot = place.slot},
                                  .value = cta | (cta / cluster << 32U)});
    ++cta;
  }
  return !places.empty();
}

void FrontEnd::cta_done(Time now, const FrontEndEvent& event) {
  ctas_.free(event.gpc, {event.sm, event.slot});
  if (--ctas_left_ == 0) return kernel_done(now, now - to_gpcs[event.gpc].latency());
  if (ctas_.all_placed()) return;
  const Time ready = now + Clock::mhz(governor_.clock_mhz()).cycles_f(gpu_.launch.cta_launch_cycles);
  schedule(ready - to_gpcs[event.gpc].latency(),
           FrontEndEvent{.kind = FrontEndEvent::Kind::dispatch, .gpc = event.gpc});
}

void FrontEnd::kernel_done(Time now, Time exited) {
  if (windows_ > 1) trip_sampling_.end_pass(static_cast<std::uint32_t>((now - sampled_at_).us() / last_us_));
  passed_ += trip_sampling_.passed_windows() * Time::from_us(window_us_);
  half_width_ += Time::from_us(trip_sampling_.half_width_windows() * window_us_);
  // Nothing is sampled until the next kernel starts, and windows are whole ones again.
  window_us_ = whole_us_;
  trip_sampling_.start({}, window_us_);
  if (windows_ > 1 && answers_missing_ == 0) look_after(now, now, 1);
  warm_l2(now, false);
  execution_ += exited - kernel_start_;
  executions_.push_back(exited - kernel_start_);
  schedule(now + Time::from_us(gpu_.launch.completion_us),
           FrontEndEvent{.kind = FrontEndEvent::Kind::finish_kernel});
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
        if (answers_missing_ == 0) ask(now);
      }
      break;
    case FrontEndEvent::Kind::sample_power:
      if (!finished_ && event.look == look_) ask(now);
      break;
    case FrontEndEvent::Kind::energy:
      take_answer(now, event);
      break;
  }
}

// Windows -------------------------------------------------------------------------------------------------

void FrontEnd::look_after(Time now, Time from, std::uint32_t windows) {
  windows_ = windows;
  schedule(max(now, from + Time::from_us(window_us_ + (windows - 1) * last_us_)),
           FrontEndEvent{.kind = FrontEndEvent::Kind::sample_power, .look = ++look_});
}

void FrontEnd::ask(Time now) {
  window_began_ = now;
  answers_missing_ = gpcs_.size() + 1;
  energy_ = {};
  traffic_ = {};
  passed_loads_in_window_ = 0;
  trips_ = {};
  measured_ = trip_sampling_.measuring();
  for (auto& gpc : to_gpcs) gpc.send(now, GpcEvent{.kind = GpcEvent::Kind::sample_energy});
  to_l2.send(now, L2Event{.kind = L2Event::Kind::sample_energy, .tag = measured_ ? 1U : 0U});
}

void FrontEnd::take_answer(Time now, const FrontEndEvent& event) {
  const Time end = finished_ ? min(now, completed_at_) : now;
  energy_.us = std::max(1e-3, (end - sampled_at_).us());
  if (event.from_l2) {
    energy_.memory_pj += event.energy_pj;
    traffic_.hbm += event.activity;
    traffic_.hbm_read += event.loads;
  } else {
    const TripProgress& trips = event.trips;
    energy_.sm_pj += event.energy_pj;
    traffic_.loads += event.loads;
    passed_loads_in_window_ += trips.passed_loads;
    trips_ += trips.window;
    if (measured_) seen_.add_trips(event.gpc, trips.window);
    const auto sms = static_cast<double>(gpcs_[event.gpc]->sms().size());
    activity_[fmt::format("GPC {}", event.gpc)].push_back(
        {sampled_at_, end, event.activity / (sms * energy_.us)});
  }
  if (--answers_missing_ == 0) end_window(now, end);
}

void FrontEnd::end_window(Time now, Time end) {
  book_window(end);
  if (finished_) return;
  if (stuck()) {
    looking_ = false;  // the simulation runs dry, so that the deadlock report can speak
    return;
  }
  const double watts = governor_.watts(energy_);
  if (govern(now, watts)) {
    seen_.end_group();
    trip_sampling_.start_anew();
  }
  // One window of trips longer than it may have seen them all compute, another all wait.
  const double usual_w = seen_.empty() ? watts : seen_.watts();
  const double most_windows = governor_.unwatched_us(usual_w, now.us()) / window_us_;
  if (windows_ == 1) last_us_ = energy_.us;
  if (const auto pass = trip_sampling_.add(trips_, most_windows, windows_)) pass_trips(now, *pass);
  if (!trip_sampling_.holding()) warm_l2(now, false);
  look_after(now, window_start(now), std::max(1U, trip_sampling_.windows_to_pass()));
}

void FrontEnd::book_window(Time end) {
  if (measured_) seen_.add_traffic(traffic_);
  // Passed trips move as much to and from HBM for each byte that they load as measured ones.
  if (passed_loads_in_window_ > 0) {
    const double moved = seen_.hbm_bytes_of(passed_loads_in_window_);
    passed_loads_[passing_] += passed_loads_in_window_;
    energy_.memory_pj += moved * gpu_.power.hbm_pj_per_byte;
    traffic_.hbm += moved;
  }
  const double watts = governor_.watts(energy_);
  if (measured_) seen_.add(governor_.clock_mhz(), watts, energy_.us);
  energy_pj_ += governor_.dynamic_pj(energy_);
  clock_time_ += governor_.clock_mhz() * energy_.us;
  busy_time_ += energy_.us;
  activity_["HBM"].push_back({sampled_at_, end, traffic_.hbm / (gpu_.hbm.peak_bytes_per_us() * energy_.us)});
  activity_["power"].push_back({sampled_at_, end, watts / gpu_.power.peak_w});
  sampled_at_ = end;
}

bool FrontEnd::stuck() {
  quiet_windows_ = energy_.sm_pj + energy_.memory_pj == 0 ? quiet_windows_ + 1 : 0;
  return quiet_windows_ == kMostQuietWindows;
}

bool FrontEnd::govern(Time now, double watts) {
  const bool was_capped = governor_.capped();
  governor_.follow_mean(watts, energy_.us);
  if (trip_sampling_.windows_to_pass() == 0) governor_.look_at_cap();
  // What passed trips would do to the clock is what measured ones have done to it.
  if (governor_.fixed() || trip_sampling_.holding()) return governor_.capped() != was_capped;
  const double clock_before = governor_.clock_mhz();
  governor_.find_clock(energy_);
  if (governor_.clock_mhz() != clock_before) send_clock(now);
  trip_sampling_.set_steady(std::abs(governor_.clock_mhz() - clock_before) <= kClockStepMhz);
  // Where the clock has no reason to change windows may be short; where it has, the governor must not see
  // parts of a tile.
  const double short_us = short_window_us(gpu_);
  if (governor_.free(watts) && !short_windows() && short_us < whole_us_ &&
      trip_sampling_.divisible(trips_, whole_us_ / short_us)) {
    window_us_ = short_us;
    trip_sampling_.resize(window_us_, true);
  } else if (!governor_.free(watts) && short_windows() && trip_sampling_.settling()) {
    window_us_ = whole_us_;
    trip_sampling_.resize(window_us_, false);
  }
  return governor_.capped() != was_capped;
}

void FrontEnd::send_clock(Time now) {
  for (auto& gpc : to_gpcs) {
    gpc.send(now,
             GpcEvent{.kind = GpcEvent::Kind::set_clock,
                      .value = static_cast<std::uint64_t>(Clock::mhz(governor_.clock_mhz()).period().fs)});
  }
}

// Passed trips --------------------------------------------------------------------------------------------

void FrontEnd::pass_trips(Time now, const TripSampling::Pass& pass) {
  // At the mean clock of the windows that stand for the passed ones.
  if (const double mhz = seen_.clock_mhz(); mhz != governor_.clock_mhz()) {
    governor_.set_clock(mhz);
    send_clock(now);
  }
  const Time until = window_start(now) + Time::from_us(pass.windows * energy_.us);
  for (std::size_t g = 0; g < to_gpcs.size(); ++g) {
    const double each_ps = pass.each.ns() * seen_.longer_in(g) * 1e3;
    to_gpcs[g].send(now, GpcEvent{.kind = GpcEvent::Kind::pass_trips,
                                  .bytes = static_cast<std::uint32_t>(std::llround(each_ps)),
                                  .value = static_cast<std::uint64_t>(until.fs)});
  }
  seen_.begin_pass();
  passing_ = current_;
  // SMs stop, and go on, half a trip after the order and before its end on average.
  const double pause_ns = (until - now - pass.each).ns();
  if (pause_ns > 0) {
    to_l2.send(now, L2Event{.kind = L2Event::Kind::hold,
                            .tag = static_cast<std::uint32_t>(traffic_.hbm / energy_.us),
                            .box = {.address = static_cast<std::uint64_t>(pause_ns)}});
  }
  // Where CTAs find in the L2 what others have read, they shall find it also if the others passed over that.
  warm_l2(now, seen_.hbm_read() < kMostMissed * seen_.loads());
}

void FrontEnd::warm_l2(Time now, bool warm) {
  if (warm == warming_) return;
  warming_ = warm;
  to_l2.send(now, L2Event{.kind = L2Event::Kind::warm, .tag = warm ? 1U : 0U});
}

// Results -------------------------------------------------------------------------------------------------

double FrontEnd::mean_clock_mhz() const {
  return busy_time_ > 0 ? clock_time_ / busy_time_ : governor_.clock_mhz();
}

void FrontEnd::describe_stuck(std::vector<std::string>& out) const {
  if (finished_ || kernels_.empty()) return;
  out.push_back(fmt::format("{}: kernel {} has {} CTAs left, {} never launched", name(),
                            kernels_[current_]->shape().name, ctas_left_,
                            kernels_[current_]->shape().grid - ctas_.next()));
}

}  // namespace tessera::sim
