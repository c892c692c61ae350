#pragma once
// A timeline as a value change dump (IEEE 1364-2005, clause 18), for GTKWave: of each track a wire that is 1
// during slices and a string with the slice's name (GTKWave's extension), of each counter a real. Times in
// ns.
//
// Written from what a run recorded rather than by sc_trace: modules run ahead of SystemC's own time, inside
// their lookahead, so a trace file of SystemC's would show changes at the times of activations.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "traces/timelines/timeline.hpp"

namespace tessera::traces {

class VcdTimeline : public Timeline {
 public:
  void name_process(std::size_t process, std::string_view name) override { processes_[process].name = name; }
  void name_track(std::size_t process, int track, std::string_view name) override;
  void slice(std::size_t process, int track, Time start, Time end, std::string_view name,
             std::string_view category, std::string_view args, std::uint64_t flow = 0) override;
  void counter(std::size_t process, Time at, std::string_view name, double value,
               std::string_view unit = kPercent) override;
  void note(std::string_view key, std::string_view text) override;

  /// The whole file.
  std::string finish();

 private:
  enum class Kind : std::uint8_t { busy, text, real };
  struct Signal {
    Kind kind = Kind::busy;
    std::string name;
  };
  struct Process {
    std::string name;
    std::map<int, std::uint32_t> tracks;  // to the busy signal; its text is the next
    std::map<std::string, std::uint32_t> counters;
  };
  struct Change {
    std::int64_t at_ns = 0;
    std::uint32_t signal = 0;
    std::string value;
  };
  std::uint32_t track_of(std::size_t process, int track);

  std::map<std::size_t, Process> processes_;
  std::vector<Signal> signals_;
  std::vector<Change> changes_;
  std::string notes_;
};

}  // namespace tessera::traces
