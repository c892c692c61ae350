// One case: does it fit, is it right, how long does it take.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/loaded_library.hpp"
#include "validate/measure/check.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/run.hpp"
#include "validate/measure/spread_of_times.hpp"

namespace tessera::measure {

namespace {

constexpr int kMostCalls = 512;
constexpr std::int64_t kReserve = std::int64_t{512} << 20;  // for the context, libraries and graphs
constexpr std::int64_t kColdL2s = 3;                        // sets in turn are this many times the L2

/// Device memory for `sets` sets of operands, filled.
class Sets {
 public:
  /// Delegates, so that what was allocated is released if the next does not fit.
  Sets(Device& device, const Workload& workload, int sets, std::uint64_t seed) : Sets{device} {
    for (int s = 0; s < sets; ++s) {
      Call call;
      for (std::size_t i = 0; i < workload.operands.size(); ++i) {
        // Never empty: an unused operand has an address too.
        memory_.push_back(device.allocate(std::max<std::int64_t>(workload.operands[i].bytes(), 16)));
        call.at.push_back(memory_.back());
        device.fill(call.at.back(), workload.operands[i], seed_of(seed + static_cast<std::uint64_t>(s), i));
      }
      calls_.push_back(std::move(call));
    }
  }
  ~Sets() {
    if (device_.lost()) return;
    for (void* memory : memory_) device_.release(memory);
  }
  Sets(const Sets&) = delete;
  Sets& operator=(const Sets&) = delete;
  const std::vector<Call>& calls() const { return calls_; }

