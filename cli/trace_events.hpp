#pragma once
// Writes the Trace Event JSON format that Perfetto (ui.perfetto.dev) and chrome://tracing read.

#include <fmt/format.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/core/time.hpp"
#include "traces/timelines/timeline.hpp"

namespace tessera::cli {

/// A quoted, escaped JSON string.
std::string json_string(std::string_view text);

/// Trace events, one a line. Times are whole nanoseconds, since that is what Perfetto keeps: slices that
/// touch do not come to overlap by rounding.
class Trace : public traces::Timeline {
 public:
  void name_process(std::size_t process, std::string_view name) override;
  void name_track(std::size_t process, int track, std::string_view name) override;
  /// An arrow joins the first two slices of a flow.
  void slice(std::size_t process, int track, Time start, Time end, std::string_view name,
             std::string_view category, std::string_view args, std::uint64_t flow = 0) override;
  void counter(std::size_t process, Time at, std::string_view name, double value,
               std::string_view unit = traces::kPercent) override;
  void note(std::string_view key, std::string_view text) override;
  std::string finish() const;

 private:
  template <class... Args>
  void event(fmt::format_string<Args...> format, Args&&... args) {
    if (events_.size() > 0) events_.append(std::string_view{",\n"});
    fmt::format_to(std::back_inserter(events_), format, std::forward<Args>(args)...);
  }
  fmt::memory_buffer events_;
  std::set<std::uint64_t> flows_;  // whose second slice is still to come
  std::string notes_;
};

/// Slices of one track must not overlap: each takes the first lane that is free when it starts.
class Lanes {
 public:
  int take(Time start, Time end);
  int count() const { return static_cast<int>(free_at_.size()); }

 private:
  std::vector<Time> free_at_;
};

/// The counter tracks of a trace: shares of a peak over time. As added if that takes few enough points; else
/// means over intervals, as short as the number of points allows.
class Counters {
 public:
  static constexpr std::size_t kMostPoints = 300'000;

  /// `length`: of the whole trace. `exact`: keep every stretch (the caller knows that they are few).
  Counters(Time length, bool exact, std::size_t most_points = kMostPoints);

  /// A track is written even if nothing is ever added to it.
  void declare(std::size_t process, const std::string& name) { tracks_[{process, name}]; }
  /// Stretches of one track must be added in order of time and not overlap.
  void add(std::size_t process, const std::string& name, Time start, Time end, double share);
  /// Writes all tracks, and a note of how exact they are.
  void write(traces::Timeline& trace);

 private:
  struct Stretch {
    Time start, end;
    double busy_us = 0;  // share of the stretch times its length
  };
  using Track = std::vector<Stretch>;

  template <class Emit>
  static void points_of(const Track& track, Emit emit);
  std::size_t points() const;
  void add_interval(Track& track, std::int64_t interval, double busy_us) const;
  void widen();

  std::map<std::pair<std::size_t, std::string>, Track> tracks_;
  std::size_t most_points_;
  Time interval_;  // 0: exact
};

}  // namespace tessera::cli
