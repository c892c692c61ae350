#pragma once
// A timeline being drawn: processes with tracks of slices and with counters. Formats are behind it.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/core/time.hpp"

namespace tessera::traces {

inline constexpr std::string_view kPercent = "%";

class Timeline {
 public:
  virtual ~Timeline() = default;
  virtual void name_process(std::size_t process, std::string_view name) = 0;
  virtual void name_track(std::size_t process, int track, std::string_view name) = 0;
  /// `args` is a JSON object's inside. Slices of one `flow` (not 0) are joined by arrows, in order of time,
  /// in formats that have them.
  virtual void slice(std::size_t process, int track, Time start, Time end, std::string_view name,
                     std::string_view category, std::string_view args, std::uint64_t flow = 0) = 0;
  virtual void counter(std::size_t process, Time at, std::string_view name, double value,
                       std::string_view unit = kPercent) = 0;
  /// What the timeline says about itself, beside its events.
  virtual void note(std::string_view key, std::string_view text) = 0;
};

}  // namespace tessera::traces
