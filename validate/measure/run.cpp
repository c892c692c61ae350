// The worker process and the one that watches it.

#include "validate/measure/run.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "validate/measure/kinds.hpp"

namespace tessera::measure {

namespace {

constexpr int kLostDevice = 10, kNoDevice = 11, kBroken = 12;

/// What a worker says of itself, one fixed-size record at a time: below PIPE_BUF, so never torn.
struct Word {
  enum class What : std::int32_t { device, begin, measured, skipped, failed, already_there, error } what;
  std::int32_t which = 0;
  char text[400] = {};
};

void say(int fd, Word::What what, std::size_t which, const std::string& text = "") {
  Word word{.what = what, .which = static_cast<std::int32_t>(which)};
  std::strncpy(word.text, text.c_str(), sizeof word.text - 1);
  if (::write(fd, &word, sizeof word) != static_cast<ssize_t>(sizeof word)) _exit(kBroken);
}

std::string device_line(const DeviceProperties& p) {
  return fmt::format("{} (sm_{}, {} SMs, {:.0f} GiB), driver {}, CUDA {}", p.name, p.compute_capability,
                     p.sms, static_cast<double>(p.memory_bytes) / (1 << 30), p.driver, p.cuda);
}

std::string line_of(const Json& row) {
  if (row.contains("skipped")) return row["skipped"].get<std::string>();
  if (row.contains("failed")) return row["failed"].get<std::string>();
  if (row.contains("choices")) return row["choices"].get<std::string>();
  if (row.contains("figure"))
    return fmt::format("{:.5g} {}", row["figure"]["value"].get<double>(),
                       row["figure"]["unit"].get<std::string>());
  if (!row.contains("latency_us")) return "checked";
  const double median = row["latency_us"]["median"].get<double>(), flops = row["flops"].get<double>(),
               bytes = row["min_bytes"].get<double>();
  return fmt::format("{:.2f} us +- {:.2f}, {:.1f} TFLOP/s, {:.0f} GB/s, {} outliers", median,
                     row["latency_us"]["sd"].get<double>(), flops / median * 1e-6, bytes / median * 1e-3,
                     row["latency_us"]["outliers"].size());
}

[[noreturn]] void work(const Suite& suite, const RunOptions& options, std::size_t first, int fd,
                       pid_t watcher) {
  // Killed with the process that watches it: what is left would measure beside the next one.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != watcher) _exit(kBroken);
  std::unique_ptr<Device> device;
  try {
    device = options.open_device();
    say(fd, Word::What::device, 0, device_line(device->properties()));
  } catch (const std::exception& e) {
    say(fd, Word::What::error, first, e.what());
    _exit(kNoDevice);
  }
  try {
    std::optional<Journal> journal;
    if (!options.check_only) journal.emplace(options.out, options.revision);
    for (std::size_t i = first; i < suite.cases.size(); ++i) {
      const Case& which = suite.cases[i];
      if (which.request.text().find(options.only) == std::string::npos) continue;
      if (journal && journal->has(key_of(suite, which, device->properties()))) {
        say(fd, Word::What::already_there, i);
        continue;
      }
      say(fd, Word::What::begin, i);
      const Json row = measure_case(*device, suite, which, options);
      if (journal) journal->append(row);
      say(fd,
          row.contains("skipped")  ? Word::What::skipped
          : row.contains("failed") ? Word::What::failed
                                   : Word::What::measured,
          i, line_of(row));
      if (device->lost()) _exit(kLostDevice);
    }
  } catch (const std::exception& e) {
    say(fd, Word::What::error, first, e.what());
    _exit(kBroken);
  }
  device.reset();
  _exit(0);
}

/// The row of a case whose worker did not live to write one.
Json lost_row(const Suite& suite, const Case& which, const RunOptions& options, const std::string& reason) {
  Json row{{"kind", which.request.kind}, {"args", Json::object()}};
  for (const auto& [key, value] : which.request.given) row["args"][key] = value;
  row["run"] = which.run;
  row["suite"] = {{"name", suite.name}, {"hash", suite.hash}};
  row["revision"] = options.revision;
  row["failed"] = reason;
  return row;
}

/// The next word; nothing if the worker is gone. `timed_out` if it said nothing for so long.
std::optional<Word> listen(int fd, double limit_s, bool& timed_out) {
  pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
  const int ready = ::poll(&waiting, 1, static_cast<int>(limit_s * 1e3));
  timed_out = ready == 0;
  Word word{};
  if (ready <= 0 || ::read(fd, &word, sizeof word) != static_cast<ssize_t>(sizeof word)) return std::nullopt;
  return word;
}

}  // namespace

RunSummary run_suite(const Suite& suite, const RunOptions& options) {
  if (!options.check_only) {
    const Journal there{options.out, options.revision};
    if (there.mended())
      fmt::print(options.report, "{}: the last row was unfinished and is measured again\n",
                 options.out.string());
  }
  RunSummary summary;
  std::size_t next = 0;
  bool named = false;
  while (next < suite.cases.size()) {
    std::fflush(nullptr);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error{"no pipe to a worker process"};
    const pid_t watcher = ::getpid(), worker = ::fork();
    if (worker < 0) throw std::runtime_error{"no worker process could be started"};
    if (worker == 0) {
      ::close(ends[0]);
      work(suite, options, next, ends[1], watcher);
    }
    ::close(ends[1]);
    std::optional<std::size_t> busy;
    std::string error;
    bool timed_out = false;
    while (const auto word = listen(ends[0], options.case_limit_s, timed_out)) {
      const auto which = static_cast<std::size_t>(word->which);
      const auto report = [&](const char* how) {
        fmt::print(options.report, "  [{}/{}] {}: {}{}\n", which + 1, suite.cases.size(),
                   suite.cases[which].request.text(), how, word->text);
        std::fflush(options.report);
      };
      switch (word->what) {
        case Word::What::device:
          if (!named) fmt::print(options.report, "{}\n", word->text);
          named = true;
          continue;
        case Word::What::begin:
          busy = which;
          continue;
        case Word::What::error:
          error = word->text;
          continue;
        case Word::What::measured:
          ++summary.measured;
          report("");
          break;
        case Word::What::skipped:
          ++summary.skipped;
          report("SKIPPED: ");
          break;
        case Word::What::failed:
          ++summary.failed;
          report("FAILED: ");
          break;
        case Word::What::already_there:
          ++summary.already_there;
          break;
      }
      busy.reset();
      next = which + 1;
    }
    ::close(ends[0]);
    if (timed_out) ::kill(worker, SIGKILL);
    int status = 0;
    ::waitpid(worker, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 0 && !busy) break;
    if (code == kNoDevice || (code == kBroken && !busy)) throw std::runtime_error{error};
    if (busy) {
      const std::string reason =
          timed_out             ? fmt::format("no result within {:.0f} s: given up", options.case_limit_s)
          : error != ""         ? error
          : WIFSIGNALED(status) ? fmt::format("its process died of signal {} ({})", WTERMSIG(status),
                                              strsignal(WTERMSIG(status)))
                                : fmt::format("its process ended with code {}", code);
      ++summary.failed;
      fmt::print(options.report, "  [{}/{}] {}: FAILED: {}\n", *busy + 1, suite.cases.size(),
                 suite.cases[*busy].request.text(), reason);
      if (!options.check_only)
        Journal{options.out, options.revision}.append(lost_row(suite, suite.cases[*busy], options, reason));
      next = *busy + 1;
    } else if (code != kLostDevice) {
      throw std::runtime_error{error.empty() ? fmt::format("the worker process ended with code {}", code)
                                             : error};
    }
  }
  return summary;
}

}  // namespace tessera::measure