 private:
  explicit Sets(Device& device) : device_{device} {}
  Device& device_;
  std::vector<void*> memory_;
  std::vector<Call> calls_;
};

Json json_of(const DeviceProperties& p) {
  Json json{{"name", p.name},
            {"uuid", p.uuid},
            {"compute_capability", p.compute_capability},
            {"sms", p.sms},
            {"memory_bytes", p.memory_bytes},
            {"l2_bytes", p.l2_bytes},
            {"driver", p.driver},
            {"cuda", p.cuda}};
  if (p.ecc) json["ecc"] = *p.ecc;
  if (p.power_limit_w > 0) json["power_limit_w"] = p.power_limit_w;
  return json;
}

Json json_of(const Sensors& s) {
  return {{"sm_mhz", s.sm_mhz},
          {"memory_mhz", s.memory_mhz},
          {"power_w", s.power_w},
          {"temperature_c", s.temperature_c}};
}

Json json_of(const Times& t) {
  return {{"median", t.median}, {"mean", t.mean}, {"sd", t.sd},   {"min", t.least},
          {"max", t.most},      {"p10", t.p10},   {"p90", t.p90}, {"outliers", t.outliers}};
}

/// A value as JSON has it: numbers stay numbers, so that rows can be read by anything.
Json word_json(const std::string& word) {
  if (word == "true") return true;
  if (word == "false") return false;
  const Json number = Json::parse(word, nullptr, false);
  return number.is_number_integer() ? number : Json(word);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string gib(std::int64_t bytes) {
  return fmt::format("{:.2f} GiB", std::ldexp(static_cast<double>(bytes), -30));
}

/// Checks that were passed or failed in this process: the words of the check, and what it said.
const std::string& small_check(Device& device, const Request& request, const Target& target,
                               std::uint64_t seed) {
  static std::map<std::string, std::string> done;
  if (const auto at = done.find(request.text()); at != done.end()) return at->second;
  const Workload workload = build(request, target);
  const Sets sets{device, workload, 1, seed};
  const Check c = check(device, workload, sets.calls().front(), seed);
  std::string complaint;
  if (!c.passed)
    complaint = fmt::format("{}: error {:.3g} of the rms, allowed {:.3g}; {}", request.text(), c.error,
                            c.allowed, c.worst);
  // Only now: a check that could not be run was not passed.
  return done.emplace(request.text(), std::move(complaint)).first->second;
}

double figure_of(const Figure& figure, double time) {
  return figure.unit_scale * (figure.rate ? figure.amount / time : time / figure.amount);
}

/// The first element of the operand "cycles": what the kernel itself read off the clock, at its last launch.
double cycles_of(Device& device, const Workload& workload, const Call& set) {
  for (std::size_t i = 0; i < workload.operands.size(); ++i) {
    if (workload.operands[i].name != "cycles") continue;
    float value = 0;
    device.download(set.at[i], 0, sizeof value, &value);
    return value;
  }
  throw std::logic_error{"a figure from cycles without the operand"};
}

void time_into(Json& row, Device& device, const Workload& workload, const Sets& sets,
               const TimingRules& rules, std::uint64_t seed) {
  Timing probe{.warm_up_ms = 1, .calls = 1, .samples = 3, .graph = workload.graph};
  const std::size_t stages = workload.stages.size();
  const double about_us = spread_of(device.time_us(workload, sets.calls(), 0, stages, probe)).median;
  const auto whole_turns = [&](double us) {
    const auto turn = static_cast<int>(sets.calls().size());
    const int calls = std::clamp(static_cast<int>(rules.sample_ms * 1e3 / std::max(us, 0.1)), 1, kMostCalls);
    return std::max(turn, calls / turn * turn);
  };
  const Timing timing{.warm_up_ms = std::max(rules.warm_up_ms, workload.least_warm_up_ms),
                      .calls = whole_turns(about_us),
                      .samples = rules.samples,
                      .graph = workload.graph};
  const std::vector<double> samples = device.time_us(workload, sets.calls(), 0, stages, timing);
  if (const auto then = device.sensors_at_work()) row["sensors"]["at_work"] = json_of(*then);
  const Times times = spread_of(samples);
  row["latency_us"] = json_of(times);
  row["samples_us"] = samples;
  row["calls_per_sample"] = timing.calls;
  row["sets"] = sets.calls().size();
  row["timing"] = "replay";
  if (workload.figure) {
    const Figure& f = *workload.figure;
    std::vector<double> figures;
    for (int i = 0; i < rules.samples; ++i) {
      if (!f.from_cycles) {
        figures.push_back(figure_of(f, samples[static_cast<std::size_t>(i)] * 1e-6));
        continue;
      }
      // What is there is of the timing's last launch.
      if (i > 0) device.run(workload, sets.calls().front(), seed);
      figures.push_back(figure_of(f, cycles_of(device, workload, sets.calls().front())));
    }
    const Times spread = spread_of(figures);
    row["figure"] = {
        {"value", spread.median}, {"unit", f.unit}, {"sd", spread.sd}, {"outliers", spread.outliers}};
  }
  if (stages > 1 && rules.stages) {
    Timing each = timing;
    each.warm_up_ms = rules.warm_up_ms / 4;
    each.samples = std::max(5, rules.samples / 3);
    row["stages"] = Json::array();
    for (std::size_t s = 0; s < stages; ++s) {
      const Times t = spread_of(device.time_us(workload, sets.calls(), s, s + 1, each));
      row["stages"].push_back({{"name", workload.stages[s].name}, {"median_us", t.median}, {"sd_us", t.sd}});
    }
  }
}

}  // namespace

std::string key_of(const Suite& suite, const Case& which, const DeviceProperties& device) {
  const TimingRules& t = suite.timing;
  return hash_of(fmt::format("{}|{}|{}|{}|{}|{}", device.uuid.empty() ? device.name : device.uuid,
                             which.request.text(), t.warm_up_ms, t.sample_ms, t.samples, t.stages));
}

Json measure_case(Device& device, const Suite& suite, const Case& which, const RunOptions& options) {
  const DeviceProperties& gpu = device.properties();
  Json row{{"kind", which.request.kind}, {"args", Json::object()}};
  for (const auto& [key, value] : which.request.given) row["args"][key] = word_json(value);
  row["run"] = which.run;
  row["suite"] = {{"name", suite.name}, {"hash", suite.hash}};
  row["key"] = key_of(suite, which, gpu);
  row["revision"] = options.revision;
  row["time"] = utc_now();
  row["device"] = json_of(gpu);
  const Target target{.compute_capability = gpu.compute_capability, .sms = gpu.sms, .l2_bytes = gpu.l2_bytes};
  try {
    const Workload workload = build(which.request, target);
    row["implementation"] = workload.implementation;
    if (!workload.unlike.empty()) row["unlike"] = workload.unlike;
    const std::int64_t need = workload.bytes() + kReserve, free = device.free_bytes();
    if (need > free) {
      row["skipped"] = fmt::format("does not fit: needs {}, {} are free", gib(need), gib(free));
      return row;
    }
    int sets = 1;
    if (workload.cold) {
      const std::int64_t wanted = (kColdL2s * gpu.l2_bytes + workload.bytes() - 1) / workload.bytes() + 1;
      if (wanted > kMostCalls) {
        row["skipped"] = fmt::format("l2=cold: {} sets of operands would have to take turns, at most {} do",
                                     wanted, kMostCalls);
        return row;
      }
      sets = static_cast<int>(std::max<std::int64_t>(wanted, 2));
      if (sets * workload.bytes() + kReserve > free) {
        row["skipped"] = fmt::format("l2=cold: {} sets do not fit: {} are free", sets, gib(free));
        return row;
      }
    }
    for (const Request& request : checks_of(which.request)) {
      const std::string& complaint = small_check(device, request, target, options.seed);
      if (!complaint.empty()) {
        row["failed"] = "check " + complaint;
        return row;
      }
    }
    const Sets memory{device, workload, sets, options.seed};
    const Check c = workload.expect ? check(device, workload, memory.calls().front(), options.seed)
                                    : Check{.passed = true};
    if (workload.prepare)
      for (const Call& call : memory.calls()) device.prepare(workload, call);
    row["check"] = {{"error", std::isfinite(c.error) ? Json(c.error) : Json("not finite")},
                    {"allowed", c.allowed},
                    {"elements", c.elements}};
    if (!c.passed) {
      row["failed"] =
          fmt::format("check: error {:.3g} of the rms, allowed {:.3g}; {}", c.error, c.allowed, c.worst);
      return row;
    }
    if (workload.note) row["algorithm"] = workload.note();
    if (options.record && workload.choices) {
      if (!device.computes(workload)) {
        row["skipped"] = "choices: a kernel of this size is not emulated, only filled in where it is checked";
        return row;
      }
      row["choices"] = options.record(which, read_choices(device, workload, memory.calls().front()));
    }
    if (options.check_only) return row;
    if (const auto now = device.sensors()) row["sensors"]["before"] = json_of(*now);
    time_into(row, device, workload, memory, suite.timing, options.seed);
    row["flops"] = workload.flops;
    row["min_bytes"] = workload.min_bytes;
  } catch (const NotMeasured& e) {
    row["skipped"] = e.what();
  } catch (const cuda::TooLittleSharedMemory& e) {
    row["skipped"] = e.what();
  } catch (const cuda::LibraryMissing& e) {
    // Measured once the library is there: such a row does not stand for the measurement.
    row["skipped"] = e.what();
    row.erase("key");
  } catch (const std::exception& e) {
    row["failed"] = e.what();
  }
  return row;
}

double estimated_s(const Suite& suite, const Target& target, double flops_per_s, double bytes_per_s) {
  constexpr double kHostS = 0.15;  // filling, checking, capturing
  double sum = 2;                  // the context
  std::set<std::string> checked;
  for (const Case& c : suite.cases) {
    Workload w;
    try {
      w = build(c.request, target);
    } catch (const NotMeasured&) {
      continue;
    }
    const auto stages = static_cast<double>(w.stages.size());
    const double call_s = std::max(w.flops / flops_per_s, w.min_bytes / bytes_per_s) + 4e-6 * stages;
    const double sample_s = std::max(suite.timing.sample_ms * 1e-3, call_s);
    sum += kHostS + std::max(suite.timing.warm_up_ms, w.least_warm_up_ms) * 1e-3 +
           suite.timing.samples * sample_s;
    if (stages > 1 && suite.timing.stages)
      sum += stages * (suite.timing.warm_up_ms * 1e-3 / 4 + suite.timing.samples / 3.0 * sample_s);
    for (const Request& check : checks_of(c.request)) sum += checked.insert(check.text()).second ? 0.3 : 0;
  }
  return sum;
}

}  // namespace tessera::measure
