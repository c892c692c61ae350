// Points of a sweep file, fronts and searches.

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "cli/sweep/evaluate.hpp"
#include "cli/sweep/pareto.hpp"
#include "cli/sweep/search.hpp"
#include "cli/sweep/store.hpp"
#include "cli/sweep/sweep.hpp"

namespace tessera::cli {
namespace {

using Catch::Matchers::ContainsSubstring;

/// A file that vanishes.
class Scratch {
 public:
  explicit Scratch(const std::string& name)
      : file_{std::filesystem::temp_directory_path() / ("tessera_" + std::to_string(getpid()) + "_" + name)} {
  }
  ~Scratch() { std::filesystem::remove(file_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;
};

Sweep sweep_of(const std::string& text) {
  const Scratch scratch{"sweep.yaml"};
  std::ofstream{scratch.file()} << text;
  return read_sweep(scratch.file());
}

const std::string kGemm = "kernel: {kind: gemm, hardware: h200_sxm, n: 256, k: 256}\n";

std::vector<std::string> values(const std::vector<Point>& points, const std::string& key) {
  std::vector<std::string> all;
  for (const Point& p : points) {
    for (const auto& [k, value] : p.axes) {
      if (k == key) all.push_back(value);
    }
  }
  return all;
}

TEST_CASE("a grid is every combination, the last axis fastest") {
  const Sweep s = sweep_of(kGemm + "axes: {m: [128, 256], hardware.boost_clock_mhz: [1500, 1700, 1980]}\n");
  const auto points = points_of(s);
  REQUIRE(points.size() == 6);
  CHECK(values(points, "m") == std::vector<std::string>{"128", "128", "128", "256", "256", "256"});
  CHECK(points[4].id == 4);
  CHECK(points[4].axes[1].second == "1700");
}

TEST_CASE("ranges have steps or counts, whole where their ends are") {
  const auto of = [](const std::string& axis) {
    return values(points_of(sweep_of(kGemm + "axes: {m: " + axis + "}\n")), "m");
  };
  CHECK(of("{range: [128, 512], step: 128}") == std::vector<std::string>{"128", "256", "384", "512"});
  CHECK(of("{range: [1K, 4K], count: 4}") == std::vector<std::string>{"1024", "2048", "3072", "4096"});
  CHECK(of("{range: [0.5, 1.5], count: 3}") == std::vector<std::string>{"0.5", "1", "1.5"});
  CHECK(of("{log_range: [1, 1000], count: 4}") == std::vector<std::string>{"1", "10", "100", "1000"});
  CHECK(of("{log_range: [1, 3], count: 5}") == std::vector<std::string>{"1", "2", "3"});  // each once
  CHECK(of("{list: [8, 16]}") == std::vector<std::string>{"8", "16"});
}

TEST_CASE("zipped keys move together, conditions leave points out") {
  const Sweep s = sweep_of(kGemm +
                           "axes: {m: [64, 128, 256]}\n"
                           "zip: [{n: [64, 128], k: [512, 1024]}]\n"
                           "where: [m >= n, not (m == 256 and k == 512)]\n");
  const auto points = points_of(s);
  CHECK(values(points, "m") == std::vector<std::string>{"64", "128", "128", "256"});
  CHECK(values(points, "n") == std::vector<std::string>{"64", "64", "128", "128"});
  CHECK(values(points, "k") == std::vector<std::string>{"512", "512", "1024", "1024"});
}

TEST_CASE("a Latin hypercube has every stratum of every axis once") {
  const Sweep s = sweep_of(kGemm +
                           "axes: {m: {range: [0, 16000]}, n: {log_range: [64, 4096]}}\n"
                           "design: {method: latin_hypercube, points: 16, seed: 3}\n");
  const auto points = points_of(s);
  REQUIRE(points.size() == 16);
  for (std::size_t d = 0; d < 2; ++d) {
    std::set<int> strata;
    for (const Point& p : points) strata.insert(static_cast<int>(p.place[d] * 16));
    CHECK(strata.size() == 16);
  }
}

TEST_CASE("random designs draw again what conditions exclude, the same with the same seed") {
  const std::string text = kGemm +
                           "axes: {m: {range: [1, 1000]}, n: {range: [1, 1000]}}\nwhere: [m < n]\n"
                           "design: {method: random, points: 20, seed: ";
  const auto points = points_of(sweep_of(text + "5}\n"));
  REQUIRE(points.size() == 20);
  CHECK(values(points, "m") == values(points_of(sweep_of(text + "5}\n")), "m"));
  CHECK(values(points, "m") != values(points_of(sweep_of(text + "6}\n")), "m"));
}

TEST_CASE("what is wrong with a sweep file is said with its line") {
  const auto wrong = [](const std::string& text, const std::string& part) {
    CHECK_THROWS_WITH(points_of(sweep_of(text)), ContainsSubstring(part));
  };
  wrong(kGemm + "axis: {m: [1]}\n", ":2: axis: unknown key; did you mean 'axes'?");
  wrong(kGemm + "axes: {m: []}\n", ":2: axes.m: an axis needs at least one value");
  wrong(kGemm + "axes: {m: {range: [4, 2], count: 2}}\n", "smaller number first");
  wrong(kGemm + "axes: {m: {range: [1, 2]}}\n", "needs a step or a count");
  wrong(kGemm + "axes: {m: [1, 2]}\nzip: [{m: [1], n: [2]}]\n", ":3: zip[0].m: is an axis twice");
  wrong(kGemm + "zip: [{m: [1, 2], n: [2]}]\n", "has 1 values, but the keys it moves with have 2");
  wrong(kGemm + "axes: {m: [1, 2]}\nwhere: [mm < 2]\n", "'mm' is no axis; did you mean 'm'?");
  wrong(kGemm + "axes: {m: [1, 2]}\nconstraints: [latncy_us < 2]\n", "did you mean 'latency_us'?");
  wrong(kGemm + "axes: {m: [1, 2]}\nobjectives: {latency: min}\n", ":3: objectives.latency: is no metric");
  wrong(kGemm + "axes: {m: [1, 2]}\nwhere: [m > 2]\n", "no point meets the conditions");
}

TEST_CASE("a slip in an axis is found before anything is run, with its line and the nearest name") {
  const auto wrong = [](const std::string& text, const std::vector<std::string>& parts) {
    const Sweep s = sweep_of(text);
    for (const std::string& part : parts)
      CHECK_THROWS_WITH(require_axes(s, points_of(s)), ContainsSubstring(part));
  };
  const std::string run = "experiment: tiny_cascade\naxes:\n";
  wrong(run + "  workload.prefil_tokens: [64, 128]\n",
        {":3: axes.workload.prefil_tokens:", "did you mean 'prefill_tokens'?"});
  wrong(run + "  hardware.comp.sm.mufu_per_cycl: [16, 32]\n", {":3:", "did you mean 'mufu_per_cycle'?"});
  wrong(run + "  workload.batch: [1]\n  fabric: [nvlink4_nvswich]\n",
        {":4: axes.fabric:", "nvlink4_nvswitch"});
  wrong(run + "  workload.batch: [1, two]\n", {":3: axes.workload.batch:", "expected an integer"});
  wrong(run + "  workload.batch: [0, 1]\n", {"must be at least 1"});
  wrong(run + "  hardwar.comp: [h200_sxm]\n", {":3: axes.hardwar.comp:", "did you mean 'hardware'?"});
  wrong(kGemm + "axes: {m: [64], kk: [1]}\n", {":2: axes.kk:"});
  CHECK_NOTHROW(require_axes(sweep_of(run + "  workload.batch: [1, 2]\n"),
                             points_of(sweep_of(run + "  workload.batch: [1, 2]\n"))));
}

Row row_of(std::int64_t id, double latency, double energy, const std::string& status = "ok") {
  Row r{.id = id, .fidelity = "cost", .axes = Json::object(), .status = status};
  r.metric("latency_us") = latency;
  r.metric("energy_j") = energy;
  return r;
}

TEST_CASE("a front has what none beats, without failures") {
  const std::vector<Row> rows{row_of(0, 3, 1), row_of(1, 1, 3), row_of(2, 2, 2),
                              row_of(3, 2, 3), row_of(4, 2, 2), row_of(5, 0, 0, "infeasible")};
  CHECK(pareto_front(rows, {{"latency_us", false}, {"energy_j", false}}) ==
        std::vector<std::size_t>{1, 2, 4, 0});
  CHECK(pareto_front(rows, {{"latency_us", true}}) == std::vector<std::size_t>{0});
}

TEST_CASE("neighbours on a grid are one level away") {
  const Sweep s = sweep_of(kGemm + "axes: {m: [1, 2, 3], n: [1, 2, 3]}\n");
  CHECK(with_neighbours(s, points_of(s), {4}) == std::vector<std::int64_t>{1, 3, 4, 5, 7});
  CHECK(with_neighbours(s, points_of(s), {0}) == std::vector<std::int64_t>{0, 1, 3});
}

TEST_CASE("a store keeps what was added, once, and knows whose it is") {
  const Scratch scratch{"store.db"};
  const Sweep s = sweep_of(kGemm + "axes: {m: [1, 2]}\nobjectives: {latency_us: min}\n");
  {
    Store store{scratch.file()};
    store.claim(s, false);
    store.add({row_of(1, 5, 6), row_of(0, 3, 4)});
    store.add({row_of(1, 9, 9)});
  }
  {
    const Store store = Store::read_only(scratch.file());
    const auto rows = store.rows();
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].id == 0);
    CHECK(rows[1].metric("latency_us") == 5);
    CHECK_FALSE(rows[1].metric("cost_usd"));
    CHECK(objectives_in(store.about()).at(0).metric == "latency_us");
  }
  Store again{scratch.file()};
  CHECK_THROWS_WITH(again.claim(s, false), ContainsSubstring("--resume"));
  CHECK_NOTHROW(again.claim(s, true));
  CHECK_THROWS_WITH(again.claim(sweep_of(kGemm + "axes: {m: [1, 3]}\n"), true),
                    ContainsSubstring("another sweep"));
}

TEST_CASE("a search finds the best of a grid with fewer points, and goes on where it was interrupted") {
  const std::string axes =
      "axes: {m: {log_range: [128, 4096]}, hardware.boost_clock_mhz: {range: [1200, 1980]}}\n"
      "objectives: {tflops: max}\n";
  const Sweep s = sweep_of(kGemm + axes + "design: {method: search, evaluations: 40}\n");
  Evaluator evaluator{s};
  std::map<std::int64_t, Row> rows;
  run_search(s, 0, {}, evaluator, [&](const Row& row) { rows.emplace(row.id, row); });
  double best = 0;
  for (const auto& [id, row] : rows) best = std::max(best, row.metric("tflops").value_or(0));
  // The corner of the cube is the best there is: rates rise with the size and with the clock.
  Point corner = point_at(s, 0, {1 - 1e-9, 1 - 1e-9});
  const double most = Evaluator{s}.evaluate(corner, false).metric("tflops").value();
  CHECK(best > 0.8 * most);

  std::map<std::int64_t, Row> half;
  for (const auto& [id, row] : rows) {
    if (id < 20) half.emplace(id, row);
  }
  std::map<std::int64_t, Row> rest;
  run_search(s, 0, half, evaluator, [&](const Row& row) { rest.emplace(row.id, row); });
  CHECK(rest.size() == rows.size() - half.size());
  for (const auto& [id, row] : rest) CHECK(row.metrics == rows.at(id).metrics);
}

}  // namespace
}  // namespace tessera::cli
