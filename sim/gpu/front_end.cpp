#include "sim/gpu/front_end.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels/tile/occupancy.hpp"
#include "sim/core/power.hpp"

namespace tessera::sim {

namespace {
constexpr double kMostMissed =
    0.1;  // of the bytes that SMs load: above it, the L2 is not where they come from
// Where the clock is fixed nothing but sampling looks at windows.
constexpr double kFixedClockWindowUs = 8;
// Where it need not be found any more, and windows see many trips, a part of one shows as much.
constexpr double kShortWindowUs = 4;

/// Refreshes of all banks stop the HBM at the same times: windows that hold equal numbers of them are alike.
double whole_refreshes_us(const HbmSpec& hbm, double about_us) {
  if (hbm.per_bank_refresh) return about_us;
  const double interval_us = hbm.trefi_ns * 1e-3;
  return interval_us * std::max(1.0, std::round(about_us / interval_us));
}
constexpr double kCapped = 0.95;  // of the cap: below, the mean power has room for the peak again
constexpr std::uint32_t kMostQuietWindows = 50;
// Passed trips may go on beyond the moment at which the mean power reaches the cap for so much of the time so
// far: close to the cap, when that will be is not known much better, and the clock hardly changes there.
constexpr double kBeyondCap = 0.02;
// What is written stays in the L2 until that is full, which writes at half the HBM's rate take twice as long
// as the HBM to fill it; and write-backs are not steady at once.
constexpr double kFills = 3;
constexpr double kManyWaves = 0.99;  // of a kernel's trips, before the first SM runs out of work
// A power this close above the cap costs one step of the clock at most: not worth ending a stretch for.
constexpr double kNearCap = 1.03;
}  // namespace

FrontEnd::FrontEnd(sc_core::sc_module_name name, const GpuSpec& gpu, const KernelOptions& options,
                   std::vector<Gpc*> gpcs)
    : EventModule{name},
      to_gpcs(gpcs.size()),
      gpu_{gpu},
      options_{options},
      gpcs_{std::move(gpcs)},
      clock_mhz_{options.fixed_clock_mhz > 0 ? options.fixed_clock_mhz : gpu.boost_clock_mhz},
      window_us_{options.fixed_clock_mhz > 0 ? whole_refreshes_us(gpu.hbm, kFixedClockWindowUs)
                                             : gpu.power.window_us},
      whole_us_{window_us_},
      mean_w_{gpu.power.idle_w} {}

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
  const unsigned slots = tile::resident_ctas(gpu_.sm, shape);
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
  start_trips();
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
    quiet_windows_ = 0;
    sampled_at_ = kernel_start_;
    look_after(kernel_start_, kernel_start_, 1);
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
    if (windows_ > 1)
      trip_sampling_.end_pass(static_cast<std::uint32_t>((now - sampled_at_).us() / last_us_));
    passed_ += trip_sampling_.passed_windows() * Time::from_us(window_us_);
    half_width_ += Time::from_us(trip_sampling_.half_width_windows() * window_us_);
    window_us_ = whole_us_;
    trip_sampling_.start({}, window_us_);
    if (windows_ > 1 && energies_missing_ == 0) look_after(now, now, 1);
    warm_l2(now, false);
    const Time end = now - to_gpcs[event.gpc].latency();  // when the CTA exited
    execution_ += end - kernel_start_;
    executions_.push_back(end - kernel_start_);
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
      if (!finished_ && event.look == look_) sample(now);
      break;
    case FrontEndEvent::Kind::energy:
      take_energy(now, event);
      break;
  }
}

Time FrontEnd::next_start(Time now) {
  const Time gap = Time::from_us(gpu_.launch.graph_launch_us);
  // A kernel launched beside its predecessor has gone through its launch by the time that one ends, if that
  // took long enough; any other is a node of the graph like the first.
  launched_ahead_ = kernels_[current_]->shape().launched_beside;
  return launched_ahead_ ? max(now, kernel_start_ + gap) : now + gap;
}

void FrontEnd::sample(Time now) {
  window_began_ = now;
  energies_missing_ = gpcs_.size() + 1;
  sm_pj_ = memory_pj_ = 0;
  hbm_bytes_ = hbm_read_ = loads_ = passed_window_loads_ = 0;
  trips_ = {};
  measured_window_ = trip_sampling_.measuring();
  for (auto& gpc : to_gpcs) gpc.send(now, GpcEvent{.kind = GpcEvent::Kind::sample_energy});
  to_l2.send(now, L2Event{.kind = L2Event::Kind::sample_energy, .tag = measured_window_ ? 1U : 0U});
}

