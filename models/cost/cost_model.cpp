#include "models/cost/cost_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/library/lower.hpp"
#include "kernels/tile/occupancy.hpp"
#include "sim/core/power.hpp"

namespace tessera::cost {

namespace {

constexpr std::uint32_t kExactTrips = 16, kAffineTrips = 48;  // beyond the first, affine through both
constexpr std::uint64_t kApart = std::uint64_t{1} << 40U;     // operands do not overlap

/// a + x (b - a)
Figures mix(const Figures& a, const Figures& b, double x) {
  Figures f;
  for (std::size_t i = 0; i < figures; ++i) f[i] = a[i] + x * (b[i] - a[i]);
  return f;
}
void add(Figures& sum, const Figures& f, double times) {
  for (std::size_t i = 0; i < figures; ++i) sum[i] += times * f[i];
}

}  // namespace

CostModel::CostModel(const GpuSpec& gpu) : gpu_{gpu}, rates_{gpu}, run_{gpu_.sm} {}

std::uint64_t CostModel::key_of(const Share& share, bool miss) {
  // 16, 15 and 32 bits, and one.
  return (((std::uint64_t{share.ctas} << 15U) | share.pieces) << 33U) | (std::uint64_t{share.trips} << 1U) |
         (miss ? 1U : 0U);
}

const Figures& CostModel::count(const tile::Kernel& kernel, Counted& counted, const Share& share, bool miss) {
  const auto [at, added] = counted.try_emplace(key_of(share, miss));
  if (added) {
    const MemoryLatency latency{miss ? rates_.l2_miss : rates_.l2_hit, rates_.store, rates_.l2_hit};
    at->second = run_.run(*kernel.excerpt(share.ctas, share.pieces, share.trips), share.ctas, 1, latency);
  }
  return at->second;
}

Figures CostModel::demand(const tile::Kernel& kernel, Counted& counted, const Share& share, double missing) {
  if (missing <= 0) return count(kernel, counted, share, false);
  if (missing >= 1) return count(kernel, counted, share, true);
  const Figures& hit = count(kernel, counted, share, false);
  return mix(hit, count(kernel, counted, share, true), missing);
}

CostModel::Launch CostModel::launch(const tile::Kernel& kernel, const tile::Outline& outline,
                                    double missing) {
  const tile::LaunchShape& shape = kernel.shape();
  const std::uint64_t resident = tile::resident_ctas(gpu_.sm, shape);
  const auto sms = static_cast<std::uint64_t>(gpu_.sms());
  Launch l{.beside = shape.launched_beside};
  std::uint64_t slots = 0;  // clusters at a time
  for (const int gpc : gpu_.gpc_sms) slots += static_cast<std::uint64_t>(gpc) * resident / shape.cluster;
  if (slots == 0) throw std::invalid_argument{shape.name + ": no GPC has room for a cluster"};
  const double at_once = static_cast<double>(std::min<std::uint64_t>(shape.grid, slots * shape.cluster));

  if (outline.pieces.empty()) {
    // Short CTAs, all alike.
    const auto together =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(resident, (shape.grid + sms - 1) / sms));
    const auto stride = static_cast<std::uint32_t>(
        std::max<std::uint64_t>(1, std::min<std::uint64_t>(shape.grid / together, sms)));
    const auto run = [&] {
      const MemoryLatency latency{rates_.l2_hit + missing * (rates_.l2_miss - rates_.l2_hit), rates_.store,
                                  rates_.l2_hit};
      return run_.run(kernel, together, stride, latency);
    };
    Figures f;
    if (const bool miss = missing >= 1; outline.key.empty() || (missing > 0 && !miss)) {
      f = run();
    } else {
      const auto [known, added] = counted_[outline.key].try_emplace(key_of({together, 0, 0}, miss));
      if (added) known->second = run();
      f = known->second;
    }
    add(l.total, f, static_cast<double>(shape.grid) / together);
    l.ends_cycles = f[cycles];
    batches_.assign(1, {shape.grid, f[cycles] + gpu_.launch.cta_launch_cycles});
    l.sm_cycles = schedule_.makespan(batches_, 1, slots) - gpu_.launch.cta_launch_cycles;
  } else {
    std::uint64_t count = 0;
    for (const tile::Pieces& p : outline.pieces) count += p.count * outline.rounds;
    const std::uint64_t per_sm = (count * shape.cluster + sms - 1) / sms;
    const auto together = outline.in_turn ? 1U : static_cast<std::uint32_t>(std::min(resident, per_sm));
    const std::uint64_t machines =
        outline.in_turn ? std::min<std::uint64_t>(slots, shape.grid / shape.cluster) : slots;
    const bool again = count > machines;
    Counted& counted = counted_[outline.key];
    const auto at = [&](std::uint32_t pieces, std::uint32_t trips) {
      return demand(kernel, counted, {together, pieces, trips}, missing);
    };
    const bool many = std::any_of(outline.pieces.begin(), outline.pieces.end(),
                                  [](const tile::Pieces& p) { return p.trips > kExactTrips; });
    Figures few{}, more{}, two_few{}, two_more{};
    if (many) {
      few = at(1, kExactTrips);
      more = at(1, kAffineTrips);
      if (again && outline.in_turn) {
        two_few = at(2, kExactTrips);
        two_more = at(2, kAffineTrips);
      }
    }
    l.ends_cycles = at(1, 1)[cycles];
    batches_.clear();
    double once =
        outline.in_turn ? 0 : -gpu_.launch.cta_launch_cycles;  // what a CTA does before its first piece
    double idle_cycles = 0;  // of CTAs that find nothing to do, after all others: nothing streams beside them
    double long_pieces = 0, long_trips = 0;  // in units of kAffineTrips - kExactTrips, beyond kExactTrips
    for (const tile::Pieces& p : outline.pieces) {
      const double times = static_cast<double>(p.count * outline.rounds * shape.cluster) / together;
      double one, two = 0;  // cycles of one piece, of two
      if (p.trips > kExactTrips) {
        const double x = static_cast<double>(p.trips - kExactTrips) / (kAffineTrips - kExactTrips);
        long_pieces += times;
        long_trips += times * x;
        one = few[cycles] + x * (more[cycles] - few[cycles]);
        two = two_few[cycles] + x * (two_more[cycles] - two_few[cycles]);
      } else {
        const Figures f = at(1, p.trips);
        add(l.total, f, times);
        one = f[cycles];
        if (again && outline.in_turn) two = at(2, p.trips)[cycles];
      }
      double duration = one;
      if (!outline.in_turn) {
        duration += gpu_.launch.cta_launch_cycles;
      } else if (again) {
        duration = two - one;
        once = std::max(once, one - duration);
      }
      batches_.push_back({p.count, duration});
      if (p.trips == 0 && !outline.in_turn)
        idle_cycles += static_cast<double>(p.count) * duration / static_cast<double>(machines);
    }
    if (long_pieces > 0) {
      add(l.total, few, long_pieces - long_trips);
      add(l.total, more, long_trips);
    }
    l.sm_cycles = once + schedule_.makespan(batches_, outline.rounds, machines);
    if (!outline.in_turn && !again && together > 1 && outline.pieces.size() > 1) {
      // All at a time, some longer than others: what an SM's CTAs share it does as for the mean of them; but
      // the longest, which go on together, take their time.
      const auto longest =
          std::max_element(outline.pieces.begin(), outline.pieces.end(),
                           [](const tile::Pieces& a, const tile::Pieces& b) { return a.trips < b.trips; });
      const auto beside =
          static_cast<std::uint32_t>((longest->count * outline.rounds * shape.cluster + sms - 1) / sms);
      double mean = 0;
      for (const auto& [number, duration] : batches_)
        mean += static_cast<double>(number * outline.rounds) * duration / static_cast<double>(count);
      const auto alone = [&](std::uint32_t trips) {
        return demand(kernel, counted, {std::min(together, beside), 1, trips}, missing)[cycles];
      };
      double least = alone(std::min(longest->trips, kExactTrips));
      if (longest->trips > kExactTrips)
        least +=
            (alone(kAffineTrips) - least) * (longest->trips - kExactTrips) / (kAffineTrips - kExactTrips);
      l.sm_cycles = std::max(mean - gpu_.launch.cta_launch_cycles, least);
    }
    l.ends_cycles += idle_cycles;
    if (outline.load_bytes > 0) l.total[load_bytes] = static_cast<double>(outline.load_bytes);
    if (outline.store_bytes > 0) l.total[store_bytes] = static_cast<double>(outline.store_bytes);
  }
  l.sm_cycles += at_once;  // CTAs start one a cycle
  l.ends_cycles = std::min(l.sm_cycles, l.ends_cycles + at_once);

