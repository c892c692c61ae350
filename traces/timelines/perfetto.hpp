#pragma once
// Perfetto's protobuf trace (.pftrace): a packet per event, written as it comes, so that memory does not grow
// with the run. Field numbers: google/perfetto, protos/perfetto/trace/{trace,trace_packet}.proto and
// protos/perfetto/trace/track_event/*.proto.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "traces/input/wire.hpp"
#include "traces/timelines/timeline.hpp"

namespace tessera::traces {

class PerfettoTimeline : public Timeline {
 public:
  using Sink = std::function<void(std::string_view)>;  ///< is given the file's bytes, in order
  explicit PerfettoTimeline(Sink sink) : sink_{std::move(sink)} {}

  void name_process(std::size_t process, std::string_view name) override;
  void name_track(std::size_t process, int track, std::string_view name) override;
  void slice(std::size_t process, int track, Time start, Time end, std::string_view name,
             std::string_view category, std::string_view args, std::uint64_t flow = 0) override;
  void counter(std::size_t process, Time at, std::string_view name, double value,
               std::string_view unit = kPercent) override;
  /// An instant at time 0 on a track of its own, "about".
  void note(std::string_view key, std::string_view text) override;

 private:
  void packet(const WireWriter& inside);
  /// `unit`: of a counter; else empty.
  void descriptor(std::uint64_t uuid, std::string_view name, std::uint64_t parent, std::string_view unit);
  void event(Time at, const WireWriter& inside);
  void annotate(WireWriter& event, std::string_view args);

  Sink sink_;
  bool begun_ = false;
  std::map<std::pair<std::size_t, std::string>, std::uint64_t> counters_;
  std::set<std::uint64_t> announced_;  // tracks
};

}  // namespace tessera::traces
