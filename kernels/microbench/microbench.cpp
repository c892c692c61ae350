#include "kernels/microbench/microbench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <stdexcept>

namespace tessera::kernels {

using tile::Box;
using tile::Cta;
using tile::Program;

namespace {

constexpr std::uint64_t kBase = 2 << 20;
constexpr std::uint64_t kLine = 128;
constexpr std::uint32_t kPieceBytes = 2048;  // of one load of a role of four warps: 16 B per thread

/// The functions below are the coroutines; the kernel keeps which one runs with what.
class SimpleKernel final : public tile::Kernel {
 public:
  using Body = std::function<Program(Cta, std::uint32_t)>;
  SimpleKernel(tile::LaunchShape shape, Body body) : shape_{std::move(shape)}, body_{std::move(body)} {}
  const tile::LaunchShape& shape() const override { return shape_; }
  Program program(Cta cta, std::uint32_t role) const override { return body_(cta, role); }

 private:
  tile::LaunchShape shape_;
  Body body_;
};

/// Each load's address comes from the load before: one thread, lines of `bytes` in a scattered order.
Program chase(std::uint64_t bytes, std::uint32_t steps) {
  const std::uint64_t lines = bytes / kLine;
  std::uint64_t line = 1;
  for (std::uint32_t i = 0; i < steps; ++i) {
    // A full-period generator modulo a power of two visits every line before it comes back to one.
    line = (line * 1664525 + 1013904223) % lines;
    co_await tile::load(Box{kBase + line * kLine, 1, 32, 0});
    co_await tile::load_wait();
  }
}

/// The same line, over and over.
Program chase_line(std::uint64_t line, std::uint32_t steps) {
  for (std::uint32_t i = 0; i < steps; ++i) {
    co_await tile::load(Box{kBase + line * kLine, 1, 32, 0});
    co_await tile::load_wait();
  }
}

Program l1_loads(std::uint32_t steps) {
  for (std::uint32_t i = 0; i < steps; ++i) co_await tile::l1_load(128);
}

/// The `stream`-th of `streams` writes its pieces of `bytes`.
Program write_stream(std::uint64_t bytes, std::uint32_t stream, std::uint32_t streams) {
  for (std::uint64_t piece = stream; piece < bytes / kPieceBytes; piece += streams)
    co_await tile::store(Box{kBase + piece * kPieceBytes, 1, kPieceBytes, 0});
}

Program nothing() { co_return; }

/// The `stream`-th of `streams` reads its pieces of `bytes`, `passes` times over, with `loads` of them in
/// flight.
Program read_stream(std::uint64_t bytes, std::uint32_t passes, std::uint32_t stream, std::uint32_t streams,
                    unsigned loads) {
  const std::uint64_t pieces = bytes / kPieceBytes;
  for (std::uint32_t pass = 0; pass < passes; ++pass) {
    for (std::uint64_t piece = stream; piece < pieces; piece += streams) {
      co_await tile::load(Box{kBase + piece * kPieceBytes, 1, kPieceBytes, 0});
      co_await tile::load_wait(loads - 1);
    }
  }
  co_await tile::load_wait();
}

Program shared_loads(std::uint64_t bytes, std::uint32_t steps) {
  for (std::uint32_t i = 0; i < steps; ++i) co_await tile::shared_load(bytes);
}

Program products(unsigned n, bool a_in_registers, std::uint32_t steps) {
  for (std::uint32_t i = 0; i < steps; ++i) {
    co_await tile::wgmma(64, n, 16, a_in_registers);
    co_await tile::wgmma_wait(3);
  }
  co_await tile::wgmma_wait(0);
}

Program exponentials(std::uint64_t each, std::uint32_t steps) {
  for (std::uint32_t i = 0; i < steps; ++i) co_await tile::compute({.mufu = each});
}

/// One small tile after the other, each waited for: issue to the phase change seen.
Program tma_loads(std::uint64_t bytes, std::uint32_t tile_bytes, std::uint32_t steps) {
  const std::uint64_t tiles = bytes / tile_bytes;
  std::uint64_t at = 1;
  for (std::uint32_t i = 0; i < steps; ++i) {
    at = (at * 1664525 + 1013904223) % tiles;
    co_await tile::expect(0, tile_bytes);
    co_await tile::tma_load(Box{kBase + at * tile_bytes, 1, tile_bytes, 0}, 0);
    co_await tile::wait(0, i);
  }
}

/// One CTA of one role.
tile::LaunchShape one_cta(std::string name, std::uint32_t warps) {
  tile::LaunchShape shape{.name = std::move(name), .grid = 1};
  shape.registers_per_cta = warps * 32 * 32;
  shape.roles = {{"threads", warps}};
  return shape;
}

Microbench latency(const std::string& name, std::uint64_t bytes, bool warm, std::uint32_t steps) {
  Microbench m{.amount = static_cast<double>(steps)};
  m.kernel = std::make_unique<SimpleKernel>(one_cta(name, 1),
                                            [=](Cta, std::uint32_t) { return chase(bytes, steps); });
  if (warm) {
    m.warm_address = kBase;
    m.warm_bytes = bytes;
  }
  return m;
}

Microbench reading(const std::string& name, const GpuSpec& gpu, std::uint64_t bytes, std::uint32_t passes,
                   bool warm, std::int64_t in_flight_bytes) {
  const auto pieces = static_cast<std::uint32_t>(std::max<std::int64_t>(1, in_flight_bytes / kPieceBytes));
  const std::uint32_t roles = std::min(8U, pieces);
  const unsigned loads = std::max(1U, pieces / roles);
  tile::LaunchShape shape{.name = name, .grid = static_cast<std::uint32_t>(gpu.sms())};
  shape.registers_per_cta = static_cast<std::int64_t>(roles) * 128 * 32;
  shape.shared_bytes = gpu.sm.shared_bytes_per_cta;  // one CTA to an SM
  for (std::uint32_t r = 0; r < roles; ++r) shape.roles.push_back({fmt::format("reader{}", r), 4});
  const std::uint32_t streams = shape.grid * roles;
  Microbench m{
      .amount = static_cast<double>(bytes) * passes * 1e-9, .per = Microbench::Per::seconds, .inverse = true};
  m.kernel = std::make_unique<SimpleKernel>(std::move(shape), [=](Cta cta, std::uint32_t role) {
    return read_stream(bytes, passes, cta.index * roles + role, streams, loads);
  });
  if (warm) {
    m.warm_address = kBase;
    m.warm_bytes = bytes;
  }
  return m;
}

Microbench writing(const std::string& name, const GpuSpec& gpu, std::uint64_t bytes) {
  constexpr std::uint32_t kRoles = 5;  // of 128 threads
  tile::LaunchShape shape{.name = name, .grid = static_cast<std::uint32_t>(gpu.sms())};
  shape.registers_per_cta = std::int64_t{kRoles} * 128 * 32;
  shape.shared_bytes = gpu.sm.shared_bytes_per_cta;  // one CTA to an SM
  for (std::uint32_t r = 0; r < kRoles; ++r) shape.roles.push_back({fmt::format("writer{}", r), 4});
  const std::uint32_t streams = shape.grid * kRoles;
  Microbench m{.amount = static_cast<double>(bytes) * 1e-9, .per = Microbench::Per::seconds, .inverse = true};
  m.kernel = std::make_unique<SimpleKernel>(std::move(shape), [=](Cta cta, std::uint32_t role) {
    return write_stream(bytes, cta.index * kRoles + role, streams);
  });
  return m;
}

}  // namespace

const std::vector<MicrobenchKind>& microbench_kinds() {
  static const std::vector<MicrobenchKind> all{
      {"l1_latency", "cycles", "dependent loads of a warp that hit in the L1"},
      {"shared_latency", "cycles", "dependent shared-memory loads of a warp"},
      {"shared_bandwidth", "B/cycle/SM", "shared-memory loads of 16 warps"},
      {"l2_latency", "cycles", "pointer chase through 4 MiB in L2, both partitions"},
      {"l2_latency_near", "cycles", "the same, of a line in the near partition", 16, false},
      {"l2_latency_far", "cycles", "the same, of a line in the far partition", 16, true},
      {"hbm_latency", "cycles", "pointer chase through 256 MiB in HBM"},
      {"l2_read", "GB/s", "all SMs read 16 MiB in L2 over and over"},
      {"hbm_read", "GB/s", "all SMs read 256 MiB in HBM once"},
      {"hbm_write", "GB/s", "all SMs write 512 MiB"},
      {"tma_latency_l2", "cycles", "TMA load of 2 KiB in L2, issue to barrier"},
      {"tma_latency_hbm", "cycles", "TMA load of 2 KiB in HBM, issue to barrier"},
      {"wgmma_n64", "cycles", "wgmma m64n64k16 back to back, operands in shared memory"},
      {"wgmma_n128", "cycles", "wgmma m64n128k16 back to back, operands in shared memory"},
      {"wgmma_n256", "cycles", "wgmma m64n256k16 back to back, operands in shared memory"},
      {"wgmma_n64_rs", "cycles", "wgmma m64n64k16 back to back, A in registers"},
      {"wgmma_n256_rs", "cycles", "wgmma m64n256k16 back to back, A in registers"},
      {"mufu_rate", "results/cycle/SM", "exponentials of 16 warps"},
      {"launch_host", "us", "an empty kernel, launched from the host"},
      {"launch_graph", "us", "an empty kernel after another in a CUDA graph"},
  };
  return all;
}

Microbench make_microbench(const std::string& name, const GpuSpec& gpu, std::int64_t in_flight_bytes,
                           std::uint32_t variant) {
  constexpr std::uint64_t kMiB = 1 << 20;
  const bool needs_hopper = name.starts_with("wgmma") || name.starts_with("tma");
  if (needs_hopper && gpu.architecture != GpuArchitecture::hopper)
    throw std::invalid_argument{fmt::format("{}: needs a Hopper GPU", name)};
  if (name == "l2_latency") return latency(name, 4 * kMiB, true, 4000);
  if (name == "l2_latency_near" || name == "l2_latency_far") {
    constexpr std::uint32_t kSteps = 200;
    Microbench m{.amount = kSteps};
    m.kernel = std::make_unique<SimpleKernel>(
        one_cta(name, 1), [=](Cta, std::uint32_t) { return chase_line(std::uint64_t{variant} * 2, kSteps); });
    m.warm_address = kBase;
    m.warm_bytes = 4 * kMiB;
    return m;
  }
  if (name == "launch_host" || name == "launch_graph") {
    Microbench m{.amount = 1e-6,
                 .per = Microbench::Per::seconds,
                 .host_launch = name == "launch_host",
                 .with_launch = true};
    m.kernel = std::make_unique<SimpleKernel>(one_cta(name, 1), [](Cta, std::uint32_t) { return nothing(); });
    return m;
  }
  if (name == "l1_latency") {
    constexpr std::uint32_t kSteps = 1000;
    Microbench m{.amount = kSteps};
    m.kernel =
        std::make_unique<SimpleKernel>(one_cta(name, 1), [](Cta, std::uint32_t) { return l1_loads(kSteps); });
    return m;
  }
  if (name == "hbm_write") return writing(name, gpu, 512 * kMiB);
  if (name == "hbm_latency") return latency(name, 256 * kMiB, false, 4000);
  if (name == "l2_read") return reading(name, gpu, 16 * kMiB, 8, true, in_flight_bytes);
  if (name == "hbm_read") return reading(name, gpu, 256 * kMiB, 1, false, in_flight_bytes);
  if (name == "shared_latency" || name == "shared_bandwidth") {
    const bool rate = name == "shared_bandwidth";
    const std::uint64_t bytes = rate ? 65536 : 128;
    constexpr std::uint32_t kSteps = 1000;
    Microbench m{.amount = rate ? static_cast<double>(bytes) * kSteps : kSteps, .inverse = rate};
    m.kernel = std::make_unique<SimpleKernel>(
        one_cta(name, rate ? 16 : 1), [=](Cta, std::uint32_t) { return shared_loads(bytes, kSteps); });
    return m;
  }
  if (name.starts_with("tma_latency_")) {
    const bool warm = name == "tma_latency_l2";
    const std::uint64_t bytes = warm ? 4 * kMiB : 256 * kMiB;
    constexpr std::uint32_t kSteps = 2000;
    Microbench m{.amount = kSteps};
    tile::LaunchShape shape = one_cta(name, 1);
    shape.shared_bytes = 2048;
    shape.barriers = {{"full", 1}};
    m.kernel = std::make_unique<SimpleKernel>(
        std::move(shape), [=](Cta, std::uint32_t) { return tma_loads(bytes, 2048, kSteps); });
    if (warm) {
      m.warm_address = kBase;
      m.warm_bytes = bytes;
    }
    return m;
  }
  if (name.starts_with("wgmma_n")) {
    const bool rs = name.ends_with("_rs");
    const auto n = static_cast<unsigned>(std::stoul(name.substr(7)));
    constexpr std::uint32_t kSteps = 2000;
    Microbench m{.amount = kSteps};
    m.kernel = std::make_unique<SimpleKernel>(one_cta(name, 4),
                                              [=](Cta, std::uint32_t) { return products(n, rs, kSteps); });
    return m;
  }
  if (name == "mufu_rate") {
    constexpr std::uint64_t kEach = 65536;
    constexpr std::uint32_t kSteps = 100;
    Microbench m{.amount = static_cast<double>(kEach) * kSteps, .inverse = true};
    m.kernel = std::make_unique<SimpleKernel>(
        one_cta(name, 16), [=](Cta, std::uint32_t) { return exponentials(kEach, kSteps); });
    return m;
  }
  throw std::invalid_argument{fmt::format("no microbenchmark '{}'", name)};
}

}  // namespace tessera::kernels
