#include "validate/error_bar.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "validate/traits.hpp"

namespace tessera::validate {

namespace {

/// The calibration at this fidelity, or why there is none.
const config::FidelityCalibration* usable(const config::Calibration& c, const std::string& fidelity,
                                          std::vector<std::string>& reasons) {
  if (c.fidelities.empty()) {
    reasons.emplace_back("the hardware file was never calibrated");
  } else if (c.stale) {
    reasons.emplace_back("the hardware was changed since it was calibrated");
  } else if (const auto at = c.fidelities.find(fidelity); at != c.fidelities.end()) {
    return &at->second;
  } else {
    reasons.push_back(fmt::format("calibrated at --fidelity {} only", c.fidelities.begin()->first));
  }
  return nullptr;
}

void check_range(const char* what, double x, const config::Range& range, std::vector<std::string>& reasons) {
  if (range.holds(x)) return;
  reasons.push_back(fmt::format("{} {:.3g} is {} {:.3g}", what, x, x < range.least ? "below" : "above",
                                x < range.least ? range.least : range.most));
}

/// As measured rows name it: an absorbed prefill is the operator of a decode step.
std::string measured_kind(const models::Operator& op) {
  const auto* latent = std::get_if<models::LatentDecode>(&op);
  if (latent != nullptr && latent->q_rows > 1 && latent->q_rows == latent->context) return "mla_prefill";
  return std::string{models::kind_of(op)};
}

}  // namespace

std::string_view name_of(Standing standing) {
  return standing == Standing::calibrated ? "calibrated"
         : standing == Standing::outside  ? "outside the calibrated range"
                                          : "uncalibrated";
}

double ErrorBar::percent() const { return 100 * std::expm1(2 * sigma); }

ErrorBar no_error_bar(const config::Calibration& calibration, const std::string& fidelity,
                      const std::string& kind) {
  ErrorBar bar{.kind = kind};
  if (usable(calibration, fidelity, bar.reasons) != nullptr)
    bar.reasons.push_back(fmt::format("no {} rows in the calibration", kind));
  return bar;
}

ErrorBar error_bar(const config::Calibration& calibration, const std::string& fidelity,
                   const models::Operator& op, bool graph, bool random_data) {
  ErrorBar bar{.kind = measured_kind(op)};
  const config::FidelityCalibration* at = usable(calibration, fidelity, bar.reasons);
  if (at == nullptr) return bar;
  const auto found = at->kinds.find(bar.kind);
  if (found == at->kinds.end()) return no_error_bar(calibration, fidelity, bar.kind);
  const config::KindCalibration& kind = found->second;
  if (kind.held_out.count < kFewestRows) {
    bar.reasons.push_back(fmt::format("only {} {} rows in the calibration, and a spread needs {}",
                                      kind.held_out.count, bar.kind, kFewestRows));
    return bar;
  }
  bar.held_out = kind.held_out;
  bar.sigma = std::hypot(kind.held_out.log_mean, kind.held_out.log_sd);
  check_range("FLOPs", models::flops_of(op), kind.flops, bar.reasons);
  check_range("bytes", static_cast<double>(models::min_bytes_of(op)), kind.bytes, bar.reasons);
  for (const auto& [trait, value] : traits_of(op, graph, random_data)) {
    const auto seen = kind.traits.find(trait);
    if (seen == kind.traits.end() ||
        std::find(seen->second.begin(), seen->second.end(), value) == seen->second.end())
      bar.reasons.push_back(fmt::format("no row with {}={}", trait, value));
  }
  bar.standing = bar.reasons.empty() ? Standing::calibrated : Standing::outside;
  return bar;
}

std::string text_of(const ErrorBar& bar) {
  if (bar.standing == Standing::uncalibrated)
    return fmt::format("uncalibrated: the error is not known ({})", fmt::join(bar.reasons, "; "));
  const std::string rows = fmt::format("{} {} rows held out: MAPE {:.1f} %, p90 {:.1f} %", bar.held_out.count,
                                       bar.kind, bar.held_out.mape_percent, bar.held_out.p90_ape_percent);
  if (bar.standing == Standing::outside)
    return fmt::format("outside the calibrated range ({}): +- {:.2g} % or more ({})",
                       fmt::join(bar.reasons, "; "), bar.percent(), rows);
  return fmt::format("+- {:.2g} % (95 %, from {})", bar.percent(), rows);
}

RunErrorBar combine(const std::vector<PathShare>& parts, const std::vector<std::string>& kinds) {
  RunErrorBar run;
  std::map<std::string, double> by_kind;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const PathShare& part = parts[i];
    (part.bar.standing == Standing::calibrated ? run.calibrated_share
     : part.bar.standing == Standing::outside  ? run.outside_share
                                               : run.uncalibrated_share) += part.share;
    if (part.bar.known()) by_kind[kinds[i]] += part.share * part.bar.percent();
  }
  double squares = 0;
  for (const auto& [kind, percent] : by_kind) squares += percent * percent;
  run.percent = std::sqrt(squares);
  return run;
}

}  // namespace tessera::validate
