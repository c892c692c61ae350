#include "validate/replay.hpp"

#include <algorithm>
#include <cmath>
#include "kernels/gemm/gemm.hpp"
#include "kernels/gemm/estimate.hpp"
#include <numeric>

namespace tessera::validate {

std::vector<std::uint32_t> warm_after_replay(const models::Operator& op, const Conditions& conditions,
                                             std::int64_t l2_bytes) {
  const std::vector<models::Operand> operands = models::operands_of(op);
  std::int64_t run = 0;  // the bytes that one run touches
  for (const models::Operand& o : operands) run += o.bytes;
  std::vector<std::uint32_t> warm;
  for (std::uint32_t i = 0; i < operands.size(); ++i) {
    // Between two uses of one copy of the weights lie the runs with all the others; they share the rest.
    const bool in_turn = operands[i].role == "weights";
    const std::int64_t others =
        in_turn ? std::max(conditions.weights_in_turn - operands[i].bytes, std::int64_t{0}) : 0;
    if (run + others <= l2_bytes) warm.push_back(i);
  }
  return warm;
}

sim::KernelOptions options_of(const Measurement& row, const GpuSpec& gpu) {
  sim::KernelOptions options;
  options.graph = row.conditions.graph;
  options.random_data = row.conditions.random_data;
  options.replayed = !row.conditions.explicit_l2 || row.conditions.warm;
  if (!row.conditions.explicit_l2) {
    // Replays of one call find again what is clearly less than the L2 holds. Weights in turn are told apart by far more.
    const double share = row.conditions.weights_in_turn > 0 ? 1 : gpu.l2.reused_share;
    options.warm_operands = warm_after_replay(
        row.op, row.conditions, static_cast<std::int64_t>(share * static_cast<double>(gpu.l2.bytes)));
  } else if (row.conditions.warm) {
    options.warm_operands.resize(models::operands_of(row.op).size());
    std::iota(options.warm_operands.begin(), options.warm_operands.end(), 0U);
  }
  if (const auto* g = std::get_if<models::Gemm>(&row.op)) {
    const kernels::GemmTiling t = kernels::choose_gemm_tiling(*g, gpu);
    const double us = kernels::estimate_cycles(*g, gpu, t) / gpu.boost_clock_mhz + 1.5;
    const double flops = 2.0 * static_cast<double>(g->m) * static_cast<double>(g->n) * static_cast<double>(g->k);
    const double per = 1 + 0.0;
    const double loads = flops / t.tile_m / t.tile_n * (t.tile_m + t.tile_n), operands = flops / 64 / t.tile_n * (64 + t.tile_n);
    const double sm = flops * gpu.power.tensor_pj_per_flop * per + (loads + operands) * gpu.power.shared_pj_per_byte + loads * gpu.power.l2_pj_per_byte;
    const double mem = 2.0 * (double(g->m) * double(g->k) + double(g->n) * double(g->k) + double(g->m) * double(g->n)) * gpu.power.hbm_pj_per_byte * (options.warm_operands.size() > 1 ? 0 : 1);
    const double tensor_us = flops / (gpu.sm.tensor_flops_per_cycle * gpu.sms() * gpu.boost_clock_mhz);
    const double c = std::min(1.0, tensor_us / us * 1.1);
    double mhz = gpu.boost_clock_mhz;
    const auto watts = [&](double f) {
      const double time = us * (c * gpu.boost_clock_mhz / f + 1 - c);
      return gpu.power.idle_w + (sm * std::pow(f / gpu.boost_clock_mhz, gpu.power.voltage_exponent) + mem) / time * 1e-6;
    };
    while (mhz > gpu.power.min_clock_mhz && watts(mhz) > gpu.power.cap_w) mhz -= 15;
    options.start_clock_mhz = mhz;
  }
  return options;
}

}  // namespace tessera::validate
