#include "cli/sweep/crew.hpp"

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "cli/sweep/conduct.hpp"
#include "cli/sweep/store.hpp"

namespace tessera::cli {
namespace {

TEST_CASE("a worker that dies says so, and another takes its place") {
  const auto crew = local_crew(2, [] {
    return Work{[](const std::string& task, const std::function<void(const std::string&)>& more) {
      if (task == "die") (void)std::raise(SIGKILL);
      more("half of " + task);
      return "all of " + task;
    }};
  });
  crew->give(0, "die");
  const Answer gone = crew->wait();
  CHECK(gone.place == 0);
  CHECK(gone.kind == Answer::Kind::gone);
  CHECK(gone.text == "the worker died: Killed");
  crew->give(0, "it");
  CHECK(crew->wait().text == "half of it");
  const Answer last = crew->wait();
  CHECK(last.kind == Answer::Kind::last);
  CHECK(last.text == "all of it");
}

TEST_CASE("a point whose worker dies is a row, and all others are done") {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("tessera_" + std::to_string(getpid()) + "_crew.yaml");
  std::ofstream{file} << "kernel: {kind: gemm, hardware: h200_sxm, n: 256, k: 256}\n"
                         "axes: {m: {range: [8, 320], step: 8}}\n";
  const Sweep sweep = read_sweep(file);
  const std::vector<Point> points = points_of(sweep);
  REQUIRE(points.size() == 40);
  Store store{":memory:"};
  store.claim(sweep, false);
  const auto crew = local_crew(2, [&] {
    const Work work = sweep_work(sweep, points);
    return Work{[work](const std::string& task, const std::function<void(const std::string&)>& more) {
      // Point 7, alone or among others.
      const Json asked = Json::parse(task);
      for (const Json& id : asked.at("ids"))
        if (id == 7) (void)std::raise(SIGKILL);
      return work(task, more);
    }};
  });
  conduct(sweep, points, {}, store, *crew);
  const std::vector<Row> rows = store.rows();
  REQUIRE(rows.size() == 40);
  for (const Row& row : rows) {
    INFO(row.id << ": " << row.error);
    CHECK(row.status == (row.id == 7 ? "failed" : "ok"));
  }
  CHECK(rows[7].error == "the worker died: Killed");
  CHECK(rows[7].axes.at("m") == "64");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace tessera::cli