void FrontEnd::take_energy(Time now, const FrontEndEvent& event) {
  const Time end = finished_ ? min(now, completed_at_) : now;
  const double window_us = std::max(1e-3, (end - sampled_at_).us());
  if (event.from_l2) {
    memory_pj_ += event.energy_pj;
    hbm_bytes_ += event.activity;
    hbm_read_ += event.loads;
  } else {
    sm_pj_ += event.energy_pj;
    loads_ += event.loads;
    passed_window_loads_ += event.trips.passed_loads;
    trips_.timed += event.trips.timed;
    trips_.time += event.trips.time;
    trips_.made += event.trips.made;
    trips_.items += event.trips.items;
    trips_.alike += event.trips.alike;
    if (measured_window_) {
      group_trips_[event.gpc].timed += event.trips.timed;
      group_trips_[event.gpc].time += event.trips.time;
    }
    const auto sms = static_cast<double>(gpcs_[event.gpc]->sms().size());
    activity_[fmt::format("GPC {}", event.gpc)].push_back(
        {sampled_at_, end, event.activity / (sms * window_us)});
  }
  if (--energies_missing_ == 0) end_window(now, end, window_us);
}

void FrontEnd::end_window(Time now, Time end, double window_us) {
  // Passed trips move as much to and from HBM for each byte that they load as measured ones.
  if (measured_window_) {
    group_clock_ += clock_mhz_;
    ++group_windows_;
    measured_loads_ += loads_;
    measured_read_ += hbm_read_;
    measured_moved_ += hbm_bytes_;
  }
  if (passed_window_loads_ > 0 && measured_loads_ > 0) {
    const double moved = passed_window_loads_ * measured_moved_ / measured_loads_;
    passed_loads_ += passed_window_loads_;
    memory_pj_ += moved * gpu_.power.hbm_pj_per_byte;
    hbm_bytes_ += moved;
  }
  activity_["HBM"].push_back({sampled_at_, end, hbm_bytes_ / (gpu_.hbm.peak_bytes_per_us() * window_us)});

  const double scaled = sm_pj_ * voltage_scale(gpu_.power, gpu_.boost_clock_mhz, clock_mhz_);
  energy_pj_ += scaled + memory_pj_;
  const double watts = gpu_.power.idle_w + (scaled + memory_pj_) / window_us * 1e-6;  // pJ per us: 1e-6 W
  if (measured_window_) group_energy_ += watts * window_us;
  if (measured_window_) group_us_ += window_us;
  activity_["power"].push_back({sampled_at_, end, watts / gpu_.power.peak_w});
  clock_time_ += clock_mhz_ * window_us;
  busy_time_ += window_us;
  sampled_at_ = end;
  if (finished_) return;
  if (sm_pj_ + memory_pj_ == 0) {
    // Nothing moved for many windows, more than any chain of instructions lasts: let the simulation run dry,
    // so that the deadlock report can speak.
    if (++quiet_windows_ == kMostQuietWindows) {
      sampling_ = false;
      return;
    }
  } else {
    quiet_windows_ = 0;
  }
  const bool was_capped = capped_;
  const double clock_before = clock_mhz_;
  watch_mean(watts, window_us);
  // What passed trips would do to the clock is what measured ones have done to it.
  if (options_.fixed_clock_mhz <= 0 && !trip_sampling_.holding()) {
    govern(now, window_us, scaled);
    watch_clock(clock_before, watts);
  }
  if (capped_ != was_capped) {
    forget_group();
    trip_sampling_.start_anew();
  }
  // One window of trips longer than it may have seen them all compute, another all wait.
  const double usual_w = group_us_ > 0 ? group_energy_ / group_us_ : watts;
  const double windows_left =
      capped_ || options_.fixed_clock_mhz > 0 || usual_w < kNearCap * gpu_.power.cap_w
          ? std::numeric_limits<double>::infinity()
          : (time_to_cap_us(gpu_.power, mean_w_, usual_w) + kBeyondCap * now.us()) / window_us_;
  if (windows_ == 1) last_us_ = window_us;
  if (const auto pass = trip_sampling_.add(trips_, windows_left, windows_)) pass_trips(now, *pass, window_us);
  if (!trip_sampling_.holding()) warm_l2(now, false);
  look_after(now, window_start(now), std::max(1U, trip_sampling_.windows_to_pass()));
}

void FrontEnd::watch_clock(double clock_before, double watts) {
  trip_sampling_.set_steady(std::abs(clock_mhz_ - clock_before) <= kClockStepMhz);
  // Below the cap the clock has no reason to change; above it the governor must not see parts of a tile.
  const bool free = clock_mhz_ == gpu_.boost_clock_mhz && watts <= gpu_.power.cap_w;
  const double short_us = whole_refreshes_us(gpu_.hbm, kShortWindowUs);
  if (free && window_us_ == whole_us_ && short_us < whole_us_ &&
      trip_sampling_.divisible(trips_, whole_us_ / short_us)) {
    window_us_ = short_us;
    trip_sampling_.resize(short_us, true);
  } else if (!free && window_us_ != whole_us_ && trip_sampling_.settling()) {
    window_us_ = whole_us_;
    trip_sampling_.resize(whole_us_, false);
  }
}

void FrontEnd::look_after(Time now, Time from, std::uint32_t windows) {
  windows_ = windows;
  schedule(max(now, from + Time::from_us(window_us_ + (windows - 1) * last_us_)),
           FrontEndEvent{.kind = FrontEndEvent::Kind::sample_power, .look = ++look_});
}

