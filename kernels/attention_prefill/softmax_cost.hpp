#pragma once
// What the softmax of FlashAttention-3 costs one warpgroup, step by step (hopper/softmax.h, mask.h). The
// steps depend on each other in this order.
//
// A thread has a quarter of the columns of two rows. Reductions over them are two chains of dependent
// instructions, which no free lane can shorten; four lanes share a row.

#include <cstdint>

#include "kernels/tile/latency.hpp"
#include "kernels/tile/program.hpp"

namespace tessera::kernels {

constexpr std::uint32_t kWarpgroupRows = 64;

/// Two k-steps of PV.
constexpr std::uint32_t kPartColumns = 32;

struct SoftmaxCost {
  std::uint32_t tile_kv, head_dim;

  std::uint64_t scores() const { return std::uint64_t{kWarpgroupRows} * tile_kv; }
  std::uint64_t outputs() const { return std::uint64_t{kWarpgroupRows} * head_dim; }
  /// A reduction over a thread's columns.
  std::uint64_t reduction() const { return std::uint64_t{tile_kv} / 4 * kAluLatency; }

  /// Compare and select per score.
  tile::Op mask() const {
    return tile::compute({.fma = 0, .integer = 2 * scores(), .mufu = 0, .convert = 0, .shuffle = 0});
  }
  /// A maximum per score, two rounds of shuffles and maxima; then the factor for what was summed so far.
  tile::Op row_max() const {
    return tile::compute({.fma = 0,
                          .integer = scores(),
                          .mufu = kWarpgroupRows * 4,
                          .convert = 0,
                          .shuffle = 4 * kWarpgroupRows * 2},
                         reduction() + 2 * (kShuffleLatency + kAluLatency) + 2 * kAluLatency + kMufuLatency);
  }
  /// The exponentials take longest, so they are told in parts: products that another warpgroup begins
  /// meanwhile slow down what is left.
  std::uint32_t parts() const { return (tile_kv + kPartColumns - 1) / kPartColumns; }
  /// Per score: scale and subtract in one FMA, exp2.
  tile::Op exponentials(std::uint32_t part) const {
    const bool last = part + 1 == parts();
    const std::uint64_t n =
        std::uint64_t{kWarpgroupRows} * (last ? tile_kv - part * kPartColumns : kPartColumns);
    tile::Op op = tile::compute({.fma = n, .integer = 0, .mufu = n, .convert = 0, .shuffle = 0},
                                last ? kAluLatency + kMufuLatency : 0);
    op.last_in_group = last;
    return op;
  }
  /// To a thread's part of the row's sum.
  tile::Op row_sum() const {
    return tile::compute({.fma = scores(), .integer = 0, .mufu = 0, .convert = 0, .shuffle = 0}, reduction());
  }
  /// To the A operand of PV, two at a time.
  tile::Op rounding() const {
    return tile::compute({.fma = 0, .integer = 0, .mufu = 0, .convert = scores() / 2, .shuffle = 0});
  }
  tile::Op rescale() const {
    return tile::compute({.fma = outputs(), .integer = 0, .mufu = 0, .convert = 0, .shuffle = 0});
  }
  /// Row sums over lanes, reciprocals, logarithms.
  tile::Op finalize() const {
    return tile::compute({.fma = kWarpgroupRows * 16,
                          .integer = 0,
                          .mufu = kWarpgroupRows * 8,
                          .convert = 0,
                          .shuffle = 4 * kWarpgroupRows * 2},
                         2 * (kShuffleLatency + kAluLatency) + 2 * kMufuLatency);
  }
  tile::Op output_rounding() const {
    return tile::compute({.fma = 0, .integer = 0, .mufu = 0, .convert = outputs() / 2, .shuffle = 0});
  }
};

}  // namespace tessera::kernels
