#include "models/cost/critical_path.hpp"

#include <catch2/catch_test_macros.hpp>

namespace tessera::cost {
namespace {

using namespace models;

TEST_CASE("a critical path is what a task waited for last: a message, or the kernel before it") {
  // Node 1 runs task 1 and then task 3, which needs task 0's message (task 2) too.
  const auto path = [](std::int64_t bytes) {
    const Compute kernel{Copy{1}, {}};
    const TaskGraph graph{.nodes = {{"a"}, {"b"}},
                          .tasks = {{.node = 0, .work = kernel},
                                    {.node = 1, .work = kernel},
                                    {.node = 0, .work = Transfer{1, bytes}, .after = {0}},
                                    {.node = 1, .work = kernel, .after = {2}},
                                    {.node = 0, .work = kernel}}};
    const std::vector<Time> durations{Time::from_us(10), Time::from_us(30), Time{}, Time::from_us(5),
                                      Time::from_us(1)};
    return critical_path(graph, schedule_tasks(graph, FabricSpec{}, durations, false));
  };
  CHECK(path(1 << 10) == std::vector<TaskId>{1, 3});
  CHECK(path(1 << 26) == std::vector<TaskId>{0, 2, 3});
  CHECK(critical_path({}, {}).empty());
}

}  // namespace
}  // namespace tessera::cost
