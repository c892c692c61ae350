#pragma once
// Errors of a set of rows, summed up; and the sets that people quote.

#include <string>
#include <utility>
#include <vector>

#include "validate/comparison.hpp"

namespace tessera::validate {

/// All but the bias are of absolute percentage errors. Percentiles are interpolated linearly between rows.
struct Errors {
  std::size_t count = 0;
  double mape_percent = 0, median_ape_percent = 0, p90_ape_percent = 0, max_ape_percent = 0;
  double bias_percent = 0;  ///< the mean of the signed errors: below 0 the simulator is too fast
};

Errors errors_of(const std::vector<const Compared*>& rows);

/// A named set of rows.
struct Group {
  std::string name;     ///< a key of the JSON: "gemm_large"
  std::string meaning;  ///< "gemm, n and k at least 1024"
  std::vector<const Compared*> rows;
};

/// By kind, in alphabetical order; the name is the kind.
std::vector<Group> by_kind(const Comparison& comparison);
/// The sets that are usually quoted; those without rows are left out.
std::vector<Group> quoted_groups(const Comparison& comparison);
/// By file, in the order of reading; the name is its path.
std::vector<Group> by_file(const Comparison& comparison);

/// The `most` rows with the largest absolute error, worst first.
std::vector<const Compared*> worst_of(const std::vector<const Compared*>& rows, std::size_t most);

}  // namespace tessera::validate