void FrontEnd::watch_mean(double watts, double window_us) {
  mean_w_ += (watts - mean_w_) * -std::expm1(-window_us / (gpu_.power.average_ms * 1e3));
  if (options_.fixed_clock_mhz > 0 || trip_sampling_.windows_to_pass() > 0) return;
  capped_ = mean_w_ >= (capped_ ? kCapped : 1.0) * gpu_.power.cap_w;
}

void FrontEnd::govern(Time now, double window_us, double sm_pj) {
  set_clock(now, clock_within_mhz(gpu_.power, gpu_.boost_clock_mhz,
                                  {.clock_mhz = clock_mhz_,
                                   .sm_w = sm_pj / window_us * 1e-6,
                                   .memory_w = memory_pj_ / window_us * 1e-6},
                                  capped_ ? gpu_.power.cap_w : gpu_.power.peak_w));
}

void FrontEnd::set_clock(Time now, double mhz) {
  if (mhz == clock_mhz_) return;
  clock_mhz_ = mhz;
  send_clock(now);
}

void FrontEnd::pass_trips(Time now, const TripSampling::Pass& pass, double window_us) {
  // At the mean clock of the windows that stand for the passed ones.
  set_clock(now, group_clock_ / group_windows_);
  TripWindow all;
  for (const TripWindow& t : group_trips_) {
    all.timed += t.timed;
    all.time += t.time;
  }
  const Time until = window_start(now) + Time::from_us(pass.windows * window_us);
  for (std::size_t g = 0; g < to_gpcs.size(); ++g) {
    const TripWindow& own = group_trips_[g];
    const double longer = own.timed == 0 ? 1.0
                                         : own.time.us() / static_cast<double>(own.timed) /
                                               (all.time.us() / static_cast<double>(all.timed));
    to_gpcs[g].send(now,
                    GpcEvent{.kind = GpcEvent::Kind::pass_trips,
                             .bytes = static_cast<std::uint32_t>(std::llround(pass.each.ns() * longer * 1e3)),
                             .value = static_cast<std::uint64_t>(until.fs)});
  }
  forget_group();
  // SMs stop, and go on, half a trip after the order and before its end on average.
  const double pause_ns = (until - now - pass.each).ns();
  if (pause_ns > 0) {
    to_l2.send(now, L2Event{.kind = L2Event::Kind::hold,
                            .tag = static_cast<std::uint32_t>(hbm_bytes_ / window_us),
                            .box = {.address = static_cast<std::uint64_t>(pause_ns)}});
  }
  // Where CTAs find in the L2 what others have read, they shall find it also if the others passed over that.
  warm_l2(now, measured_read_ < kMostMissed * measured_loads_);
}

void FrontEnd::warm_l2(Time now, bool warm) {
  if (warm == warming_) return;
  warming_ = warm;
  to_l2.send(now, L2Event{.kind = L2Event::Kind::warm, .tag = warm ? 1U : 0U});
}

void FrontEnd::forget_group() {
  group_clock_ = group_windows_ = 0;
  group_energy_ = group_us_ = 0;
  group_trips_.assign(to_gpcs.size(), {});
}

void FrontEnd::start_trips() {
  if (options_.exact) return;
  const tile::LaunchShape& shape = kernels_[current_]->shape();
  const auto trips = static_cast<double>(shape.trips);
  double even = static_cast<double>(shape.even_trips);
  const std::size_t resident =
      std::size_t{tile::resident_ctas(gpu_.sm, shape)} * static_cast<std::size_t>(gpu_.sms());
  if (shape.grid > resident)
    even = trips * static_cast<double>(shape.grid / resident * resident) / shape.grid;
  forget_group();
  const auto loops = static_cast<double>(std::min<std::size_t>(shape.grid, resident));
  if (options_.fixed_clock_mhz <= 0 && trips > 0 && options_.share < kLittleShare) {
    // A clock that is a step off for some time matters as little.
    window_us_ = std::min(whole_us_, whole_refreshes_us(gpu_.hbm, kShortWindowUs));
  }
  const Time fills =
      options_.fixed_clock_mhz > 0
          ? Time{}
          : Time::from_us(kFills * static_cast<double>(gpu_.l2.bytes) / gpu_.hbm.peak_bytes_per_us());
  // The end of a grid of many waves is less than what windows do not show anyway.
  const bool little = options_.share < kLittleShare;
  const bool waves = shape.grid > resident && even > kManyWaves * trips;
  trip_sampling_.start({.trips = trips,
                        .even = even,
                        .loops = loops,
                        .ends_alike = options_.fixed_clock_mhz <= 0 && (waves || (little && even >= trips)),
                        .share = options_.share,
                        .fills = fills,
                        .before = execution_},
                       window_us_, options_.fixed_clock_mhz > 0);
  if (window_us_ != whole_us_) trip_sampling_.resize(window_us_, true);
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
