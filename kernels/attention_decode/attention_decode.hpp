#pragma once
// Decode attention: one query row per sequence against its cache, split over CTAs along the cache
// (FlashDecoding), partial results added up by a second kernel. The query heads that share a kv head are
// packed into the rows of one product. [FlashAttention-2/3 split-KV]

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// FlashAttention's heuristic: the fewest splits whose last wave is at least 85 % as full as the best.
std::uint32_t choose_splits(std::int64_t groups, std::int64_t sms, std::int64_t kv_tiles);

std::vector<std::unique_ptr<tile::Kernel>> make_attention_decode(const models::AttentionDecode& attention,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses);

class SplitKvDecode final : public tile::Kernel {
 public:
  SplitKvDecode(const models::AttentionDecode& attention, std::uint32_t splits, const GpuSpec& gpu,
                const Addresses& addresses);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

  static constexpr std::uint32_t kTile = 128;  // keys per step
  static constexpr std::uint32_t kStages = 2;

 private:
  struct Range {
    std::uint32_t first, last;  // kv tiles
    /// Of the trips from tile `t` on those that are alike: the ring is full, and the last tile may be short.
    std::uint32_t alike(std::uint32_t t) const {
      return t >= first + kStages && t + 1 < last ? last - 1 - t : 0;
    }
  };
  Range range(std::uint32_t split) const;
  tile::Box kv_box(std::uint64_t base, std::uint64_t group, std::uint32_t tile) const;
  tile::Program producer(tile::Cta cta) const;
  tile::Program consumer(tile::Cta cta) const;
  tile::Program ampere(tile::Cta cta) const;
  tile::Op load_q(std::uint64_t group) const;
  tile::Op store_out(std::uint64_t group, std::uint32_t split) const;

  models::AttentionDecode attention_;
  bool hopper_;
  std::uint64_t q_, k_, v_, out_, stats_;
  std::uint32_t splits_, element_bytes_, out_bytes_;
  std::uint32_t group_rows_;  // query heads per kv head
  std::uint32_t kv_tiles_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
