#include "sim/gpu/hbm/stream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <queue>
#include <random>
#include <stdexcept>

#include "sim/gpu/hbm/address_map.hpp"

namespace tessera::sim {

namespace {

using Request = PseudoChannel::Request;

bool one_channel(HbmPattern p) { return p == HbmPattern::same_bank || p == HbmPattern::same_bank_group; }

void check(const HbmSpec& spec, const HbmStream& s) {
  const auto require = [](bool holds, const char* message) {
    if (!holds) throw std::invalid_argument{message};
  };
  require(s.size == 32 || s.size == 64 || s.size == 128 || s.size == 256,
          "size: expected 32, 64, 128 or 256 bytes");
  require(s.reads >= 0 && s.reads <= 1, "reads: expected a share from 0 to 1");
  require(s.in_flight >= 1 && s.in_flight <= 60'000, "in_flight: expected 1 to 60000 requests");
  require(s.stride >= 1, "stride: must be positive");
  require(s.bytes >= 0 && s.bytes <= std::int64_t{1} << 40, "bytes: expected at most 1 TiB");
  require(s.rate_gb_per_s >= 0, "rate: must not be negative");
  require(spec.access_bytes == 32, "hbm.access_bytes: only accesses of 32 B are modelled");
}

/// Which requests read: evenly spread.
bool nth_is_write(double reads, std::int64_t n) {
  const double writes = 1 - reads;
  return std::floor(static_cast<double>(n + 1) * writes) > std::floor(static_cast<double>(n) * writes);
}

/// The stream, as each pseudo-channel sees it.
std::vector<std::vector<Request>> requests_of(const HbmSpec& spec, const HbmTiming& timing,
                                              const HbmStream& s) {
  const AddressMap map{spec};
  const std::size_t channels = one_channel(s.pattern) ? 1 : map.channels();
  // 40 us of peak bandwidth when nothing else is asked for, 500 us where a bank or a bank group limits: ten,
  // and more than a hundred, refresh intervals.
  const double peak_of_one =
      static_cast<double>(spec.access_bytes) / (timing.ck.ns() * static_cast<double>(timing.bl));
  const double automatic = one_channel(s.pattern)
                               ? 500e3 * peak_of_one / (s.pattern == HbmPattern::same_bank ? 32 : 2)
                               : 40e3 * peak_of_one * static_cast<double>(channels);
  const auto bytes = s.bytes > 0 ? s.bytes : static_cast<std::int64_t>(automatic);
  const std::int64_t n = std::max<std::int64_t>(1, bytes / s.size);
  const auto run_bytes = static_cast<std::int64_t>(kRunBytes);
  const auto mask = static_cast<std::uint32_t>((1U << (s.size / 32)) - 1);
  const double interval_cycles = s.rate_gb_per_s > 0 ? s.size / s.rate_gb_per_s / timing.ck.ns() : 0;
  std::mt19937_64 random{s.seed};

  const auto banks = map.banks();
  const auto groups = static_cast<std::uint32_t>(spec.bank_groups);
  const auto runs_per_row = spec.page_bytes / run_bytes;
  const std::int64_t bytes_per_row = runs_per_row * run_bytes;
  const std::int64_t capacity = spec.capacity_bytes / s.size * s.size;
  const auto rows = static_cast<std::uint64_t>(
      std::max<std::int64_t>(1, capacity / map.channels() / banks / bytes_per_row));

  std::vector<std::vector<Request>> of(channels);
  for (std::int64_t i = 0; i < n; ++i) {
    Request r{.at = static_cast<Cycle>(static_cast<double>(i) * interval_cycles),
              .write = nth_is_write(s.reads, i)};
    std::size_t channel = 0;
    std::int64_t offset = 0;  // within the run
    switch (s.pattern) {
      case HbmPattern::sequential:
      case HbmPattern::strided: {
        const std::int64_t step = s.pattern == HbmPattern::sequential ? s.size : s.stride;
        const std::int64_t address = i % (capacity / step + 1) * step / s.size * s.size;
        const HbmLocation at = map.locate(static_cast<std::uint32_t>(address / run_bytes));
        channel = at.channel;
        r.bank = at.bank;
        r.row = at.row;
        offset = address % run_bytes;
        break;
      }
      case HbmPattern::random:
        channel = static_cast<std::size_t>(i) % channels;
        r.bank = static_cast<std::uint32_t>(random() % banks);
        r.row = static_cast<std::uint32_t>(random() % rows);
        offset =
            static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(run_bytes / s.size)) * s.size;
        r.write = static_cast<double>(random() >> 11U) * 0x1p-53 >= s.reads;
        break;
      case HbmPattern::same_bank:
        r.row = static_cast<std::uint32_t>(static_cast<std::uint64_t>(i) % rows);
        break;
      case HbmPattern::same_bank_group: {
        const std::int64_t row = i * s.size / bytes_per_row;
        const std::uint32_t in_group = banks / groups;
        r.bank = static_cast<std::uint32_t>(row) % in_group * groups;
        r.row = static_cast<std::uint32_t>(static_cast<std::uint64_t>(row) / in_group % rows);
        offset = i * s.size % run_bytes;
        break;
      }
    }
    r.sectors = static_cast<std::uint8_t>(mask << (offset / 32));
    of[channel].push_back(r);
  }
  return of;
}

struct ChannelOutcome {
  Cycle end = 0;
  HbmCounters counters;
  std::vector<HbmCommand> commands;
};

/// One pseudo-channel; appends the latencies of what `counts` to `latencies`.
ChannelOutcome run_channel(const HbmSpec& spec, const HbmTiming& timing, const HbmStream& s,
                           std::vector<Request>& requests, bool count_writes, std::vector<Cycle>& latencies) {
  PseudoChannel channel{spec, timing};
  ChannelOutcome o;
  channel.trace = [&o](const HbmCommand& c) { o.commands.push_back(c); };
  const bool closed = s.rate_gb_per_s == 0;
  // Data ends in the order of service but for writes, whose latency is shorter.
  std::priority_queue<Cycle, std::vector<Cycle>, std::greater<>> replaced;
  std::size_t sent = 0, done = 0;
  const auto send = [&](Cycle at) {
    Request& r = requests[sent];
    if (closed) r.at = at;
    r.tag = static_cast<std::uint32_t>(sent++);
    channel.push(r);
  };
  while (sent < requests.size() && (!closed || sent < static_cast<std::size_t>(s.in_flight))) send(0);
  while (done < requests.size()) {
    // Nothing may pass the arrival of a request that is still to be sent.
    while (!replaced.empty() && replaced.top() <= channel.next()) {
      const Cycle at = replaced.top();
      replaced.pop();
      if (sent < requests.size()) send(at);
    }
    if (channel.next() == PseudoChannel::kNever)
      throw std::logic_error{fmt::format("hbm_stream: {} requests are stuck", channel.pending())};
    channel.run(channel.next() + 1, [&](const PseudoChannel::Completion& c) {
      ++done;
      o.end = std::max(o.end, c.data_end);
      const Request& r = requests[c.tag];
      if (r.write == count_writes) latencies.push_back(c.data_end - r.at);
      if (closed) replaced.push(c.data_end);
    });
  }
  o.counters = channel.counters();
  std::stable_sort(o.commands.begin(), o.commands.end(),
                   [](const auto& a, const auto& b) { return a.at < b.at; });
  return o;
}

HbmLatency latency_of(std::vector<Cycle>& cycles, double ck_ns) {
  if (cycles.empty()) return {};
  std::sort(cycles.begin(), cycles.end());
  double sum = 0;
  for (const Cycle c : cycles) sum += static_cast<double>(c);
  const auto quantile = [&](double q) {
    const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(cycles.size())));
    return static_cast<double>(cycles[std::max<std::size_t>(rank, 1) - 1]) * ck_ns;
  };
  return {.mean_ns = sum / static_cast<double>(cycles.size()) * ck_ns,
          .p50_ns = quantile(0.5),
          .p90_ns = quantile(0.9),
          .p99_ns = quantile(0.99),
          .max_ns = static_cast<double>(cycles.back()) * ck_ns};
}

}  // namespace

