#include "cli/sweep/pareto.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace tessera::cli {

std::vector<std::size_t> pareto_front(const std::vector<Row>& rows,
                                      const std::vector<Objective>& objectives) {
  struct Candidate {
    std::vector<double> values;  // all to be made small
    std::size_t row = 0;
  };
  std::vector<Candidate> candidates;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].status != "ok") continue;
    Candidate c{.row = r};
    for (const Objective& o : objectives) {
      if (const auto& value = rows[r].metric(o.metric)) c.values.push_back(o.most ? -*value : *value);
    }
    if (c.values.size() == objectives.size()) candidates.push_back(std::move(c));
  }
  // Sorted by values, only those before one can beat it.
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.values < b.values; });
  std::vector<std::size_t> front;
  std::vector<const Candidate*> kept;
  for (const Candidate& c : candidates) {
    const bool beaten = std::any_of(kept.begin(), kept.end(), [&](const Candidate* k) {
      if (k->values == c.values) return false;
      for (std::size_t i = 0; i < c.values.size(); ++i) {
        if (k->values[i] > c.values[i]) return false;
      }
      return true;
    });
    if (beaten) continue;
    kept.push_back(&c);
    front.push_back(c.row);
  }
  return front;
}

std::vector<std::int64_t> with_neighbours(const Sweep& sweep, const std::vector<Point>& points,
                                          const std::vector<std::int64_t>& ids) {
  std::set<std::int64_t> chosen{ids.begin(), ids.end()};
  std::map<std::int64_t, const Point*> by_id;
  for (const Point& p : points) by_id[p.id] = &p;
  const std::size_t dims = sweep.dimensions.size();
  if (sweep.design.method == DesignMethod::grid) {
    const auto levels_of = [&](const Point& p) {
      std::vector<std::int64_t> levels;
      for (std::size_t i = 0; i < dims; ++i)
        levels.push_back(
            std::llround(p.place[i] * static_cast<double>(sweep.dimensions[i].levels.size()) - 0.5));
      return levels;
    };
    std::map<std::vector<std::int64_t>, std::int64_t> by_levels;
    for (const Point& p : points) by_levels[levels_of(p)] = p.id;
    for (const std::int64_t id : ids) {
      std::vector<std::int64_t> levels = levels_of(*by_id.at(id));
      for (std::int64_t& level : levels) {
        for (const std::int64_t step : {-1, 1}) {
          level += step;
          if (const auto at = by_levels.find(levels); at != by_levels.end()) chosen.insert(at->second);
          level -= step;
        }
      }
    }
    return {chosen.begin(), chosen.end()};
  }
  constexpr std::size_t kNearest = 2;
  for (const std::int64_t id : ids) {
    const Point& from = *by_id.at(id);
    std::vector<std::pair<double, std::int64_t>> others;
    for (const Point& p : points) {
      if (p.id == id) continue;
      double square = 0;
      for (std::size_t i = 0; i < dims; ++i)
        square += (p.place[i] - from.place[i]) * (p.place[i] - from.place[i]);
      others.emplace_back(square, p.id);
    }
    const auto n = static_cast<std::ptrdiff_t>(std::min(kNearest, others.size()));
    std::partial_sort(others.begin(), others.begin() + n, others.end());
    for (std::ptrdiff_t i = 0; i < n; ++i) chosen.insert(others[static_cast<std::size_t>(i)].second);
  }
  return {chosen.begin(), chosen.end()};
}

}  // namespace tessera::cli