  // The port of the most crowded GPC, if the work is spread over all SMs.
  const double share = rates_.sms_per_port / static_cast<double>(sms);
  l.l2_us = std::max(
      {l.total[load_bytes] * share / rates_.gpc_read, l.total[store_bytes] * share / rates_.gpc_write,
       (l.total[load_bytes] + l.total[store_bytes]) / rates_.slices, l.total[l2_lines] / rates_.look_ups});
  return l;
}

double CostModel::execution_us(const Launch& l, double clock_mhz) const {
  const double p = gpu_.overlap_exponent;
  const double sm = (l.sm_cycles - l.ends_cycles) / clock_mhz;
  const double most = std::max({sm, l.l2_us, l.hbm_us});
  if (most <= 0) return l.ends_cycles / clock_mhz;
  return l.ends_cycles / clock_mhz +
         most * std::pow(std::pow(sm / most, p) + std::pow(l.l2_us / most, p) + std::pow(l.hbm_us / most, p),
                         1 / p);
}

Cost CostModel::cost(const models::Operator& op, const Conditions& conditions) {
  models::check(op);
  const std::vector<models::Operand> operands = models::operands_of(op);
  kernels::Addresses addresses;
  for (std::size_t i = 0; i < operands.size(); ++i) addresses.operands.push_back((i + 1) * kApart);
  addresses.workspace = (operands.size() + 1) * kApart;
  const auto kernels = kernels::lower(op, gpu_, addresses);

  // What crosses the HBM's pins: what is read and not warm, what does not stay until it is written again.
  const auto l2 = static_cast<double>(gpu_.l2.bytes);
  // What stays whole. An operand of which only a part fits is read from its beginning, over what is left of
  // its end.
  std::vector<double> warm(operands.size(), 0.0);
  double room = l2;
  for (std::size_t w = conditions.warm_operands.size(); w-- > 0;) {
    const std::uint32_t i = conditions.warm_operands[w];
    if (i >= operands.size())
      throw std::invalid_argument{fmt::format("warm operand {} of {}", i, operands.size())};
    const auto bytes = static_cast<double>(operands[i].bytes);
    if (bytes <= room) warm[i] = bytes;
    room = std::max(0.0, room - bytes);
  }
  double reads = 0, cold = 0, written = 0, footprint = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const auto bytes = static_cast<double>(operands[i].bytes);
    if (operands[i].over < 0) footprint += bytes;
    (operands[i].written ? written : reads) += bytes;
    if (!operands[i].written) cold += bytes - warm[i];
  }
  const double missing = reads > 0 ? cold / reads : 0;
  // Of what is written, what is not overwritten in the L2.
  const auto leaving = [&](double bytes) {
    return footprint <= l2 ? 0 : conditions.replayed ? bytes : std::min(bytes, footprint - l2);
  };
  Traffic traffic{.read = cold, .written = leaving(written)};

  Cost c;
  std::vector<Launch> launches;
  std::vector<tile::Outline> outlines;
  std::size_t main = 0;  // the kernel that moves most, the first of several
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    outlines.push_back(kernels[i]->outline());
    if (outlines[i].key.empty() && !outlines[i].pieces.empty())
      outlines[i].key = fmt::format("{} {}", i, models::signature_of(op));
    c.kernels.push_back(kernels[i]->shape().name);
    if (outlines[i].load_bytes + outlines[i].store_bytes >
        outlines[main].load_bytes + outlines[main].store_bytes)
      main = i;
  }
  // Where kernels say what they read of the operands, each has its share of their traffic. Else what prepares
  // operands for the main kernel reads and writes each byte once, and the main kernel has the rest. Arrays
  // between kernels come back from HBM, and go there, as far as the L2 does not hold them.
  const auto moved = [&](std::size_t i) { return outlines[i].load_bytes + outlines[i].store_bytes; };
  // Kernels that move as much as the main one (a convolution of q, of k, of v) have equal shares.
  double mains = 0;
  for (std::size_t i = main; i < kernels.size(); ++i) mains += moved(i) == moved(main) ? 1 : 0;
  const bool shared = std::any_of(outlines.begin(), outlines.end(),
                                  [](const tile::Outline& o) { return o.operand_bytes >= 0; });
  const auto beyond = [&](std::uint64_t bytes) {
    const auto b = static_cast<double>(bytes);
    return b * std::clamp(2 * b / l2 - 1, 0.0, 1.0);
  };
  Traffic rest = traffic;
  traffic = {};
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const tile::Outline& o = outlines[i];
    const double operand = static_cast<double>(std::max<std::int64_t>(o.operand_bytes, 0));
    Traffic own{.read = beyond(o.between_read), .written = beyond(o.between_written)};
    if (shared) own.read += missing * operand;
    const double asked = operand + static_cast<double>(o.between_read);
    launches.push_back(launch(*kernels[i], o, asked > 0 ? std::min(1.0, own.read / asked) : missing));
    if (!shared && i < main) {
      // Of what it moves, what is not between kernels.
      const auto operands_of_it = [](double moves, std::uint64_t between) {
        return std::max(0.0, moves - static_cast<double>(between));
      };
      const Figures& f = launches[i].total;
      const double read = std::min(rest.read, missing * operands_of_it(f[load_bytes], o.between_read));
      own.read += read;
      rest.read -= read;
      own.written += leaving(operands_of_it(f[store_bytes], o.between_written));
    }
    if (!shared && i >= main && moved(i) == moved(main)) {
      own.read += rest.read / mains;
      own.written += rest.written / mains;
    }
    if (shared && i + 1 == kernels.size()) own.written += rest.written;
    if (o.rereads > 1 && static_cast<double>(o.reread_bytes) > l2 / 2)
      own.read += static_cast<double>(o.reread_bytes) * static_cast<double>(o.rereads - 1);
    if (const double bytes = own.read + own.written; bytes > 0)
      launches[i].hbm_us = bytes / rates_.hbm(own.written / bytes);
    traffic.read += own.read;
    traffic.written += own.written;
  }

  Figures total{};
  for (const Launch& l : launches) add(total, l.total, 1);
  const PowerSpec& p = gpu_.power;
  const double tensor_pj = p.tensor_pj_per_flop * (conditions.random_data ? 1 : p.tensor_zero_share);
  const double l2_bytes = total[load_bytes] + total[store_bytes], hbm_bytes = traffic.read + traffic.written;
  const double sm_uj = 1e-6 * (total[tensor_flops] * tensor_pj + 2 * total[fp32_ops] * p.fp32_pj_per_flop +
                               total[mufu_ops] * p.mufu_pj_per_op +
                               total[shared_bytes] * p.shared_pj_per_byte + l2_bytes * p.l2_pj_per_byte);
  const double memory_uj = 1e-6 * hbm_bytes * p.hbm_pj_per_byte;
  const auto execution_at = [&](double mhz) {
    double us = 0;
    for (const Launch& l : launches) us += execution_us(l, mhz);
    return us;
  };
  const double gaps_us =
      static_cast<double>(launches.size()) *
      (gpu_.launch.graph_launch_us + gpu_.launch.first_instruction_us + gpu_.launch.completion_us);
  // Replays follow each other, launches between them; else kernels of less than a window are over before the
  // governor looks.
  const double gaps = conditions.replayed ? gaps_us : 0;
  struct Pace {
    double mhz, us, watts;  // from one replay to the next
  };
  // The highest clock, in the governor's steps, that stays below a limit, or the lowest: power falls with the
  // clock.
  const auto pace_within = [&](double limit_w, double from_mhz) {
    const auto after = [&](int steps) {
      const double f = from_mhz - steps * kClockStepMhz, each = execution_at(f) + gaps;
      return Pace{f, each, p.idle_w + (sm_uj * voltage_scale(p, gpu_.boost_clock_mhz, f) + memory_uj) / each};
    };
    Pace pace = after(0);
    int above = 0, below = static_cast<int>((from_mhz - p.min_clock_mhz) / kClockStepMhz);
    if (pace.watts <= limit_w || below <= 0) return pace;
    for (pace = after(below); below - above > 1;) {
      const int between = (above + below) / 2;
      if (const Pace there = after(between); there.watts <= limit_w) {
        below = between;
        pace = there;
      } else {
        above = between;
      }
    }
    return pace;
  };
  double mhz = gpu_.boost_clock_mhz;
  if (conditions.replayed || execution_at(mhz) > p.window_us) {
    const Pace peak = pace_within(p.peak_w, mhz), lasting = pace_within(p.cap_w, peak.mhz);
    // The share of the launches that count which are over before the mean power reaches the cap.
    const double until_cap = time_to_cap_us(p, p.idle_w, peak.watts) / peak.us;  // in launches
    double share = std::min(1.0, until_cap);
    if (conditions.replayed) {
      share =
          conditions.launches_counted == 0
              ? (std::isinf(until_cap) ? 1.0 : 0.0)
              : std::clamp((until_cap - conditions.launches_before) / conditions.launches_counted, 0.0, 1.0);
    }
    mhz = 1 / (share / peak.mhz + (1 - share) / lasting.mhz);
  }
  c.clock_mhz = mhz;

  const LaunchSpec& launch = gpu_.launch;
  // In replays the first kernel too may have been launched beside its predecessor, the last of the replay
  // before.
  double start =
      conditions.graph && conditions.replayed && launches.front().beside
          ? launch.cta_launch_cycles / 2 / mhz
          : (conditions.graph ? launch.graph_launch_us : launch.host_launch_us) + launch.first_instruction_us;
  double end = 0;
  for (std::size_t i = 0; i < launches.size(); ++i) {
    if (i > 0) {
      const double done = end + launch.completion_us;
      start = launches[i].beside
                  ? std::max(done, start + launch.graph_launch_us) + launch.cta_launch_cycles / 2 / mhz
                  : done + launch.graph_launch_us + launch.first_instruction_us;
    }
    const double busy = execution_us(launches[i], mhz);
    c.execution_us += busy;
    c.executions_us.push_back(busy);
    end = start + busy;
  }
  c.latency_us = end + launch.completion_us;

  c.flops = models::flops_of(op);
  c.operations = total[operations];
  c.l2_bytes = l2_bytes;
  c.hbm_read_bytes = traffic.read;
  c.hbm_write_bytes = traffic.written;
  c.l2_hit_rate = total[load_bytes] > 0 ? std::max(0.0, 1 - traffic.read / total[load_bytes]) : 1;
  c.energy_j = (sm_uj * voltage_scale(p, gpu_.boost_clock_mhz, mhz) + memory_uj) * 1e-6 +
               p.idle_w * c.latency_us * 1e-6;
  const double sm_us = c.execution_us * gpu_.sms() * mhz;
  c.utilization = {.tensor = total[tensor] / sm_us,
                   .fp32 = total[fp32] / sm_us,
                   .mufu = total[mufu] / sm_us,
                   .shared = total[shared] / sm_us,
                   .issue = total[issue] / sm_us,
                   .l2 = std::max(total[load_bytes], total[store_bytes]) /
                         (rates_.gpc_read * static_cast<double>(gpu_.gpc_sms.size()) * c.execution_us),
                   .hbm = hbm_bytes / (rates_.hbm_peak * c.execution_us)};
  const std::pair<const char*, double> limits[] = {
      {"tensor cores", c.utilization.tensor}, {"FP32 units", c.utilization.fp32},
      {"MUFU", c.utilization.mufu},           {"shared memory", c.utilization.shared},
      {"issue slots", c.utilization.issue},   {"L2 bandwidth", c.utilization.l2},
      {"HBM bandwidth", c.utilization.hbm}};
  const auto* most = std::max_element(std::begin(limits), std::end(limits),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });
  c.bottleneck = c.execution_us < c.latency_us - c.execution_us ? "launch"
                 : most->second < 0.5                           ? "latency"
                                                                : most->first;
  return c;
}

}  // namespace tessera::cost
