#include "traces/timelines/vcd.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace tessera::traces {

namespace {

std::int64_t ns_of(Time t) { return t.fs / 1'000'000; }

/// Short texts of printable characters, as the format wants.
std::string code_of(std::uint32_t signal) {
  std::string code;
  do {
    code += static_cast<char>('!' + signal % 94);
    signal /= 94;
  } while (signal > 0);
  return code;
}

/// Without what ends a word or means something to viewers.
std::string word(std::string_view text) {
  std::string out{text};
  for (char& c : out) {
    if (c <= ' ' || c > '~' || c == '[' || c == ']' || c == '$' || c == '#') c = '_';
  }
  return out.empty() ? "_" : out;
}

}  // namespace

std::uint32_t VcdTimeline::track_of(std::size_t process, int track) {
  const auto [known, added] =
      processes_[process].tracks.try_emplace(track, static_cast<std::uint32_t>(signals_.size()));
  if (added) {
    signals_.push_back({Kind::busy, fmt::format("track_{}_busy", track)});
    signals_.push_back({Kind::text, fmt::format("track_{}", track)});
  }
  return known->second;
}

void VcdTimeline::name_track(std::size_t process, int track, std::string_view name) {
  const std::uint32_t signal = track_of(process, track);
  signals_[signal].name = word(name) + "_busy";
  signals_[signal + 1].name = word(name);
}

void VcdTimeline::slice(std::size_t process, int track, Time start, Time end, std::string_view name,
                        std::string_view, std::string_view, std::uint64_t) {
  const std::uint32_t signal = track_of(process, track);
  changes_.push_back({ns_of(start), signal, "1"});
  changes_.push_back({ns_of(start), signal + 1, fmt::format("s{} ", word(name))});
  changes_.push_back({ns_of(end), signal, "0"});
  changes_.push_back({ns_of(end), signal + 1, "sidle "});
}

void VcdTimeline::counter(std::size_t process, Time at, std::string_view name, double value,
                          std::string_view unit) {
  const auto [known, added] = processes_[process].counters.try_emplace(
      std::string{name}, static_cast<std::uint32_t>(signals_.size()));
  if (added) signals_.push_back({Kind::real, word(name) + "_" + (unit == kPercent ? "percent" : word(unit))});
  changes_.push_back({ns_of(at), known->second, fmt::format("r{:.2f} ", value)});
}

void VcdTimeline::note(std::string_view key, std::string_view text) {
  notes_ += fmt::format("$comment {}: {} $end\n", key, text);
}

std::string VcdTimeline::finish() {
  fmt::memory_buffer out;
  const auto put = [&](std::string_view text) { out.append(text); };
  put("$timescale 1 ns $end\n");
  put(notes_);
  for (const auto& [id, process] : processes_) {
    put(fmt::format("$scope module {} $end\n", word(process.name)));
    const auto declare = [&](std::uint32_t s, const char* type) {
      put(fmt::format("$var {} {} {} $end\n", type, code_of(s), signals_[s].name));
    };
    for (const auto& [track, signal] : process.tracks) {
      declare(signal, "wire 1");
      declare(signal + 1, "string 1");
    }
    for (const auto& [name, signal] : process.counters) declare(signal, "real 64");
    put("$upscope $end\n");
  }
  put("$enddefinitions $end\n#0\n$dumpvars\n");
  for (std::uint32_t s = 0; s < signals_.size(); ++s) {
    const char* first = signals_[s].kind == Kind::busy   ? "0"
                        : signals_[s].kind == Kind::text ? "sidle "
                                                         : "r0 ";
    put(first + code_of(s) + "\n");
  }
  put("$end\n");
  // Of changes at one time the one drawn last holds: a slice that begins where another ends.
  std::stable_sort(changes_.begin(), changes_.end(),
                   [](const Change& a, const Change& b) { return a.at_ns < b.at_ns; });
  std::int64_t now = 0;
  for (const Change& c : changes_) {
    if (c.at_ns != now) put(fmt::format("#{}\n", c.at_ns));
    now = c.at_ns;
    put(c.value + code_of(c.signal) + "\n");
  }
  return fmt::to_string(out);
}

}  // namespace tessera::traces
