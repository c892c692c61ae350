#include "cli/sweep/search.hpp"

#include <algorithm>
#include <cmath>
#include <nlopt.hpp>
#include <random>
#include <string>

namespace tessera::cli {

namespace {

constexpr double kInfeasible = 1e3, kFailed = 1e4;

nlopt::algorithm algorithm_of(const std::string& name) {
  if (name == "crs") return nlopt::GN_CRS2_LM;
  if (name == "isres") return nlopt::GN_ISRES;
  if (name == "esch") return nlopt::GN_ESCH;
  if (name == "cobyla") return nlopt::LN_COBYLA;
  if (name == "sbplx") return nlopt::LN_SBPLX;
  if (name == "bobyqa") return nlopt::LN_BOBYQA;
  return nlopt::GN_DIRECT_L;
}

struct Search {
  const Sweep& sweep;
  const std::map<std::int64_t, Row>& known;
  Evaluator& evaluator;
  const std::function<void(const Row&)>& found;
  std::vector<double> weights;
  std::int64_t next_id = 0;
  std::vector<double> reference;       // of the centre; empty until it is known
  std::map<std::string, Row> visited;  // by what is set: levels make many places one point

  const Row* row_at(const std::vector<double>& place) {
    const Point point = point_at(sweep, next_id, place);
    if (!allowed(sweep, point)) return nullptr;
    std::string key;
    for (const auto& [name, value] : point.axes) key += value + "\n";
    const auto [at, added] = visited.try_emplace(key);
    if (added) {
      if (const auto before = known.find(next_id); before != known.end()) {
        at->second = before->second;
      } else {
        at->second = evaluator.evaluate(point, false);
        found(at->second);
      }
      ++next_id;
    }
    return &at->second;
  }

  double distance(const std::vector<double>& place) {
    const Row* row = row_at(place);
    if (row == nullptr || row->status == "failed") return kFailed;
    std::vector<double> values;
    for (const Objective& o : sweep.objectives) {
      const auto& value = row->metric(o.metric);
      if (!value) return kFailed;
      values.push_back((o.most ? -1 : 1) * std::log(std::max(*value, 1e-300)));
    }
    if (reference.empty()) reference = values;
    double most = -kInfeasible, sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double g = weights[i] * (values[i] - reference[i]);
      most = std::max(most, g);
      sum += g;
    }
    return most + 0.01 * sum + (row->status == "infeasible" ? kInfeasible : 0);
  }
};

}  // namespace

std::vector<double> search_weights(const Sweep& sweep, std::int64_t number) {
  const std::size_t m = sweep.objectives.size();
  if (m == 1) return {1.0};
  if (m == 2) {
    const double w = (static_cast<double>(number) + 0.5) / static_cast<double>(sweep.design.weights);
    return {w, 1 - w};
  }
  // Evenly over the simplex.
  std::mt19937_64 random{sweep.design.seed * 1'000'003 + static_cast<std::uint64_t>(number)};
  std::vector<double> weights;
  double sum = 0;
  for (std::size_t i = 0; i < m; ++i) {
    weights.push_back(-std::log((static_cast<double>(random() >> 11U) + 0.5) * 0x1p-53));
    sum += weights.back();
  }
  for (double& w : weights) w /= sum;
  return weights;
}

void run_search(const Sweep& sweep, std::int64_t number, const std::map<std::int64_t, Row>& known,
                Evaluator& evaluator, const std::function<void(const Row&)>& found) {
  Search search{.sweep = sweep, .known = known, .evaluator = evaluator, .found = found};
  search.weights = search_weights(sweep, number);
  search.next_id = number * sweep.design.evaluations;
  const std::size_t dims = sweep.dimensions.size();
  std::vector<double> place(dims, 0.5);
  (void)search.distance(place);  // the centre, for reference

  nlopt::srand(static_cast<unsigned long>(sweep.design.seed + static_cast<std::uint64_t>(number)));
  nlopt::opt opt{algorithm_of(sweep.design.algorithm), static_cast<unsigned>(dims)};
  opt.set_lower_bounds(0.0);
  opt.set_upper_bounds(1.0 - 1e-9);
  opt.set_maxeval(static_cast<int>(sweep.design.evaluations - 1));
  opt.set_min_objective([](const std::vector<double>& x, std::vector<double>&,
                           void* data) { return static_cast<Search*>(data)->distance(x); },
                        &search);
  double least = 0;
  try {
    opt.optimize(place, least);
  } catch (const nlopt::roundoff_limited&) {  // as near as it gets
  } catch (const std::runtime_error&) {  // a local algorithm on a flat stretch; what it found is recorded
  }
}

}  // namespace tessera::cli
