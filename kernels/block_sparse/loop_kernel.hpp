#pragma once
// A kernel of one role whose CTAs each make some trips of one loop.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tile/kernel.hpp"

namespace tessera::kernels {

/// Derived gives body(cta, trips), a Program that calls item(trips - 1) and, before every trip but the last,
/// trip(how many there are before the last); and whatever of it the outline's key must tell apart.
template <class Derived>
class LoopKernel : public tile::Kernel {
 public:
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t) const override {
    return static_cast<const Derived&>(*this).body(cta.index, trips_of(cta.index));
  }
  tile::Outline outline() const override {
    tile::Outline o{.pieces = pieces_, .rounds = rounds_};
    o.between_read = between_read_;
    o.between_written = between_written_;
    o.operand_bytes = operand_bytes_;
    o.reread_bytes = reread_bytes_;
    o.rereads = reread_bytes_ > 0 ? 2 : 1;
    return o;
  }
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t,
                                        std::uint32_t trips) const override {
    auto e = std::make_unique<Derived>(static_cast<const Derived&>(*this));
    e->pieces_ = {{ctas, trips}};
    e->rounds_ = 1;
    e->lay_out();
    return e;
  }

 protected:
  /// CTAs with as many trips each, by index; then the same again for every round.
  void set_work(std::vector<tile::Pieces> pieces, std::uint64_t rounds) {
    pieces_ = std::move(pieces);
    rounds_ = rounds;
    lay_out();
  }
  void add_ctas(std::uint64_t count, std::uint64_t trips) {
    if (count == 0) return;
    const auto n = static_cast<std::uint32_t>(trips);
    if (!pieces_.empty() && pieces_.back().trips == n)
      pieces_.back().count += count;
    else
      pieces_.push_back({count, n});
  }
  void lay_out() {
    ends_.clear();
    std::uint64_t ctas = 0, trips = 0;
    for (const tile::Pieces& p : pieces_) {
      ends_.push_back(ctas += p.count);
      if (p.trips > 0) trips += p.count * (p.trips - 1);
    }
    shape_.grid = static_cast<std::uint32_t>(ctas * rounds_);
    shape_.trips = shape_.even_trips = trips * rounds_;
  }

  tile::LaunchShape shape_;
  std::vector<tile::Pieces> pieces_;
  std::uint64_t rounds_ = 1;
  std::uint64_t between_read_ = 0, between_written_ = 0, reread_bytes_ = 0;
  std::int64_t operand_bytes_ = -1;  // see tile::Outline

 private:
  std::uint32_t trips_of(std::uint32_t index) const {
    const std::uint64_t within = index % ends_.back();
    const auto at = std::upper_bound(ends_.begin(), ends_.end(), within);
    return pieces_[static_cast<std::size_t>(at - ends_.begin())].trips;
  }
  std::vector<std::uint64_t> ends_;
};

}  // namespace tessera::kernels
