#pragma once
// How far a prediction may be off, from the held-out residuals of the calibration it stands on.

#include <string>
#include <vector>

#include "configs/reader/calibration.hpp"
#include "models/operators/operator.hpp"

namespace tessera::validate {

/// Below this many held-out rows of a kind, their spread is not known well enough to state.
inline constexpr std::size_t kFewestRows = 8;

enum class Standing {
  calibrated,
  outside,       ///< rows of the kind were held out, but not such ones: the error is at least the bar
  uncalibrated,  ///< nothing is known of the error
};
/// "calibrated", "outside the calibrated range", "uncalibrated"
std::string_view name_of(Standing standing);

/// With r = ln(simulated / measured) over the held-out rows of a kind, of mean b and standard deviation s:
/// sigma^2 = b^2 + s^2, and with about 95 % the real time lies within a factor exp(2 sigma) of the predicted
/// one.
struct ErrorBar {
  Standing standing = Standing::uncalibrated;
  std::string kind;
  double sigma = 0;
  config::HeldOut held_out;          ///< of the kind; count 0 if uncalibrated
  std::vector<std::string> reasons;  ///< why it is outside, or uncalibrated

  bool known() const { return standing != Standing::uncalibrated; }
  /// 100 (exp(2 sigma) - 1)
  double percent() const;
};

/// Of one kernel. `kind` as `tessera kernel` names it.
ErrorBar error_bar(const config::Calibration& calibration, const std::string& fidelity,
                   const models::Operator& op, bool graph, bool random_data);
/// Of a kind that is no operator: uncalibrated.
ErrorBar no_error_bar(const config::Calibration& calibration, const std::string& fidelity,
                      const std::string& kind);

/// "+- 12 % (95 %, from 30 gemm rows held out: MAPE 4.1 %, p90 9.9 %)", "uncalibrated: ...", and so on.
std::string text_of(const ErrorBar& bar);

/// A part of a run's critical path: `share` of it, with this bar.
struct PathShare {
  ErrorBar bar;
  double share = 0;
};

/// A run's bar. Errors of one kind are taken to be the same for all its kernels (the same shapes repeat),
/// those of different kinds to be independent: percent^2 = sum over kinds of (sum over its kernels of share *
/// percent)^2. What has no bar, the network among it, adds nothing, and its share is stated.
struct RunErrorBar {
  double percent = 0;  ///< of the run's latency; 0 if nothing has a bar
  double calibrated_share = 0, outside_share = 0, uncalibrated_share = 0;  ///< of the critical path
};
/// `kinds`: what is taken to err alike, such as kind and GPU; parallel to `parts`.
RunErrorBar combine(const std::vector<PathShare>& parts, const std::vector<std::string>& kinds);

}  // namespace tessera::validate
