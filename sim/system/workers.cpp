#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "sim/system/child_process.hpp"
#include "sim/system/kernel_profile.hpp"
#include "sim/system/pace.hpp"

namespace tessera::sim {

namespace {

using nlohmann::json;

json to_json(const KernelResult& r) {
  json activity = json::object();
  for (const auto& [track, stretches] : r.activity) {
    json& list = activity[track] = json::array();
    for (const Activity& a : stretches) list.push_back({a.start.fs, a.end.fs, a.share});
  }
  json executions = json::array();
  for (const Time execution : r.executions) executions.push_back(execution.fs);
  return {{"latency", r.latency.fs},
          {"execution", r.execution.fs},
          {"passed", r.passed.fs},
          {"ci95_percent", r.ci95_percent},
          {"clock_mhz", r.clock_mhz},
          {"cycles", r.cycles},
          {"flops", r.flops},
          {"bottleneck", r.bottleneck},
          {"utilization", r.utilization},
          {"l2_bytes", r.l2_bytes},
          {"hbm_read_bytes", r.hbm_read_bytes},
          {"hbm_write_bytes", r.hbm_write_bytes},
          {"l2_hit_rate", r.l2_hit_rate},
          {"energy_j", r.energy_j},
          {"events", r.events},
          {"operations", r.operations},
          {"kernels", r.kernels},
          {"executions", executions},
          {"statistics", r.statistics},
          {"activity", activity}};
}

KernelResult from_json(const json& j) {
  KernelResult r;
  r.latency.fs = j["latency"];
  r.execution.fs = j["execution"];
  r.passed.fs = j["passed"];
  r.ci95_percent = j["ci95_percent"];
  r.clock_mhz = j["clock_mhz"];
  r.cycles = j["cycles"];
  r.flops = j["flops"];
  r.bottleneck = j["bottleneck"];
  j["utilization"].get_to(r.utilization);
  r.l2_bytes = j["l2_bytes"];
  r.hbm_read_bytes = j["hbm_read_bytes"];
  r.hbm_write_bytes = j["hbm_write_bytes"];
  r.l2_hit_rate = j["l2_hit_rate"];
  r.energy_j = j["energy_j"];
  r.events = j["events"];
  r.operations = j["operations"];
  j["kernels"].get_to(r.kernels);
  for (const json& fs : j["executions"]) r.executions.push_back(Time{fs.get<std::int64_t>()});
  j["statistics"].get_to(r.statistics);
  for (const auto& [track, stretches] : j["activity"].items()) {
    for (const json& a : stretches) {
      r.activity[track].push_back(
          {Time{a[0].get<std::int64_t>()}, Time{a[1].get<std::int64_t>()}, a[2].get<double>()});
    }
  }
  return r;
}

using Clock = std::chrono::steady_clock;

struct Worker {
  pid_t pid = -1;
  int pipe = -1;
  std::size_t job = 0;
  std::string output;
  Clock::time_point start;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
};

Worker start(const KernelJob& job, std::size_t index, const Simulate& simulate) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error{errno, std::generic_category(), "pipe"};
  const pid_t pid = start_child([&] {
    close(ends[0]);
    // Standard output is the parent's: SystemC remarks on it when a simulation ends early.
    if (const int nowhere = open("/dev/null", O_WRONLY); nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
    json reply;
    try {
      reply["result"] = to_json(simulate(job));
    } catch (const std::invalid_argument& e) {
      reply["invalid_argument"] = e.what();
    } catch (const std::exception& e) {
      reply["error"] = e.what();
    }
    write_all(ends[1], reply.dump());
  });
  close(ends[1]);
  return {pid, ends[0], index, {}, Clock::now()};
}

/// What a worker that has gone left behind.
KernelOutcome outcome_of(const Worker& worker, int status, const std::string& kernel) {
  KernelOutcome outcome;
  const json reply = json::parse(worker.output, nullptr, false);
  if (WIFSIGNALED(status)) {
    outcome.failure = fmt::format("{}: the worker process died of signal {}", kernel, WTERMSIG(status));
  } else if (reply.is_discarded()) {
    outcome.failure = fmt::format("{}: the worker process gave no result", kernel);
  } else if (reply.contains("invalid_argument")) {
    outcome.invalid = reply["invalid_argument"].get<std::string>();
  } else if (reply.contains("error")) {
    outcome.failure = fmt::format("{}: {}", kernel, reply["error"].get<std::string>());
  } else {
    outcome.result = from_json(reply["result"]);
  }
  return outcome;
}

}  // namespace

// FLOPs at 1 PFLOP/s against bytes at 3 TB/s.
double rough_seconds(const KernelJob& job) {
  return std::max(models::flops_of(job.op) * 1e-15, static_cast<double>(models::min_bytes_of(job.op)) / 3e12);
}

void simulate_each(const std::vector<KernelJob>& jobs, int processes, const Simulate& simulate,
                   const std::function<void(std::size_t, KernelOutcome&&)>& ended,
                   const std::function<void(const WorkDone&)>& progress) {
  if (processes <= 0) processes = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::vector<double> sizes;
  for (const KernelJob& job : jobs) sizes.push_back(rough_seconds(job));
  const std::vector<std::size_t> order = order_of(sizes);

  std::vector<Worker> running;
  const auto stop_all = [&] {
    for (const Worker& w : running) {
      kill(w.pid, SIGKILL);
      close(w.pipe);
      waitpid(w.pid, nullptr, 0);
    }
  };
  try {
    std::size_t next = 0, done = 0;
    double seconds_done = 0;
    Pace pace;
    const auto report = [&](const std::string& what) {
      if (!progress) return;
      // Work done, over that and what the rest will take by what such work took.
      double worked = seconds_done, left = 0;
      for (const Worker& w : running) {
        worked += w.seconds();
        left += std::max(0.0, pace.seconds(sizes[w.job]) - w.seconds());
      }
      for (std::size_t i = next; i < jobs.size(); ++i) left += pace.seconds(sizes[order[i]]);
      progress({done, jobs.size(), pace.known() ? worked / (worked + left) : 0, what});
    };
    while (done < jobs.size()) {
      while (next < jobs.size() && running.size() < static_cast<std::size_t>(processes)) {
        running.push_back(start(jobs[order[next]], order[next], simulate));
        ++next;
      }
      std::vector<pollfd> polls;
      for (const Worker& w : running) polls.push_back({w.pipe, POLLIN, 0});
      const int ready = poll(polls.data(), polls.size(), 500);
      if (ready < 0 && errno != EINTR) throw std::runtime_error{"poll failed"};
      if (ready <= 0) {
        report(models::signature_of(jobs[running.front().job].op));
        continue;
      }
      for (std::size_t i = running.size(); i-- > 0;) {
        if (polls[i].revents == 0) continue;
        Worker& w = running[i];
        char chunk[65536];
        const ssize_t n = read(w.pipe, chunk, sizeof chunk);
        if (n > 0) {
          w.output.append(chunk, static_cast<std::size_t>(n));
          continue;
        }
        if (n < 0 && errno == EINTR) continue;
        close(w.pipe);
        const int status = status_of(w.pid);
        const Worker gone = std::move(w);
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        const std::string what = models::signature_of(jobs[gone.job].op);
        ++done;
        seconds_done += gone.seconds();
        pace.ended(sizes[gone.job], gone.seconds());
        ended(gone.job, outcome_of(gone, status, what));
        report(what);
      }
    }
  } catch (...) {
    stop_all();
    throw;
  }
}

std::vector<KernelResult> simulate_all(const std::vector<KernelJob>& jobs, int processes,
                                       const Simulate& simulate,
                                       const std::function<void(const WorkDone&)>& progress) {
  std::vector<KernelResult> results(jobs.size());
  const auto ended = [&](std::size_t job, KernelOutcome&& outcome) {
    if (!outcome.invalid.empty()) throw std::invalid_argument{outcome.invalid};
    if (!outcome.failure.empty()) throw std::runtime_error{outcome.failure};
    results[job] = std::move(outcome.result);
  };
  simulate_each(jobs, processes, simulate, ended, progress);
  return results;
}

}  // namespace tessera::sim
