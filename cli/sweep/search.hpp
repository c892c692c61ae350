#pragma once
// Search beyond grids, by NLopt over the unit cube of the dimensions. With several objectives f_i each search
// makes small one weighted Chebyshev distance, which reaches all of a front, convex or not:
//
//   max_i w_i g_i + 0.01 sum_i w_i g_i,   g_i = ln(f_i / f_i of the centre), the other way round for a
//   maximum
//
// and the searches differ in their weights. Points that fail, or break a constraint, count as very far.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "cli/sweep/evaluate.hpp"

namespace tessera::cli {

/// The weights of search `number`, one per objective, summing to 1.
std::vector<double> search_weights(const Sweep& sweep, std::int64_t number);

/// Runs search `number` at cost fidelity. Its points are numbered from number * evaluations on. `known` holds
/// rows of an interrupted search, which are not evaluated again; others are handed to `found` as they come.
void run_search(const Sweep& sweep, std::int64_t number, const std::map<std::int64_t, Row>& known,
                Evaluator& evaluator, const std::function<void(const Row&)>& found);

}  // namespace tessera::cli
