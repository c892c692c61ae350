#include "sim/gpu/cta_scheduler.hpp"

#include <algorithm>

namespace tessera::sim {

void CtaScheduler::start(const tile::LaunchShape& shape, unsigned resident) {
  grid_ = shape.grid;
  cluster_ = shape.cluster;
  next_ = 0;
  free_.assign(sms_of_gpc_.size(), {});
  for (std::size_t g = 0; g < free_.size(); ++g) {
    free_[g].resize(sms_of_gpc_[g]);
    for (auto& slots : free_[g]) {
      for (unsigned s = resident; s > 0; --s) slots.push_back(static_cast<std::uint8_t>(s - 1));
    }
  }
}

const std::vector<CtaScheduler::Place>& CtaScheduler::place_cluster(unsigned gpc) {
  placed_.clear();
  if (all_placed()) return placed_;
  auto& sms = free_[gpc];
  std::size_t room = 0;
  for (const auto& slots : sms) room += slots.size();
  if (room < cluster_) return placed_;
  for (std::uint32_t rank = 0; rank < cluster_; ++rank) {
    const auto emptiest = std::max_element(sms.begin(), sms.end(),
                                           [](const auto& a, const auto& b) { return a.size() < b.size(); });
    placed_.push_back({static_cast<std::uint8_t>(emptiest - sms.begin()), emptiest->back()});
    emptiest->pop_back();
  }
  next_ += cluster_;
  return placed_;
}

}  // namespace tessera::sim
