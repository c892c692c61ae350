#pragma once
// The cost model: what an operator costs on a GPU, in closed form, from the demands of its tile programs. The
// equations are in docs/cost.md. Nothing is simulated but the programs of one SM's CTAs, a few trips of each,
// and those once for all kernels that differ only in how many trips, pieces and CTAs they have.

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/cost/makespan.hpp"
#include "models/cost/rates.hpp"
#include "models/cost/sm_run.hpp"
#include "models/operators/operator.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::cost {

/// How the operator is run; as sim::KernelOptions.
struct Conditions {
  bool graph = true;
  bool random_data = true;
  std::vector<std::uint32_t> warm_operands;
  bool replayed = false;
  std::uint32_t launches_before = 0, launches_counted = 0;
};

/// Shares of peak over the execution.
struct Utilization {
  double tensor = 0, fp32 = 0, mufu = 0, shared = 0, issue = 0, l2 = 0, hbm = 0;
};

struct Cost {
  double latency_us = 0;    ///< launch included: what back-to-back replay would measure
  double execution_us = 0;  ///< of it, between the first CTA's start and the last one's end
  double clock_mhz = 0;     ///< that the power cap leaves
  double flops = 0;
  std::string bottleneck;
  Utilization utilization;
  double l2_bytes = 0, hbm_read_bytes = 0, hbm_write_bytes = 0, l2_hit_rate = 0;
  double energy_j = 0;
  double operations = 0;              ///< tile operations that the programs would yield
  std::vector<std::string> kernels;   ///< names
  std::vector<double> executions_us;  ///< of each kernel
};

/// Not for several threads at a time: it remembers the demands that it has counted. Costs do not depend on
/// those.
class CostModel {
 public:
  explicit CostModel(const GpuSpec& gpu);
  CostModel(const CostModel&) = delete;
  CostModel& operator=(const CostModel&) = delete;

  /// Throws std::invalid_argument for a shape or dtype that no kernel supports.
  Cost cost(const models::Operator& op, const Conditions& conditions);

 private:
  /// Of one kernel, at the boost clock.
  struct Launch {
    double sm_cycles = 0;  ///< first CTA's start to the last one's end, if L2 and HBM had any bandwidth
    double ends_cycles =
        0;  ///< of these, what a CTA of one trip takes: fill and drain, beside which nothing streams
    double l2_us = 0, hbm_us = 0;  ///< what they need at least
    Figures total{};               ///< of all CTAs
    bool beside = false;
  };
  /// HBM bytes.
  struct Traffic {
    double read = 0, written = 0;
  };

  /// One SM's share: `ctas` CTAs that each do `pieces` pieces of that many trips, few enough to be counted.
  struct Share {
    std::uint32_t ctas, pieces, trips;
  };
  /// What the kernels of one key demand, by the share (of no pieces: the CTAs as they are) and whether its
  /// loads miss the L2.
  using Counted = std::unordered_map<std::uint64_t, Figures>;
  static std::uint64_t key_of(const Share& share, bool miss);

  /// All but hbm_us. `missing`: the share of loads that wait for HBM.
  Launch launch(const tile::Kernel& kernel, const tile::Outline& outline, double missing);
  Figures demand(const tile::Kernel& kernel, Counted& counted, const Share& share, double missing);
  const Figures& count(const tile::Kernel& kernel, Counted& counted, const Share& share, bool miss);
  double execution_us(const Launch& launch, double clock_mhz) const;

  GpuSpec gpu_;
  Rates rates_;
  SmRun run_;
  ListSchedule schedule_;
  std::vector<Batch> batches_;
  std::unordered_map<std::string, Counted> counted_;  // by the outline's key
};

}  // namespace tessera::cost
