#include "validate/calibration_record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "validate/statistics.hpp"
#include "validate/traits.hpp"

namespace tessera::validate {

namespace {

void widen(config::Range& range, double x, bool first) {
  range.least = first ? x : std::min(range.least, x);
  range.most = first ? x : std::max(range.most, x);
}

}  // namespace

config::HeldOut held_out_of(const std::vector<const Compared*>& rows) {
  const Errors e = errors_of(rows);
  config::HeldOut h{.count = e.count,
                    .mape_percent = e.mape_percent,
                    .median_ape_percent = e.median_ape_percent,
                    .p90_ape_percent = e.p90_ape_percent,
                    .max_ape_percent = e.max_ape_percent,
                    .bias_percent = e.bias_percent};
  const auto n = static_cast<double>(rows.size());
  for (const Compared* c : rows) h.log_mean += std::log(c->predicted_us / c->row.measured_us) / n;
  double squares = 0;
  for (const Compared* c : rows) {
    const double d = std::log(c->predicted_us / c->row.measured_us) - h.log_mean;
    squares += d * d;
  }
  h.log_sd = n > 1 ? std::sqrt(squares / (n - 1)) : 0;
  return h;
}

config::FidelityCalibration record_of(const Comparison& held_out) {
  config::FidelityCalibration record{.rows_hash = rows_hash(held_out)};
  for (const Group& file : by_file(held_out))
    record.files.emplace_back(file.rows.front()->row.file.filename().string(), file.rows.size());
  for (const Group& group : by_kind(held_out)) {
    config::KindCalibration kind{.held_out = held_out_of(group.rows)};
    std::map<std::string, std::set<std::string>> traits;
    bool first = true;
    for (const Compared* c : group.rows) {
      widen(kind.flops, models::flops_of(c->row.op), first);
      widen(kind.bytes, static_cast<double>(models::min_bytes_of(c->row.op)), first);
      widen(kind.latency_us, c->row.measured_us, first);
      first = false;
      for (const auto& [trait, value] :
           traits_of(c->row.op, c->row.conditions.graph, c->row.conditions.random_data))
        traits[trait].insert(value);
    }
    for (const auto& [trait, values] : traits) kind.traits[trait] = {values.begin(), values.end()};
    record.kinds[group.name] = std::move(kind);
  }
  for (const Group& group : quoted_groups(held_out)) record.groups[group.name] = held_out_of(group.rows);
  return record;
}

std::string rows_hash(const Comparison& comparison) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const Compared& c : comparison.rows) {
    const Conditions& k = c.row.conditions;
    const std::string text =
        fmt::format("{} {} {} {} {} {} {} {} {} {} {} {};", c.row.kind, models::signature_of(c.row.op),
                    k.timing == Timing::device, k.graph, k.random_data, k.weights_in_turn, k.explicit_l2,
                    k.warm, k.replays_before, k.replays_timed, k.calls_in_replay, c.row.measured_us);
    for (const char ch : text) hash = (hash ^ static_cast<unsigned char>(ch)) * 0x100000001b3ULL;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace tessera::validate
