#pragma once
// What a serving simulation did, to draw it: exact while it is short; of a long one, steps in a row are
// joined, requests are kept at equal distances and counters become means over intervals, so that memory is
// bounded.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "traces/serving/observer.hpp"
#include "traces/serving/report.hpp"
#include "traces/serving/series.hpp"

namespace tessera::traces {

/// Steps of one instance, in order.
class StepHistory {
 public:
  explicit StepHistory(std::size_t most) : most_{most} {}
  void add(const StepRecord& step);
  const std::vector<StepRecord>& steps() const { return steps_; }
  /// Steps that begin within one such interval have been joined; 0: none.
  std::int64_t grain_ns() const { return grain_ns_; }

 private:
  void put(std::vector<StepRecord>& to, const StepRecord& step) const;

  std::size_t most_;
  std::int64_t grain_ns_ = 0;
  std::vector<StepRecord> steps_;
};

/// Requests that have their fate: every stride-th.
class RequestHistory {
 public:
  explicit RequestHistory(std::size_t most) : most_{most} {}
  void add(const RequestRecord& request);
  const std::vector<RequestRecord>& requests() const { return requests_; }
  std::int64_t stride() const { return stride_; }

 private:
  std::size_t most_;
  std::int64_t stride_ = 1, seen_ = 0;
  std::vector<RequestRecord> requests_;
};

/// Sums over time that grow, such as the time that nodes were busy.
class SumHistory {
 public:
  struct Point {
    std::int64_t at_ns = 0;
    std::vector<double> sums;
  };
  explicit SumHistory(std::size_t most) : most_{most} {}
  bool wants(std::int64_t now_ns) const { return now_ns >= next_ns_; }
  void add(std::int64_t now_ns, std::vector<double> sums);
  const std::vector<Point>& points() const { return points_; }

 private:
  std::size_t most_;
  std::int64_t width_ns_ = 1'000'000, next_ns_ = 0;  // 1 ms
  std::vector<Point> points_;
};

class ServingHistory : public ServingObserver {
 public:
  struct Limits {
    std::size_t steps = 100'000, requests = 100'000;  ///< all instances together
    std::size_t intervals = 4096;                     ///< of each counter
  };
  /// The time, in ns, that each node of an instance was busy so far.
  using Busy = std::function<std::vector<double>(std::uint32_t instance)>;
  struct Instance {
    StepHistory steps;
    SumHistory busy;
    Series waiting, running, memory;
    InstanceState now;
  };

  ServingHistory(std::size_t instances, const Limits& limits, Busy busy);

  void before_step(std::uint32_t instance, std::int64_t now_ns) override;
  void step(std::uint32_t instance, const StepRecord& step) override;
  void state(std::uint32_t instance, std::int64_t now_ns, const InstanceState& state) override;
  void request(const RequestRecord& request) { requests_.add(request); }
  /// Holds what is until `end_ns`.
  void finish(std::int64_t end_ns);

  const std::vector<Instance>& instances() const { return instances_; }
  const RequestHistory& requests() const { return requests_; }

 private:
  Busy busy_;
  std::vector<Instance> instances_;
  RequestHistory requests_;
};

}  // namespace tessera::traces
