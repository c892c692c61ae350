#include "kernels/gemm/estimate.hpp"

#include <algorithm>
#include <cmath>

namespace tessera::kernels {

namespace {

double ceil_div(std::int64_t a, std::int64_t b) { return static_cast<double>((a + b - 1) / b); }

}  // namespace

double estimate_cycles(const models::Gemm& g, const GpuSpec& gpu, const GemmTiling& t) {
  const double element = models::bytes_of(g.dtype);
  const std::int64_t rows = t.transposed ? g.n : g.m, cols = t.transposed ? g.m : g.n;
  const double tile_rows = std::min<double>(t.tile_m, static_cast<double>(rows));  // rows that are really loaded
  const double tile_cols = std::min<double>(t.tile_n, static_cast<double>(cols));
  const double tiles = ceil_div(rows, std::int64_t{t.tile_m} * t.cluster) * t.cluster * ceil_div(cols, t.tile_n);
  const double units = tiles * t.split_k;
  double slots = 0;  // CTAs at a time: one to an SM, clusters within a GPC
  for (const int sms : gpu.gpc_sms) slots += sms / static_cast<int>(t.cluster) * static_cast<int>(t.cluster);
  const double busy = std::min(units, slots);
  const double waves = std::ceil(units / slots);
  const double k_steps = ceil_div(g.k, t.tile_k), steps = std::ceil(k_steps / t.split_k);

  // One k-step of one CTA: the most loaded of tensor cores, shared memory, its crossbar port, and its share of L2.
  const double consumers = t.tile_m / 64.0;
  const double x_bytes = tile_rows * t.tile_k * element, y_bytes = tile_cols * t.tile_k * element;
  const double tensor = 2.0 * t.tile_m * t.tile_n * t.tile_k / gpu.sm.tensor_flops_per_cycle;
  const double operands = consumers * (64.0 + t.tile_n) * t.tile_k * element;
  const double shared = operands / gpu.sm.shared_bytes_per_cycle;
  const double l2_bytes_per_cycle = static_cast<double>(gpu.gpc_sms.size()) * gpu.l2.gpc_bytes_per_cycle *
                                    gpu.l2.clock_mhz / gpu.boost_clock_mhz;
  const double asked = x_bytes + y_bytes / t.cluster;
  const double l2 = std::max((x_bytes + y_bytes) / gpu.sm.ingress_bytes_per_cycle, asked * busy / l2_bytes_per_cycle);
  // The ring of stages hides the latency of L2 and HBM up to the bytes it holds.
  const double hbm_latency = (gpu.hbm.l2_to_hbm_ns + gpu.hbm.hbm_to_l2_ns + gpu.hbm.trcd_rd_ns + gpu.hbm.tcl_ns + 20) *
                             gpu.boost_clock_mhz * 1e-3;
  const double load_latency =
      gpu.sm.tma_issue_latency + gpu.l2.hit_latency + hbm_latency + gpu.sm.tma_completion_latency;
  const double ring = load_latency / t.stages;
  const double step = std::max({tensor, shared, l2, ring});
  // What a lone warpgroup does between its products is not hidden behind another's.
  const double gap = consumers < 2 ? gpu.sm.mbarrier_latency + gpu.sm.tensor_latency : 0;

  const double out_bytes = t.split_k > 1 ? 4 : element;
  const double write_bytes_per_cycle = static_cast<double>(gpu.gpc_sms.size()) * gpu.l2.gpc_write_bytes_per_cycle *
                                       gpu.l2.clock_mhz / gpu.boost_clock_mhz;
  const double tile_out = tile_rows * tile_cols * out_bytes;
  const double epilogue =
      300 + tile_out * (2 / gpu.sm.shared_bytes_per_cycle + 1 / gpu.sm.egress_bytes_per_cycle);
  double cycles = 400 + load_latency + waves * (steps * (step + gap) + epilogue);

  // All output goes through the crossbar's ports, beside everything else.
  cycles = std::max(cycles, 400 + load_latency + out_bytes * static_cast<double>(g.m) * static_cast<double>(g.n) *
                                                     t.split_k / write_bytes_per_cycle);
  // Every byte crosses HBM at least once, the output only if it does not fit in the L2.
  const double hbm_bytes_per_cycle = gpu.hbm.stacks * gpu.hbm.channels_per_stack * gpu.hbm.pseudo_channels *
                                     gpu.hbm.pins_per_pseudo_channel * gpu.hbm.pin_gbps / 8 * 1e3 /
                                     gpu.boost_clock_mhz;
  const double m = static_cast<double>(g.m), n = static_cast<double>(g.n), k = static_cast<double>(g.k);
  const double in = element * (m * k + n * k), out = element * m * n;
  const double least = in + (out > static_cast<double>(gpu.l2.bytes) / 2 ? out : 0);
  // Refreshes of all banks stop everything; opening and closing rows, and turning the bus, cost a little more.
  const double refreshing =
      gpu.hbm.per_bank_refresh ? 0 : (gpu.hbm.trfc_ab_ns + gpu.hbm.trp_ns + gpu.hbm.trcd_rd_ns) / gpu.hbm.trefi_ns;
  cycles = std::max(cycles, 400 + load_latency + epilogue + least / (0.97 * (1 - refreshing) * hbm_bytes_per_cycle));
  if (t.split_k > 1) {
    const double launch =
        (gpu.launch.graph_launch_us + gpu.launch.first_instruction_us + gpu.launch.completion_us) *
        gpu.boost_clock_mhz;
    cycles += launch + 2 * gpu.l2.hit_latency + 4 * m * n * t.split_k / (0.5 * l2_bytes_per_cycle);
  }
  return cycles;
}

}  // namespace tessera::kernels
