#pragma once
// How long a step takes, from tables: steps of a grid of shapes are built and timed when first asked for, and
// interpolated between (docs/replay.md).
//
//   prefill(n, p): n new tokens of one prompt behind p cached ones
//   decode(b, c):  one token of each of b sequences with c cached tokens
//
// A step with both takes prefill(n + b, p') and the attention of decode(b, c), where p' keeps the number of
// (query, key) pairs of its prompts.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/system/machine.hpp"
#include "traces/serving/spec.hpp"
#include "traces/serving/step_time.hpp"
#include "traces/steps/kernel_prices.hpp"
#include "traces/steps/step_graph.hpp"

namespace tessera::traces {

/// One step of the grid, on every node.
struct TimedStep {
  double ns = 0;
  double attention_ns = 0;                         ///< of it, attention on the chain that determines ns
  std::vector<double> busy_ns, attention_busy_ns;  ///< by node
};

class StepTable : public StepTime {
 public:
  /// `machine` must outlive this.
  StepTable(ServedModel served, const sim::MachineSpec& machine, const ServingSpec& spec);
  StepTable(const StepTable&) = delete;
  StepTable& operator=(const StepTable&) = delete;

  std::int64_t ns(const StepShape& shape, std::uint32_t instance) override;

  /// Names of the machine's nodes, and the time that each was busy in the steps asked for by the instance.
  const std::vector<std::string>& nodes() const { return nodes_; }
  std::vector<double> busy_ns(std::uint32_t instance) const;

  /// Interpolated against built and timed, in the middle between the grid's steps that were used most.
  struct Error {
    int steps = 0;
    double mean_percent = 0,
           max_percent = 0;  ///< of absolute errors, weighted by how often the steps were used
  };
  Error interpolation_error(int steps);

  /// Times the `steps` grid steps that carry most of the time used so far by the cycle model, and scales all
  /// others by what that changed. Then forgets what was used.
  struct Funnel {
    int steps = 0;
    std::size_t kernels = 0;   ///< distinct ones simulated
    double share = 0;          ///< of the time used so far, in those steps
    double ratio = 1;          ///< cycle over cost, mean by that time
    double error_percent = 0;  ///< of a step by the others' ratio: mean, leaving it out, by that time
  };
  Funnel simulate_most_used(int steps, KernelPrices& cycle);

  std::size_t timed() const { return timed_; }
  std::size_t kernels() const { return cost_.distinct(); }

 private:
  /// A grid over two lengths, filled as needed.
  struct Grid {
    std::vector<std::int64_t> x, y;
    std::vector<TimedStep> steps;  // y-major
    std::vector<bool> known;
    std::function<models::TaskGraph(std::int64_t, std::int64_t)> build;
    std::vector<std::vector<double>> used,
        used_attention;  // by instance: weights of whole steps, of their attention
  };
  struct Corner {
    std::size_t at = 0;
    double weight = 0;
  };
  using Corners = std::array<Corner, 4>;
  struct Use {
    Grid* grid = nullptr;
    std::size_t at = 0;
    double weight = 0, ns = 0;
  };

  Corners corners(const Grid& grid, double x, double y, bool extrapolate) const;
  const TimedStep& step(Grid& grid, std::size_t at);
  TimedStep time(const models::TaskGraph& graph, KernelPrices& prices) const;
  static void scale(TimedStep& step, double by);
  double interpolated(Grid& grid, double x, double y);
  static void use(std::vector<std::vector<double>>& used, std::uint32_t instance, const Corners& corners);
  std::vector<Use> uses();

  models::Architecture model_;  // as served, but that learned positions go on: the grid's corners may lie
                                // beyond the longest request
  ServedModel served_;
  const sim::MachineSpec& machine_;
  KernelPrices cost_{KernelPrices::Model::cost};
  Grid prefill_, decode_;
  std::vector<std::string> nodes_;
  std::size_t timed_ = 0;
  double scale_ = 1;  // of entries still to be built
};

/// The cache memory of an instance, from the model's weights and activations. Throws std::invalid_argument if
/// the weights alone do not fit.
InstanceMemory instance_memory(const ServedModel& served, const sim::MachineSpec& machine,
                               const ServingSpec& spec);

}  // namespace tessera::traces
