#pragma once
// The kernels around a paged attention: the cache write, the schedule, a combination with nothing to combine.

#include "kernels/attention_paged/schedule.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

/// Each warp moves a part of one new k row and of the v row beside it to their place in the cache.
class CacheWrite final : public tile::Kernel {
 public:
  CacheWrite(const PagedCall& call, const PagedAddresses& at);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;

 private:
  PagedCall call_;
  PagedAddresses at_;
  std::uint64_t row_bytes_;
  std::uint32_t warps_per_row_;
  tile::LaunchShape shape_;
};

/// Lengths to numbers of tiles and splits, and the order of sequences.
class ScheduleKernel final : public tile::Kernel {
 public:
  ScheduleKernel(const PagedCall& call, const PagedAddresses& at);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  PagedAddresses at_;
  std::uint32_t sequences_;
  tile::LaunchShape shape_;
};

/// A combination whose CTAs find one split and leave.
class NothingToCombine final : public tile::Kernel {
 public:
  NothingToCombine(const PagedCall& call, const PagedAddresses& at);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override { return {.key = shape_.name}; }

 private:
  PagedAddresses at_;
  tile::LaunchShape shape_;
};

/// The combination of so many splits.
StreamWork combine_work(const PagedCall& call, std::uint32_t splits, const PagedAddresses& at);

}  // namespace tessera::kernels
