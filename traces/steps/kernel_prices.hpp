#pragma once
// What kernels cost, remembered: by the cost model, or by the cycle model in worker processes.

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/cost/cost_model.hpp"
#include "sim/system/kernel_profile.hpp"

namespace tessera::traces {

class KernelPrices {
 public:
  enum class Model : std::uint8_t { cost, cycle };
  /// `jobs`: worker processes of the cycle model; 0: one per core.
  explicit KernelPrices(Model model, int jobs = 0, std::function<void(const sim::WorkDone&)> progress = {})
      : model_{model}, jobs_{jobs}, progress_{std::move(progress)} {}

  /// In order. Throws as sim::simulate_all. The GPUs must stay where they are.
  std::vector<sim::KernelResult> operator()(const std::vector<sim::KernelJob>& jobs);
  std::size_t distinct() const { return known_.size(); }

 private:
  std::vector<sim::KernelResult> priced(const std::vector<sim::KernelJob>& jobs);

  Model model_;
  int jobs_;
  std::function<void(const sim::WorkDone&)> progress_;
  std::unordered_map<std::string, sim::KernelResult> known_;
  std::map<const GpuSpec*, cost::CostModel> costs_;
};

}  // namespace tessera::traces
