#pragma once
// The points that no other beats.

#include <cstdint>
#include <vector>

#include "cli/sweep/row.hpp"
#include "cli/sweep/sweep.hpp"

namespace tessera::cli {

/// Indices of rows that are "ok" and have every objective, and that none is as good as in all objectives and
/// better in one. In the order of the first objective, best first. Rows that are equal in all objectives all
/// stay.
std::vector<std::size_t> pareto_front(const std::vector<Row>& rows, const std::vector<Objective>& objectives);

/// Ids of the points next to those of `ids`, themselves included, in order: one level away in one dimension
/// of a grid; of other designs the two nearest, distance over the unit cube.
std::vector<std::int64_t> with_neighbours(const Sweep& sweep, const std::vector<Point>& points,
                                          const std::vector<std::int64_t>& ids);

}  // namespace tessera::cli
