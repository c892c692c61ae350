#include "cli/sweep/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/sweep/row.hpp"

namespace tessera::cli {

namespace {

using config::Value;

constexpr std::int64_t kMostPoints = 10'000'000;

/// A value as YAML on one line.
std::string flow_text(const Value& value) {
  if (value.is_sequence()) {
    std::string text;
    for (const Value& item : value.items()) text += (text.empty() ? "" : ", ") + flow_text(item);
    return "[" + text + "]";
  }
  if (value.is_map()) {
    std::string text;
    for (const auto& [key, item] : value.entries())
      text += (text.empty() ? "" : ", ") + key + ": " + flow_text(item);
    return "{" + text + "}";
  }
  if (!value.is_scalar()) return "null";
  const std::string text = value.as_string();
  if (text.empty() || text.find_first_of(":,[]{}#'\"&*!|>%@`") != std::string::npos) return Json(text).dump();
  return text;
}

/// An end of a range, and whether it is a whole number.
std::pair<double, bool> read_end(const Value& value) {
  const Term term = term_of(value.as_string());
  const auto* x = std::get_if<double>(&term);
  if (x == nullptr) throw value.error(fmt::format("expected a number, not '{}'", value.as_string()));
  return {*x, value.as_string().find_first_of(".eE") == std::string::npos && *x == std::floor(*x)};
}

std::string number_text(double x, bool integer) {
  return integer ? fmt::format("{}", std::llround(x)) : fmt::format("{}", x);
}

void read_range(const Value& map, bool logarithmic, Dimension& d) {
  map.allow_only({logarithmic ? "log_range" : "range", "step", "count"});
  const Value ends = map.at(logarithmic ? "log_range" : "range");
  const std::vector<Value> items = ends.items();
  if (items.size() != 2) throw ends.error("expected two numbers: [first, last]");
  const auto [low, low_whole] = read_end(items[0]);
  const auto [high, high_whole] = read_end(items[1]);
  if (!(low < high)) throw ends.error("expected the smaller number first");
  if (logarithmic && low <= 0) throw ends.error("a log_range must lie above 0");
  d.low = low;
  d.high = high;
  d.logarithmic = logarithmic;
  d.integer = low_whole && high_whole;
  const auto step = map.find("step"), count = map.find("count");
  if (step && (count || logarithmic)) throw step->error("a range has a step or a count, a log_range a count");
  std::vector<double> values;
  if (step) {
    const auto [width, whole] = read_end(*step);
    if (width <= 0) throw step->error("must be positive");
    d.integer = d.integer && whole;
    if ((high - low) / width > static_cast<double>(kMostPoints)) throw step->error("makes too many values");
    for (std::int64_t i = 0; low + static_cast<double>(i) * width <= high * (1 + 1e-12); ++i)
      values.push_back(low + static_cast<double>(i) * width);
  } else if (count) {
    const std::int64_t n = count->as_integer(2, kMostPoints);
    for (std::int64_t i = 0; i < n; ++i) {
      const double u = static_cast<double>(i) / static_cast<double>(n - 1);
      values.push_back(i == n - 1    ? high
                       : logarithmic ? std::exp(std::log(low) + u * (std::log(high) - std::log(low)))
                                     : low + u * (high - low));
    }
  }
  std::set<std::string> seen;
  for (const double x : values) {
    if (std::string text = number_text(x, d.integer); seen.insert(text).second)
      d.levels.push_back({std::move(text)});
  }
}

void read_levels(const Value& list, std::size_t key, Dimension& d) {
  const std::vector<Value> items = list.items();
  if (items.empty()) throw list.error("an axis needs at least one value");
  if (key > 0 && items.size() != d.levels.size())
    throw list.error(
        fmt::format("has {} values, but the keys it moves with have {}", items.size(), d.levels.size()));
  d.levels.resize(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) d.levels[i].push_back(flow_text(items[i]));
}

void read_axes(const Value& root, Sweep& sweep) {
  std::set<std::string> keys;
  const auto once = [&](const std::string& key, const Value& at) {
    if (!keys.insert(key).second) throw at.error("is an axis twice");
  };
  if (const auto axes = root.find("axes")) {
    for (const auto& [key, axis] : axes->entries()) {
      once(key, axis);
      Dimension d{.keys = {key}, .at = {axis}};
      if (axis.is_map()) {
        axis.allow_only({"range", "log_range", "list", "step", "count"});
        if (axis.find("list"))
          read_levels(axis.at("list"), 0, d);
        else
          read_range(axis, axis.find("log_range").has_value(), d);
      } else {
        read_levels(axis, 0, d);
      }
      sweep.dimensions.push_back(std::move(d));
    }
  }
  if (const auto zip = root.find("zip")) {
    for (const Value& group : zip->items()) {
      Dimension d;
      for (const auto& [key, list] : group.entries()) {
        once(key, list);
        d.keys.push_back(key);
        d.at.push_back(list);
        read_levels(list, d.keys.size() - 1, d);
      }
      if (d.keys.empty()) throw group.error("names no key");
      sweep.dimensions.push_back(std::move(d));
    }
  }
  if (sweep.dimensions.empty()) throw root.error("a sweep needs axes, or zip");
}

std::vector<Expression> read_expressions(const Value& root, const char* key,
                                         const std::vector<std::string>& names) {
  std::vector<Expression> all;
  const auto list = root.find(key);
  if (!list) return all;
  for (const Value& item : list->items()) {
    try {
      all.emplace_back(item.as_string());
    } catch (const ExpressionError& e) {
      throw item.error(e.what());
    }
    // A name that is no key may be a text to compare with; one with a dot, or nearly a name, is a slip.
    for (const std::string& name : all.back().names()) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const std::string near = config::nearest(name, names);
      if (name.find('.') != std::string::npos || !near.empty()) {
        throw item.error(fmt::format("'{}' is no axis{}{}", name,
                                     std::string_view{key} == "constraints" ? " and no metric" : "",
                                     near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
      }
    }
  }
  return all;
}

void read_design(const Value& map, Sweep& sweep) {
  Design& d = sweep.design;
  const std::string method = map.at("method").as_one_of({"grid", "random", "latin_hypercube", "search"});
  if (const auto seed = map.find("seed")) d.seed = static_cast<std::uint64_t>(seed->as_integer(0));
  if (method == "grid") {
    map.allow_only({"method"});
  } else if (method == "search") {
    map.allow_only({"method", "algorithm", "evaluations", "weights", "seed"});
    d.method = DesignMethod::search;
    if (const auto algorithm = map.find("algorithm"))
      d.algorithm = algorithm->as_one_of({"direct", "crs", "isres", "esch", "cobyla", "sbplx", "bobyqa"});
    d.evaluations = map.at("evaluations").as_integer(2, kMostPoints);
    if (const auto weights = map.find("weights")) d.weights = weights->as_integer(1, 10'000);
    if (sweep.objectives.empty()) throw map.error("a search needs objectives");
  } else {
    map.allow_only({"method", "points", "seed"});
    d.method = method == "random" ? DesignMethod::random : DesignMethod::latin_hypercube;
    d.points = map.at("points").as_integer(1, kMostPoints);
  }
}

/// In [0, 1), the same with every library.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11U) * 0x1p-53; }

}  // namespace

std::vector<std::string> Dimension::values_at(double u) const {
  if (!levels.empty()) {
    const auto n = static_cast<double>(levels.size());
    return levels[static_cast<std::size_t>(std::clamp(std::floor(u * n), 0.0, n - 1))];
  }
  const double x =
      logarithmic ? std::exp(std::log(low) + u * (std::log(high) - std::log(low))) : low + u * (high - low);
  return {number_text(x, integer)};
}

Sweep read_sweep(const std::filesystem::path& file) {
  const config::Document document = config::Document::read(file);
  const Value root = document.root();
  root.allow_only({"name", "description", "experiment", "kernel", "fidelity", "seed", "set", "axes", "zip",
                   "where", "design", "objectives", "constraints"});
  Sweep sweep{.file = file};
  sweep.name = root.find("name") ? root.at("name").as_string() : file.stem().string();
  if (const auto description = root.find("description")) sweep.description = description->as_string();
  if (const auto kernel = root.find("kernel")) {
    if (const auto both = root.find("experiment"))
      throw both->error("a sweep has an experiment or a kernel, not both");
    sweep.kernel = kernel->at("kind").as_string();
    for (const auto& [key, value] : kernel->entries()) {
      if (key != "kind") sweep.set.emplace_back(key, flow_text(value));
    }
  } else {
    sweep.experiment = resolve_config("experiments", root.at("experiment"));
  }
  if (const auto fidelity = root.find("fidelity")) {
    const std::string name = fidelity->as_one_of({"cost", "cycle", "funnel"});
    sweep.fidelity = name == "cost"    ? SweepFidelity::cost
                     : name == "cycle" ? SweepFidelity::cycle
                                       : SweepFidelity::funnel;
  }
  if (const auto seed = root.find("seed")) sweep.seed = static_cast<std::uint64_t>(seed->as_integer(0));
  if (const auto set = root.find("set")) {
    for (const auto& [key, value] : set->entries()) sweep.set.emplace_back(key, flow_text(value));
  }
  read_axes(root, sweep);
  std::vector<std::string> names;
  for (const Dimension& d : sweep.dimensions) names.insert(names.end(), d.keys.begin(), d.keys.end());
  for (const auto& [key, value] : sweep.set) names.push_back(key);
  sweep.where = read_expressions(root, "where", names);
  for (const char* metric : kMetrics) names.emplace_back(metric);
  names.emplace_back("bottleneck");
  sweep.constraints = read_expressions(root, "constraints", names);
  if (const auto objectives = root.find("objectives")) {
    for (const auto& [metric, way] : objectives->entries()) {
      const std::vector<std::string> known{kMetrics.begin(), kMetrics.end()};
      if (std::find(known.begin(), known.end(), metric) == known.end()) {
        const std::string near = config::nearest(metric, known);
        throw way.error(near.empty() ? fmt::format("is no metric; there is: {}", fmt::join(known, ", "))
                                     : fmt::format("is no metric; did you mean '{}'?", near));
      }
      sweep.objectives.push_back({metric, way.as_one_of({"min", "max"}) == "max"});
    }
  }
  if (const auto design = root.find("design")) read_design(*design, sweep);
  if (sweep.fidelity == SweepFidelity::funnel && sweep.objectives.empty())
    throw root.error("fidelity funnel needs objectives, to know which points to look at closely");
  if (sweep.design.method == DesignMethod::grid) {
    for (const Dimension& d : sweep.dimensions) {
      if (d.levels.empty()) throw d.at.front().error("on a grid a range needs a step or a count");
    }
  }
  // What decides the points and their values, without what only names them. Files that it names are in each
  // point's own hash.
  sweep.hash = hash_of(root, {"name", "description"});
  return sweep;
}

Point point_at(const Sweep& sweep, std::int64_t id, const std::vector<double>& place) {
  Point p{.id = id, .place = place};
  for (std::size_t i = 0; i < sweep.dimensions.size(); ++i) {
    const Dimension& d = sweep.dimensions[i];
    const std::vector<std::string> values = d.values_at(place[i]);
    for (std::size_t k = 0; k < d.keys.size(); ++k) p.axes.emplace_back(d.keys[k], values[k]);
  }
  return p;
}

bool allowed(const Sweep& sweep, const Point& point) {
  const auto value = [&](const std::string& name) -> Term {
    for (const auto* list : {&point.axes, &sweep.set}) {
      for (const auto& [key, text] : *list) {
        if (key == name) return term_of(text);
      }
    }
    return name;
  };
  return std::all_of(sweep.where.begin(), sweep.where.end(),
                     [&](const Expression& e) { return e.holds(value); });
}

std::vector<Point> points_of(const Sweep& sweep) {
  std::vector<Point> points;
  const std::size_t dims = sweep.dimensions.size();
  std::vector<double> place(dims);
  const auto add = [&] {
    Point p = point_at(sweep, static_cast<std::int64_t>(points.size()), place);
    if (allowed(sweep, p)) points.push_back(std::move(p));
  };
  std::mt19937_64 random{sweep.design.seed};
  if (sweep.design.method == DesignMethod::grid) {
    double all = 1;
    for (const Dimension& d : sweep.dimensions) all *= static_cast<double>(d.levels.size());
    if (all > static_cast<double>(kMostPoints))
      throw config::InputError{
          fmt::format("{}:1: a grid of {} points: at most {}", sweep.file.string(), all, kMostPoints)};
    std::vector<std::size_t> level(dims);
    for (bool more = true; more;) {
      for (std::size_t i = 0; i < dims; ++i) {
        const auto n = static_cast<double>(sweep.dimensions[i].levels.size());
        place[i] = (static_cast<double>(level[i]) + 0.5) / n;
      }
      add();
      more = false;
      for (std::size_t i = dims; i-- > 0 && !more;) {
        more = ++level[i] < sweep.dimensions[i].levels.size();
        if (!more) level[i] = 0;
      }
    }
  } else if (sweep.design.method == DesignMethod::random) {
    // What conditions exclude is drawn again, within reason.
    for (std::int64_t tries = 0; tries < 1000 * sweep.design.points; ++tries) {
      if (static_cast<std::int64_t>(points.size()) == sweep.design.points) break;
      for (double& u : place) u = uniform(random);
      add();
    }
  } else if (sweep.design.method == DesignMethod::latin_hypercube) {
    const auto n = static_cast<std::size_t>(sweep.design.points);
    std::vector<std::vector<std::size_t>> rows(dims, std::vector<std::size_t>(n));
    for (auto& row : rows) {
      std::iota(row.begin(), row.end(), std::size_t{0});
      for (std::size_t i = n; i > 1; --i)
        std::swap(row[i - 1], row[static_cast<std::size_t>(uniform(random) * static_cast<double>(i))]);
    }
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t i = 0; i < dims; ++i)
        place[i] = (static_cast<double>(rows[i][p]) + uniform(random)) / static_cast<double>(n);
      add();
    }
  }
  if (points.empty() && sweep.design.method != DesignMethod::search)
    throw config::InputError{fmt::format("{}:1: where: no point meets the conditions", sweep.file.string())};
  return points;
}

}  // namespace tessera::cli
