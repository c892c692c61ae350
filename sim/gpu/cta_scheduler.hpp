#pragma once
// Which SM takes which CTA of a grid: in order, a cluster at a time to each GPC in turn, on its emptiest SMs.

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/tile/kernel.hpp"

namespace tessera::sim {

class CtaScheduler {
 public:
  struct Place {
    std::uint8_t sm, slot;
  };

  /// `sms_of_gpc`: how many each has.
  explicit CtaScheduler(std::vector<std::size_t> sms_of_gpc) : sms_of_gpc_{std::move(sms_of_gpc)} {}

  /// A kernel begins, of which every SM holds `resident` CTAs; all slots are free.
  void start(const tile::LaunchShape& shape, unsigned resident);
  /// Whether all CTAs have been placed.
  bool all_placed() const { return next_ >= grid_; }
  /// The next CTA to be placed.
  std::uint32_t next() const { return next_; }
  /// Places the next cluster in the GPC, rank by rank; nothing if none is left or the GPC has no room for
  /// one. Until the next call.
  const std::vector<Place>& place_cluster(unsigned gpc);
  void free(unsigned gpc, const Place& place) { free_[gpc][place.sm].push_back(place.slot); }

 private:
  std::vector<std::size_t> sms_of_gpc_;
  std::vector<std::vector<std::vector<std::uint8_t>>> free_;  // slots of each SM of each GPC
  std::uint32_t grid_ = 0, cluster_ = 1, next_ = 0;
  std::vector<Place> placed_;
};

}  // namespace tessera::sim
