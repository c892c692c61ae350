#pragma once
// The kinds of kernel that can be measured: their keys are those of `tessera kernel`, and some that choose a
// library.

#include <functional>
#include <string>
#include <vector>

#include "validate/measure/workload.hpp"

namespace tessera::measure {

/// What a workload may depend on of the GPU it is for.
struct Target {
  int compute_capability = 90;
  int sms = 132;
  std::int64_t l2_bytes = 50 << 20;
};

struct MeasuredKind {
  const char* name;
  std::vector<Key> keys;
  /// NotMeasured for a shape that the kernels do not take.
  std::function<Workload(const Arguments&, const Target&)> build;
  /// Small and odd shapes whose every element is checked before the first timing: the words after the kind.
  std::vector<std::string> checks;
  /// Keys that choose among kernels: checks that differ in one of these from what is timed are not run.
  std::vector<std::string> variants = {};
};

const std::vector<MeasuredKind>& measured_kinds();
const MeasuredKind& measured_kind(const std::string& name);  ///< std::invalid_argument with the nearest

// The families: a file each.
std::vector<MeasuredKind> dense_kinds();
std::vector<MeasuredKind> per_token_kinds();
std::vector<MeasuredKind> block_sparse_kinds();
std::vector<MeasuredKind> linear_kinds();
std::vector<MeasuredKind> latent_kinds();
std::vector<MeasuredKind> expert_kinds();
std::vector<MeasuredKind> microbench_kinds();

/// The workload of a request, common keys (dtype, data, l2, launch) applied. std::invalid_argument for bad
/// keys and impossible shapes; NotMeasured.
Workload build(const Request& request, const Target& target);
/// The checks to pass before `request` is timed.
std::vector<Request> checks_of(const Request& request);
/// std::invalid_argument for an unknown kind, bad keys, an impossible shape; not for one that is NotMeasured.
void require_measurable(const Request& request);

/// Takes every normal or uniform fill for the operand of `data=`: all zeros.
void zero_inputs(Workload& workload);

}  // namespace tessera::measure
