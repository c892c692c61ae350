#include "traces/timelines/perfetto.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tessera::traces {

namespace {

// Trace
constexpr std::uint32_t kPacket = 1;
// TracePacket
constexpr std::uint32_t kTimestamp = 8, kSequence = 10, kTrackEvent = 11, kSequenceFlags = 13,
                        kTrackDescriptor = 60;
constexpr std::uint64_t kIncrementalStateCleared = 1;
// TrackDescriptor
constexpr std::uint32_t kUuid = 1, kTrackName = 2, kProcess = 3, kParent = 5, kCounter = 8,
                        kChildOrdering = 11, kRank = 12;
constexpr std::uint64_t kExplicitOrder = 3;
// ProcessDescriptor, CounterDescriptor
constexpr std::uint32_t kPid = 1, kProcessName = 6, kUnitName = 6;
// TrackEvent
constexpr std::uint32_t kAnnotation = 4, kType = 9, kTrack = 11, kCategory = 22, kName = 23,
                        kDoubleCounter = 44, kFlow = 47;
constexpr std::uint64_t kBegin = 1, kEnd = 2, kInstant = 3, kCounterValue = 4;
// DebugAnnotation
constexpr std::uint32_t kInt = 4, kDouble = 5, kString = 6, kAnnotationName = 10;

constexpr std::uint64_t kCounters = 0x8000'0000, kAbout = 0xFFFF'FFFF;

std::uint64_t process_uuid(std::size_t process) { return (static_cast<std::uint64_t>(process) + 1) << 32; }
std::uint64_t track_uuid(std::size_t process, int track) {
  return process_uuid(process) + static_cast<std::uint64_t>(track) + 1;
}

}  // namespace

void PerfettoTimeline::packet(const WireWriter& inside) {
  WireWriter whole;
  whole.bytes(kPacket, inside.text());
  sink_(whole.text());
}

void PerfettoTimeline::descriptor(std::uint64_t uuid, std::string_view name, std::uint64_t parent,
                                  std::string_view unit) {
  announced_.insert(uuid);
  WireWriter d, p;
  d.varint(kUuid, uuid);
  d.bytes(kTrackName, name);
  if (parent != 0) d.varint(kParent, parent);
  d.varint(kRank, uuid & 0xFFFF'FFFF);
  if (!unit.empty()) {
    WireWriter c;
    c.bytes(kUnitName, unit);
    d.bytes(kCounter, c.text());
  }
  p.bytes(kTrackDescriptor, d.text());
  packet(p);
}

void PerfettoTimeline::event(Time at, const WireWriter& inside) {
  WireWriter p;
  p.varint(kTimestamp, static_cast<std::uint64_t>(at.fs / 1'000'000));
  p.varint(kSequence, 1);
  if (!begun_) p.varint(kSequenceFlags, kIncrementalStateCleared);
  begun_ = true;
  p.bytes(kTrackEvent, inside.text());
  packet(p);
}

void PerfettoTimeline::name_process(std::size_t process, std::string_view name) {
  WireWriter inner, d, p;
  inner.varint(kPid, process + 1);
  inner.bytes(kProcessName, name);
  d.varint(kUuid, process_uuid(process));
  d.bytes(kProcess, inner.text());
  d.varint(kChildOrdering, kExplicitOrder);
  p.bytes(kTrackDescriptor, d.text());
  packet(p);
}

void PerfettoTimeline::name_track(std::size_t process, int track, std::string_view name) {
  descriptor(track_uuid(process, track), name, process_uuid(process), {});
}

void PerfettoTimeline::annotate(WireWriter& out, std::string_view args) {
  if (args.empty()) return;
  const nlohmann::json object = nlohmann::json::parse(fmt::format("{{{}}}", args));
  for (const auto& [key, value] : object.items()) {
    WireWriter a;
    a.bytes(kAnnotationName, key);
    if (value.is_string()) {
      a.bytes(kString, value.get_ref<const std::string&>());
    } else if (value.is_number_integer()) {
      a.varint(kInt, static_cast<std::uint64_t>(value.get<std::int64_t>()));
    } else if (value.is_number()) {
      a.number(kDouble, value.get<double>());
    } else {
      a.bytes(kString, value.dump());
    }
    out.bytes(kAnnotation, a.text());
  }
}

void PerfettoTimeline::slice(std::size_t process, int track, Time start, Time end, std::string_view name,
                             std::string_view category, std::string_view args, std::uint64_t flow) {
  const std::uint64_t uuid = track_uuid(process, track);
  // A lane may be used before it is known how many there are.
  if (announced_.count(uuid) == 0)
    descriptor(uuid, fmt::format("track {}", track), process_uuid(process), {});
  WireWriter begin, stop;
  begin.varint(kType, kBegin);
  begin.varint(kTrack, uuid);
  begin.bytes(kCategory, category);
  begin.bytes(kName, name);
  annotate(begin, args);
  if (flow != 0) begin.fixed64(kFlow, flow);
  event(start, begin);
  stop.varint(kType, kEnd);
  stop.varint(kTrack, uuid);
  event(end, stop);
}

void PerfettoTimeline::counter(std::size_t process, Time at, std::string_view name, double value,
                               std::string_view unit) {
  const auto [known, added] = counters_.try_emplace({process, std::string{name}},
                                                    process_uuid(process) + kCounters + counters_.size());
  if (added) descriptor(known->second, name, process_uuid(process), unit);
  WireWriter e;
  e.varint(kType, kCounterValue);
  e.varint(kTrack, known->second);
  e.number(kDoubleCounter, value);
  event(at, e);
}

void PerfettoTimeline::note(std::string_view key, std::string_view text) {
  if (announced_.count(kAbout) == 0) descriptor(kAbout, "about", 0, {});
  WireWriter e;
  e.varint(kType, kInstant);
  e.varint(kTrack, kAbout);
  e.bytes(kName, fmt::format("{}: {}", key, text));
  event(Time{}, e);
}

}  // namespace tessera::traces
