// What is recorded for timelines, and that recording changes nothing.

#include "sim/gpu/recording.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <tuple>

#include "configs/reader/hardware.hpp"

namespace tessera::sim {
namespace {

TEST_CASE("warp roles and HBM channels are recorded, and the result is the same") {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  const models::Operator op = models::Gemm{512, 1024, 1024};
  // One simulation per process.
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const std::int64_t fs = simulate_kernel(gpu, op, {}).latency.fs;
    _exit(write(ends[1], &fs, sizeof fs) == sizeof fs ? 0 : 1);
  }
  std::int64_t plain_fs = 0;
  REQUIRE(read(ends[0], &plain_fs, sizeof plain_fs) == sizeof plain_fs);
  waitpid(pid, nullptr, 0);

  Recording recording;
  const KernelResult r = simulate_recorded(gpu, op, {}, recording);
  CHECK(r.latency.fs == plain_fs);

  const RoleRecorder& roles = recording.roles;
  REQUIRE(roles.kernels().size() == r.kernels.size());
  REQUIRE(!roles.spans().empty());
  CHECK(roles.left_out() == 0);
  std::map<std::tuple<int, int, int>, Time> last;
  std::set<std::string> seen;
  for (const RoleSpan& s : roles.spans()) {
    Time& before = last[{s.kernel, s.slot, s.role}];
    CHECK(s.start >= before);
    CHECK(s.end > s.start);
    CHECK(s.end <= r.latency);
    before = s.end;
    seen.insert(roles.kernels()[s.kernel].roles[s.role] + ": " + text_of(s, roles.kernels()[s.kernel]));
  }
  const auto any = [&](const char* text) {
    return std::any_of(seen.begin(), seen.end(),
                       [&](const std::string& s) { return s.find(text) != std::string::npos; });
  };
  CHECK(any("producer: waits for empty"));  // a free stage
  CHECK(any("waits for full"));
  CHECK(any("waits for products"));

  // Shares of the channels' peak are the bytes that the kernel moved.
  const auto& channels = recording.channels.channels();
  REQUIRE(!channels.empty());
  const double channel_bytes_per_us = gpu.hbm.peak_bytes_per_us() / static_cast<double>(channels.size());
  double bytes = 0;
  for (const auto& stretches : channels) {
    for (const ChannelRecorder::Stretch& s : stretches) {
      CHECK(s.share >= 0);
      CHECK(s.share <= 1.01);  // a burst that ends in the next stretch is counted where it began
      bytes += s.share * (s.end - s.start).us() * channel_bytes_per_us;
    }
  }
  const double moved = r.statistics.at("hbm.read_bytes") + r.statistics.at("hbm.write_bytes");
  CHECK(bytes <= 1.001 * moved);
  CHECK(bytes >= 0.5 * moved);  // behind the last whole stretch nothing is told
}

TEST_CASE("channels' stretches are joined when there are many") {
  ChannelRecorder recorder{8};
  Time busy;
  for (int n = 1; n <= 1000; ++n) {
    const Time now = Time::nanoseconds(500 * n);
    if (n % 2 == 0) busy += Time::nanoseconds(250);
    if (recorder.wants(now)) recorder.add(now, {busy, Time{}});
  }
  REQUIRE(recorder.channels().size() == 2);
  const auto& stretches = recorder.channels()[0];
  CHECK(stretches.size() <= 9);
  CHECK(stretches.size() >= 4);
  Time end;
  for (const ChannelRecorder::Stretch& s : stretches) {
    CHECK(s.start == end);
    end = s.end;
  }
  CHECK(stretches.front().share == Catch::Approx(0.25).epsilon(0.01));
}

}  // namespace
}  // namespace tessera::sim
