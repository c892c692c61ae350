#pragma once
// What kernels cost, remembered: by the cost model, or by the cycle model in worker processes.

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/cost/cost_model.hpp"
#include "sim/system/kernel_profile.hpp"
#include "traces/steps/kernel_memo.hpp"

namespace tessera::traces {

class KernelPrices {
 public:
  enum class Model : std::uint8_t { cost, cycle };
  /// `jobs`: worker processes of the cycle model; 0: one per core.
  explicit KernelPrices(Model model, int jobs = 0, std::function<void(const sim::WorkDone&)> progress = {})
      : model_{model}, jobs_{jobs}, progress_{std::move(progress)} {}

  /// Looks here before it simulates, and keeps here what it did. `memo` must outlive this; `comp`: the GPU
  /// that the memo knows as "comp", all others are "attn".
  void remember_in(KernelMemo& memo, const GpuSpec& comp) {
    memo_ = &memo;
    comp_ = &comp;
  }

  /// In order. Throws as sim::simulate_all. The GPUs must stay where they are.
  std::vector<sim::KernelResult> operator()(const std::vector<sim::KernelJob>& jobs);
  std::size_t distinct() const { return known_.size(); }

 private:
  std::vector<sim::KernelResult> priced(const std::vector<sim::KernelJob>& jobs);

  std::string memo_key(const sim::KernelJob& job) const;

  Model model_;
  int jobs_;
  std::function<void(const sim::WorkDone&)> progress_;
  std::unordered_map<std::string, sim::KernelResult> known_;
  std::map<const GpuSpec*, cost::CostModel> costs_;
  KernelMemo* memo_ = nullptr;
  const GpuSpec* comp_ = nullptr;
};

}  // namespace tessera::traces
