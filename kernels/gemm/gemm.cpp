#include "kernels/gemm/gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "kernels/gemm/gemm_ampere.hpp"
#include "kernels/gemm/gemm_hopper.hpp"
#include "kernels/gemm/split_k_reduce.hpp"

namespace tessera::kernels {

namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Estimated SM cycles of the whole GEMM.
double estimate(const models::Gemm& g, const GpuSpec& gpu, const GemmTiling& t) {
  const double element = models::bytes_of(g.dtype);
  const double sms = gpu.sms();
  const std::int64_t tiles =
      ceil_div(g.m, std::int64_t{t.tile_m} * t.cluster) * t.cluster * ceil_div(g.n, t.tile_n);
  const double resident = std::min<double>(static_cast<double>(tiles * t.split_k), sms);
  const double a = t.tile_m * t.tile_k * element, w = t.tile_n * t.tile_k * element;
  const double tensor = 2.0 * t.tile_m * t.tile_n * t.tile_k / gpu.sm.tensor_flops_per_cycle;
  const double consumers = t.tile_m / 64.0;
  const double shared = (a + consumers * w + a + w) / gpu.sm.shared_bytes_per_cycle;
  const double l2_bytes_per_cycle = static_cast<double>(gpu.gpc_sms.size()) * gpu.l2.gpc_bytes_per_cycle *
                                    gpu.l2.clock_mhz / gpu.boost_clock_mhz;
  const double l2 = (a + w / t.cluster) * resident / l2_bytes_per_cycle;
  // A lone consumer warpgroup cannot hide its waits behind the other's wgmma.
  const double step = std::max({tensor, shared, l2}) + (consumers < 2 ? 40 : 0);
  const double k_steps = static_cast<double>(ceil_div(ceil_div(g.k, t.tile_k), t.split_k));
  const double epilogue = 600 + t.tile_m * t.tile_n / 64.0;
  const double waves = static_cast<double>(ceil_div(tiles * t.split_k, static_cast<std::int64_t>(sms)));
  double cycles = 1200 + waves * (k_steps * step + epilogue);
  // Every byte of A, W and C crosses HBM at least once.
  const double hbm_bytes_per_cycle = gpu.hbm.stacks * gpu.hbm.channels_per_stack * gpu.hbm.pseudo_channels *
                                     gpu.hbm.pins_per_pseudo_channel * gpu.hbm.pin_gbps / 8 * 1e3 /
                                     gpu.boost_clock_mhz;
  const double least_bytes = element * (static_cast<double>(g.m * g.k) + static_cast<double>(g.n * g.k) +
                                        static_cast<double>(g.m * g.n));
  cycles = std::max(cycles, least_bytes / (0.9 * hbm_bytes_per_cycle));
  if (t.split_k > 1) {
    const double launch =
        (gpu.launch.graph_launch_us + gpu.launch.first_instruction_us + gpu.launch.completion_us) *
        gpu.boost_clock_mhz;
    cycles += launch + 4.0 * static_cast<double>(g.m * g.n) * t.split_k * 2 / (0.7 * l2_bytes_per_cycle);
  }
  return cycles;
}

}  // namespace

GemmTiling choose_gemm_tiling(const models::Gemm& g, const GpuSpec& gpu) {
  const bool hopper = gpu.architecture == GpuArchitecture::hopper;
  GemmTiling best;
  double best_cycles = 0;
  for (const std::uint32_t tile_m : {64U, 128U}) {
    for (const std::uint32_t tile_n : {64U, 128U, 192U, 256U}) {
      for (const std::uint32_t cluster : {1U, 2U}) {
        for (const std::uint32_t split : {1U, 2U, 4U, 8U, 16U}) {
          if (!hopper && (cluster > 1 || tile_n == 192 || tile_m == 64)) continue;
          if (cluster > 1 && g.m <= tile_m) continue;
          GemmTiling t{.tile_m = tile_m,
                       .tile_n = tile_n,
                       .tile_k = hopper ? 64U : 32U,
                       .cluster = cluster,
                       .split_k = split};
          if (split > 1 && g.k < std::int64_t{split} * t.tile_k * 4) continue;
          const std::int64_t stage = std::int64_t{tile_m + tile_n} * t.tile_k * models::bytes_of(g.dtype);
          const std::int64_t room =
              gpu.sm.shared_bytes_per_cta - (hopper ? std::int64_t{tile_m} * 256 : 0) - 1024;
          t.stages = static_cast<std::uint32_t>(std::min<std::int64_t>(8, room / stage));
          const double cycles = estimate(g, gpu, t);
          if (best_cycles == 0 || cycles < best_cycles) {
            best_cycles = cycles;
            best = t;
          }
        }
      }
    }
  }
  return best;
}

std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses) {
  return make_gemm(gemm, gpu, addresses, choose_gemm_tiling(gemm, gpu));
}

std::vector<std::unique_ptr<tile::Kernel>> make_gemm(const models::Gemm& gemm, const GpuSpec& gpu,
                                                     const Addresses& addresses, const GemmTiling& tiling) {
  if (gemm.dtype != models::Dtype::bf16 && gemm.dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("gemm: dtype {} has no tile program; use bf16 or fp16", models::name_of(gemm.dtype))};
  }
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  if (gpu.sm.has_tma) {
    kernels.push_back(std::make_unique<GemmHopper>(gemm, tiling, gpu, addresses));
  } else {
    kernels.push_back(std::make_unique<GemmAmpere>(gemm, tiling, gpu, addresses));
  }
  if (tiling.split_k > 1)
    kernels.push_back(std::make_unique<SplitKReduce>(gemm, tiling.split_k, gpu, addresses));
  return kernels;
}

}  // namespace tessera::kernels