HbmStreamResult run_hbm_stream(const HbmSpec& spec, const HbmStream& stream, const HbmTraceVisitor& visit) {
  check(spec, stream);
  const HbmTiming timing{spec};
  std::vector<std::vector<Request>> of = requests_of(spec, timing, stream);
  HbmStreamResult result{.channels = static_cast<int>(of.size())};
  std::vector<Cycle> latencies;
  Cycle end = 0;
  for (std::uint32_t c = 0; c < of.size(); ++c) {
    const bool count_writes = stream.reads == 0;
    const ChannelOutcome o = run_channel(spec, timing, stream, of[c], count_writes, latencies);
    end = std::max(end, o.end);
    result.commands += o.counters;
    result.requests += static_cast<std::int64_t>(of[c].size());
    const HbmLostTime lost = lost_time(spec, timing, o.commands, o.end);
    const double n = static_cast<double>(of.size());
    result.lost.data += lost.data / n;
    result.lost.turnaround += lost.turnaround / n;
    result.lost.refresh += lost.refresh / n;
    result.lost.rows += lost.rows / n;
    result.lost.bank_groups += lost.bank_groups / n;
    result.lost.other += lost.other / n;
    if (visit) visit(c, o.commands);
    of[c] = {};
  }
  result.bytes = static_cast<std::int64_t>(result.commands.read_bytes + result.commands.write_bytes);
  result.duration = timing.ck * end;
  result.gb_per_s = static_cast<double>(result.bytes) / result.duration.ns();
  result.peak_gb_per_s =
      static_cast<double>(spec.access_bytes) / (timing.ck * timing.bl).ns() * result.channels;
  result.latency = latency_of(latencies, timing.ck.ns());
  result.row_hit_rate = static_cast<double>(result.commands.row_hits) / static_cast<double>(result.requests);
  return result;
}

}  // namespace tessera::sim
