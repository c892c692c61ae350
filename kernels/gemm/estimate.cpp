#include "kernels/gemm/estimate.hpp"

#include <algorithm>
#include <bit>

#include "kernels/gemm/gemm_ampere.hpp"
#include "models/cost/rates.hpp"

namespace tessera::kernels {

namespace {

constexpr double kPrologue = 400;
constexpr double kBelow = 1 - 1e-9;  // a bound of what is summed in another order
/// What takes longest, `most`, hides the rest, except where two of them take about as long: the norm with
/// exponent 6, about, that the cost model has (docs/cost.md).
double together(double a, double b, double c, double most) {
  const auto sixth = [&](double x) {
    const double square = x / most * (x / most);
    return square * square * square;
  };
  return most * (1 + 0.1225 * (sixth(a) + sixth(b) + sixth(c) - 1));
}
double ceil_div(std::int64_t a, std::int64_t b) { return static_cast<double>((a + b - 1) / b); }
/// std::ceil of what is not negative, without a call.
double ceil_of(double x) {
  if (x >= 0x1p53) return x;
  const auto whole = static_cast<double>(static_cast<std::int64_t>(x));
  return whole < x ? whole + 1 : whole;
}

}  // namespace

GemmEstimate::GemmEstimate(const models::Gemm& g, const GpuSpec& gpu)
    : gemm_{g},
      sm_{gpu.sm},
      element_{static_cast<double>(models::bytes_of(g.dtype))},
      m_{static_cast<double>(g.m)},
      n_{static_cast<double>(g.n)},
      k_{static_cast<double>(g.k)} {
  const cost::Rates rates{gpu};
  const double mhz = gpu.boost_clock_mhz, ports = static_cast<double>(gpu.gpc_sms.size());
  for (int i = 0; i < 4; ++i)
    for (const int sms : gpu.gpc_sms) slots_[i + 1] += sms >> i << i;
  l2_bytes_per_cycle_ = ports * rates.gpc_read / mhz;
  write_bytes_per_cycle_ = ports * rates.gpc_write / mhz;
  l2_hit_ = gpu.l2.hit_latency;
  // 20 ns of queues and bursts.
  load_latency_ =
      gpu.sm.tma_issue_latency + gpu.l2.hit_latency + gpu.sm.tma_completion_latency +
      (gpu.hbm.l2_to_hbm_ns + gpu.hbm.hbm_to_l2_ns + gpu.hbm.trcd_rd_ns + gpu.hbm.tcl_ns + 20) * mhz * 1e-3;
  // Every byte crosses HBM at least once, the output only if it does not fit in the L2. Opening and closing
  // rows, and turning the bus, cost a little more than refreshes.
  const double in = element_ * (m_ * k_ + n_ * k_), out = element_ * m_ * n_;
  const double least = in + (out > static_cast<double>(gpu.l2.bytes) / 2 ? out : 0);
  const double refreshing =
      gpu.hbm.per_bank_refresh
          ? 0
          : (gpu.hbm.trfc_ab_ns + gpu.hbm.trp_ns + gpu.hbm.trcd_rd_ns) / gpu.hbm.trefi_ns;
  hbm_cycles_ = least / (0.97 * (1 - refreshing) * rates.hbm_peak / mhz);
  reduce_launch_ =
      (gpu.launch.graph_launch_us + gpu.launch.first_instruction_us + gpu.launch.completion_us) * mhz;
  epilogue_per_byte_ = 2 / gpu.sm.shared_bytes_per_cycle + 1 / gpu.sm.egress_bytes_per_cycle;
  write_cycles_ = out / write_bytes_per_cycle_;
}

GemmEstimate::Cta GemmEstimate::cta(const GemmTiling& t) const {
  const std::int64_t rows = t.transposed ? gemm_.n : gemm_.m, cols = t.transposed ? gemm_.m : gemm_.n;
  const double tile_rows =
      std::min<double>(t.tile_m, static_cast<double>(rows));  // rows that are really loaded
  const double tile_cols = std::min<double>(t.tile_n, static_cast<double>(cols));
  Cta c{.row_tiles = ceil_div(rows, t.tile_m),
        .col_tiles = ceil_div(cols, t.tile_n),
        .k_steps = ceil_div(gemm_.k, t.tile_k),
        .x_bytes = tile_rows * t.tile_k * element_,
        .y_bytes = tile_cols * t.tile_k * element_,
        .tile_out = tile_rows * tile_cols};
  // One k-step of one CTA: the most loaded of tensor cores, shared memory and its crossbar port.
  const double consumers = t.tile_m / 64.0;
  const double tensor = 2.0 * t.tile_m * t.tile_n * t.tile_k / sm_.tensor_flops_per_cycle;
  const double shared_rows =
      sm_.has_tma ? consumers * (64.0 + t.tile_n) : static_cast<double>(GemmAmpere::fragment_rows(t));
  const double shared = shared_rows * t.tile_k * element_ / sm_.shared_bytes_per_cycle;
  const double port = (c.x_bytes + c.y_bytes) / sm_.ingress_bytes_per_cycle;
  c.busy = std::max({tensor, shared, port});
  // The ring of stages hides the latency of L2 and HBM up to the bytes it holds; in a cluster a stage falls
  // free when the last of its readers says so.
  c.wait = load_latency_ / t.stages;
  c.wait_clustered = (load_latency_ + sm_.dsmem_latency) / t.stages;
  // What a lone warpgroup does between its products is not hidden behind another's.
  c.gap = consumers < 2 ? sm_.mbarrier_latency + sm_.tensor_latency + 12 : 0;
  return c;
}

GemmEstimate::Tile GemmEstimate::tile(const Cta& c, const GemmTiling& t) const {
  const bool clustered = t.cluster_ctas() > 1;
  const auto clusters = [](double tiles, std::uint32_t size) {
    return size == 1 ? tiles : ceil_of(tiles / size);
  };
  Tile s{.tiles = clusters(c.row_tiles, t.cluster) * clusters(c.col_tiles, t.cluster_cols) * t.cluster_ctas(),
         .slots = slots_[std::bit_width(t.cluster_ctas())],
         .step = std::max(c.busy, clustered ? c.wait_clustered : c.wait),
         .gap = c.gap,
         .step_bytes = c.x_bytes / t.cluster_cols + c.y_bytes / t.cluster,
         .k_steps = c.k_steps,
         .tile_out = c.tile_out};
  // The CTAs of a cluster meet at the start and at the end.
  s.fill = kPrologue + load_latency_ + (clustered ? 2 * sm_.dsmem_latency : 0);
  // Perfect balance over all slots.
  const double steps = s.tiles * s.k_steps, sm = steps * (s.step + s.gap) / s.slots,
               l2 = s.step_bytes * steps / l2_bytes_per_cycle_;
  s.waits_for_l2 = l2 > std::max(sm, hbm_cycles_);
  s.epilogue = epilogue(c.tile_out, element_);
  const double rest =
      kBelow * std::max({sm + s.epilogue * s.tiles / s.slots, write_cycles_, hbm_cycles_ + s.epilogue});
  s.least = s.fill + std::max(kBelow * l2, rest);
  s.least_clustered = s.fill + rest;
  return s;
}

double GemmEstimate::cycles(const Tile& s, std::uint32_t split_k, double limit) const {
  const double split = split_k;
  const double units = s.tiles * split, waves = ceil_of(units / s.slots),
               steps = split_k > 1 ? ceil_of(s.k_steps / split) : s.k_steps;
  const double out_bytes = split_k > 1 ? 4 : element_;
  const double ends = split_k > 1 ? epilogue(s.tile_out, out_bytes) : s.epilogue;
  const double sm = waves * (steps * (s.step + s.gap) + ends);
  // The CTAs that run share the L2's bandwidth; all output goes through the crossbar's ports.
  const double l2 = std::max(waves * steps * s.step_bytes * std::min(units, s.slots) / l2_bytes_per_cycle_,
                             out_bytes * m_ * n_ * split / write_bytes_per_cycle_);
  const double hbm = hbm_cycles_ + ends, most = std::max({sm, l2, hbm});
  const double reduction =
      split_k > 1 ? reduce_launch_ + 2 * l2_hit_ + 4 * m_ * n_ * split / (0.5 * l2_bytes_per_cycle_) : 0;
  if (const double least = s.fill + most + reduction; least >= limit) return least;
  return s.fill + together(sm, l2, hbm, most) + reduction;
}

double estimate_cycles(const models::Gemm& gemm, const GpuSpec& gpu, const GemmTiling& tiling) {
  const GemmEstimate estimate{gemm, gpu};
  return estimate.cycles(estimate.tile(estimate.cta(tiling), tiling), tiling.split_k);
}

}  // namespace tessera::kernels
