#include "sim/system/recorded_kernel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <system_error>

#include "sim/system/child_process.hpp"

namespace tessera::sim {

namespace {

using nlohmann::json;

json json_of(const Recording& recording) {
  json kernels = json::array(), spans = json::array(), channels = json::array();
  for (const RoleRecorder::Kernel& k : recording.roles.kernels())
    kernels.push_back({k.name, k.roles, k.barriers});
  for (const RoleSpan& s : recording.roles.spans())
    spans.push_back({s.start.fs, s.end.fs, s.slot, s.role, s.kernel, static_cast<int>(s.op),
                     static_cast<int>(s.blocked), s.barrier});
  for (const auto& stretches : recording.channels.channels()) {
    json& list = channels.emplace_back(json::array());
    for (const ChannelRecorder::Stretch& s : stretches) list.push_back({s.start.fs, s.end.fs, s.share});
  }
  return {{"kernels", kernels},
          {"spans", spans},
          {"left_out", recording.roles.left_out()},
          {"channels", channels}};
}

Recording recording_of(const json& j) {
  std::vector<RoleRecorder::Kernel> kernels;
  std::vector<RoleSpan> spans;
  std::vector<std::vector<ChannelRecorder::Stretch>> channels;
  for (const json& k : j["kernels"])
    kernels.push_back({k[0], k[1].get<std::vector<std::string>>(), k[2].get<std::vector<std::string>>()});
  for (const json& s : j["spans"])
    spans.push_back({.start = Time{s[0].get<std::int64_t>()},
                     .end = Time{s[1].get<std::int64_t>()},
                     .slot = s[2],
                     .role = s[3],
                     .kernel = s[4],
                     .op = static_cast<tile::OpKind>(s[5].get<int>()),
                     .blocked = static_cast<Blocked>(s[6].get<int>()),
                     .barrier = s[7]});
  for (const json& list : j["channels"]) {
    auto& stretches = channels.emplace_back();
    for (const json& s : list)
      stretches.push_back({Time{s[0].get<std::int64_t>()}, Time{s[1].get<std::int64_t>()}, s[2]});
  }
  return {.roles = RoleRecorder{std::move(kernels), std::move(spans), j["left_out"].get<std::size_t>()},
          .channels = ChannelRecorder{std::move(channels)}};
}

std::string read_all(int fd) {
  std::string text;
  char chunk[65536];
  for (;;) {
    const ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(chunk, static_cast<std::size_t>(n));
  }
}

}  // namespace

Recording record_kernel(const KernelJob& job) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error{errno, std::generic_category(), "pipe"};
  const pid_t child = start_child([&] {
    close(ends[0]);
    // Standard output is the parent's: SystemC remarks on it when a simulation ends early.
    if (const int nowhere = open("/dev/null", O_WRONLY); nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
    Recording recording;
    simulate_recorded(*job.gpu, job.op, job.options, recording);
    write_all(ends[1], json_of(recording).dump());
  });
  close(ends[1]);
  const std::string reply = read_all(ends[0]);
  close(ends[0]);
  const int status = status_of(child);
  const json j = json::parse(reply, nullptr, false);
  if (status != 0 || j.is_discarded())
    throw std::runtime_error{
        fmt::format("{}: it could not be recorded for the timeline", models::signature_of(job.op))};
  return recording_of(j);
}

}  // namespace tessera::sim
