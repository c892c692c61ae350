#include "cli/measured_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/kernel_arguments.hpp"
#include "configs/reader/document.hpp"
#include "validate/read.hpp"
#include "validate/sample.hpp"

namespace tessera::cli {

namespace {

/// `tessera kernel`'s words, for rows of JSON lines.
validate::Measurement parse_row(const std::string& kind,
                                const std::vector<std::pair<std::string, std::string>>& arguments) {
  std::vector<std::string> words;
  bool explicit_l2 = false;
  for (const auto& [key, value] : arguments) {
    words.push_back(key + "=" + value);
    explicit_l2 |= key == "l2";
  }
  if (kind == "microbench")
    throw std::domain_error{"a figure, not a kernel: `tessera validate --published` compares such"};
  if (is_later_kind(kind)) throw std::domain_error{"this build does not simulate the kind"};
  try {
    const KernelRequest request = parse_kernel(kind, words);
    if (request.hbm_stream) throw std::domain_error{"drives the HBM alone"};
    validate::Measurement row;
    row.kind = request.kind;
    row.arguments = arguments;
    row.op = request.op;
    row.conditions.graph = request.options.graph;
    row.conditions.random_data = request.options.random_data;
    row.conditions.explicit_l2 = explicit_l2;
    row.conditions.warm = !request.options.warm_operands.empty();
    return row;
  } catch (const UsageError& e) {
    throw std::invalid_argument{e.what()};
  }
}

/// Leaves only the kinds asked for. A kind that no file has is an error, with the nearest that one has.
void keep_kinds(validate::Measurements& measurements, const std::vector<std::string>& kinds) {
  if (kinds.empty()) return;
  std::set<std::string> there;
  for (const auto& row : measurements.rows) there.insert(row.kind);
  for (const auto& skipped : measurements.skipped) there.insert(skipped.kind);
  for (const std::string& kind : kinds) {
    if (there.contains(kind)) continue;
    const std::vector<std::string> names{there.begin(), there.end()};
    const std::string near = config::nearest(kind, names);
    throw UsageError{fmt::format("--kinds: no row is of kind '{}'; {}", kind,
                                 near.empty() ? fmt::format("there is: {}", fmt::join(names, ", "))
                                              : fmt::format("did you mean '{}'?", near))};
  }
  const auto unwanted = [&](const auto& item) {
    return std::find(kinds.begin(), kinds.end(), item.kind) == kinds.end();
  };
  std::erase_if(measurements.rows, unwanted);
  std::erase_if(measurements.skipped, unwanted);
}

/// A tolerance that nothing was held against would always be met.
void require_rows(const validate::Measurements& measurements) {
  if (!measurements.rows.empty()) return;
  std::size_t count = 0;
  for (const auto& skipped : measurements.skipped) count += skipped.count;
  const auto& all = measurements.skipped;
  throw UsageError{fmt::format(
      "no row to compare{}",
      all.empty() ? "" : fmt::format("; {} left out, {}: {}", count, all.front().kind, all.front().reason))};
}

}  // namespace

validate::Measurements read_rows(const std::vector<std::filesystem::path>& paths, const RowChoice& choice) {
  validate::Measurements measurements = validate::read_measurements(paths, parse_row);
  keep_kinds(measurements, choice.kinds);
  if (choice.max_ms > 0) validate::leave_out_longer(measurements, choice.max_ms * 1e3);
  require_rows(measurements);
  if (choice.sample > 0) validate::sample(measurements.rows, choice.sample, choice.seed);
  return measurements;
}

}  // namespace tessera::cli
