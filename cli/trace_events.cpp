#include "cli/trace_events.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace tessera::cli {

namespace {
// Intervals of the whole trace before any are joined: about what a wide screen can show, zoomed in 30 times.
constexpr std::int64_t kMostIntervals = 1 << 16;

std::int64_t ns_of(Time t) { return t.fs / 1'000'000; }
std::string us_text(std::int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }
}  // namespace

std::string json_string(std::string_view text) { return nlohmann::json(text).dump(); }

void Trace::name_process(std::size_t process, std::string_view name) {
  event(R"({{"ph":"M","pid":{},"name":"process_name","args":{{"name":{}}}}})", process, json_string(name));
  event(R"({{"ph":"M","pid":{},"name":"process_sort_index","args":{{"sort_index":{}}}}})", process, process);
}

void Trace::name_track(std::size_t process, int track, std::string_view name) {
  event(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":{}}}}})", process, track,
        json_string(name));
  event(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}}}})", process,
        track, track);
}

void Trace::slice(std::size_t process, int track, Time start, Time end, std::string_view name,
                  std::string_view category, std::string_view args, std::uint64_t flow) {
  event(R"({{"ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"name":{},"cat":{},"args":{{{}}}}})", process, track,
        us_text(ns_of(start)), us_text(ns_of(end) - ns_of(start)), json_string(name), json_string(category),
        args);
  if (flow == 0) return;
  const bool first = flows_.insert(flow).second;
  if (!first) flows_.erase(flow);
  event(R"({{"ph":"{}","pid":{},"tid":{},"ts":{},"id":{},"name":"message","cat":"flow"{}}})",
        first ? 's' : 'f', process, track, us_text(ns_of(start)), flow, first ? "" : R"(,"bp":"e")");
}

void Trace::counter(std::size_t process, Time at, std::string_view name, double value,
                    std::string_view unit) {
  event(R"({{"ph":"C","pid":{},"ts":{},"name":{},"args":{{{}:{:.2f}}}}})", process, us_text(ns_of(at)),
        json_string(name), unit == traces::kPercent ? "\"percent\"" : json_string(unit), value);
}

void Trace::note(std::string_view key, std::string_view text) {
  notes_ += fmt::format("{}{}:{}", notes_.empty() ? "" : ",", json_string(key), json_string(text));
}

std::string Trace::finish() const {
  return "{\"displayTimeUnit\":\"ns\",\"otherData\":{" + notes_ + "},\"traceEvents\":[\n" +
         fmt::to_string(events_) + "\n]}\n";
}

int Lanes::take(Time start, Time end) {
  for (std::size_t lane = 0; lane < free_at_.size(); ++lane) {
    if (free_at_[lane] <= start) {
      free_at_[lane] = end;
      return static_cast<int>(lane);
    }
  }
  free_at_.push_back(end);
  return static_cast<int>(free_at_.size()) - 1;
}

Counters::Counters(Time length, bool exact, std::size_t most_points) : most_points_{most_points} {
  if (!exact) interval_ = max(Time::nanoseconds(1), Time{length.fs / kMostIntervals + 1});
}

void Counters::add(std::size_t process, const std::string& name, Time start, Time end, double share) {
  Track& track = tracks_[{process, name}];
  if (end <= start) return;
  if (interval_ == Time{}) {
    track.push_back({start, end, share * (end - start).us()});
    return;
  }
  for (Time from = start; from < end;) {
    const std::int64_t interval = from.fs / interval_.fs;
    const Time to = min(end, interval_ * (interval + 1));
    add_interval(track, interval, share * (to - from).us());
    from = to;
  }
}

void Counters::add_interval(Track& track, std::int64_t interval, double busy_us) const {
  const Time start = interval_ * interval;
  if (track.empty() || track.back().start < start) track.push_back({start, start + interval_, 0});
  track.back().busy_us += busy_us;
}

void Counters::widen() {
  interval_ += interval_;
  for (auto& [name, track] : tracks_) {
    const Track narrow = std::exchange(track, {});
    for (const Stretch& s : narrow) add_interval(track, s.start.fs / interval_.fs, s.busy_us);
  }
}

/// A step function from 0 on: a point wherever the value, to two decimals, changes.
template <class Emit>
void Counters::points_of(const Track& track, Emit emit) {
  Time last;
  std::int64_t value = 0;
  const auto step = [&](Time at, std::int64_t to) {
    if (to == value) return;
    value = to;
    emit(at, static_cast<double>(to) / 100);
  };
  emit(Time{}, 0.0);
  for (const Stretch& s : track) {
    if (last < s.start) step(last, 0);
    step(s.start, std::llround(s.busy_us / (s.end - s.start).us() * 1e4));
    last = s.end;
  }
  step(last, 0);
}

std::size_t Counters::points() const {
  std::size_t n = 0;
  for (const auto& [name, track] : tracks_) points_of(track, [&](Time, double) { ++n; });
  return n;
}

void Counters::write(traces::Timeline& trace) {
  // Half a trace's intervals hold at least half its points sooner or later: this ends.
  while (interval_ != Time{} && points() > std::max(most_points_, 4 * tracks_.size())) widen();
  for (const auto& [key, track] : tracks_) {
    points_of(track,
              [&, &id = key](Time at, double percent) { trace.counter(id.first, at, id.second, percent); });
  }
  trace.note("counters", interval_ == Time{}
                             ? "as simulated"
                             : fmt::format("means over {:.3f} us: the run has too many changes "
                                           "for more detail",
                                           interval_.us()));
}

}  // namespace tessera::cli
