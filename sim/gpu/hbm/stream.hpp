#pragma once
// The HBM driven alone by a stream of addresses: what its timing constraints make of an access pattern.
//
// Pseudo-channels do not meet, so each is run by itself, from its share of the stream.

#include <cstdint>
#include <functional>

#include "sim/core/hardware.hpp"
#include "sim/core/time.hpp"
#include "sim/gpu/hbm/lost_time.hpp"
#include "sim/gpu/hbm/pseudo_channel.hpp"

namespace tessera::sim {

enum class HbmPattern : std::uint8_t {
  sequential,      ///< consecutive addresses, over all pseudo-channels
  strided,         ///< `stride` bytes apart, over all pseudo-channels
  random,          ///< any bank, row and column; every pseudo-channel equally often
  same_bank,       ///< one pseudo-channel: a new row of one bank every time
  same_bank_group  ///< one pseudo-channel: the rows of one bank group, column by column
};

struct HbmStream {
  HbmPattern pattern = HbmPattern::sequential;
  double reads = 1;        ///< share of requests that read; they are spread evenly, or at random with random
  std::int64_t bytes = 0;  ///< to move in all; 0: enough for a steady state
  std::int64_t stride = 4096;
  int size = 256;      ///< bytes of a request: 32, 64, 128 or 256
  int in_flight = 64;  ///< requests per pseudo-channel, each replaced when its data has moved
  double rate_gb_per_s =
      0;  ///< 0: as fast as in_flight allows; else requests come at this pace, however many wait
  std::uint64_t seed = 1;
};

/// From a request's arrival at the controller to the end of its data, of reads (of writes if nothing reads).
struct HbmLatency {
  double mean_ns = 0, p50_ns = 0, p90_ns = 0, p99_ns = 0, max_ns = 0;
};

struct HbmStreamResult {
  int channels = 0;  ///< pseudo-channels that took part
  std::int64_t bytes = 0, requests = 0;
  Time duration;                           ///< the first arrival to the last beat of data
  double gb_per_s = 0, peak_gb_per_s = 0;  ///< peak: of the pseudo-channels that took part
  HbmLatency latency;
  double row_hit_rate = 0;  ///< of requests
  HbmCounters commands;     ///< sums
  HbmLostTime lost;         ///< mean of the pseudo-channels
};

/// Sees a pseudo-channel's commands in the order of time, after it has run.
using HbmTraceVisitor = std::function<void(std::uint32_t channel, const std::vector<HbmCommand>&)>;

/// Throws std::invalid_argument for a stream that makes no sense.
HbmStreamResult run_hbm_stream(const HbmSpec& spec, const HbmStream& stream,
                               const HbmTraceVisitor& visit = {});

}  // namespace tessera::sim
