#pragma once
// FlashAttention-3, variable lengths, keys and values through a page table (hopper/, Varlen, PagedKVNonTMA).
//
// As the plain kernel (attention_prefill/flash3), but: the query heads of one key head share a tile (packed
// GQA); four producer warps gather K and V by cp.async; the next tile comes from a search over the sequences'
// numbers of tiles; consumers fetch it before they store, and V of the next tile waits for that store, since
// the output is staged where V was; up to head size 128 the warpgroups take turns at the tensor cores.
//
// One producer warp searches. The other three learn of the tile as the consumers do, at a barrier of all
// warps: nothing of the next tile is loaded before the consumers are done with the products of this one.

#include <algorithm>

#include "kernels/attention_paged/schedule.hpp"
#include "kernels/attention_paged/search_cost.hpp"
#include "kernels/attention_prefill/query_tiles.hpp"
#include "kernels/tile/divisor.hpp"

namespace tessera::kernels {

class PagedFlash final : public tile::Kernel {
 public:
  PagedFlash(const PagedCall& call, const PagedSchedule& schedule, const GpuSpec& gpu,
             const PagedAddresses& at);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  static constexpr std::uint32_t kEnd = 0xffffffffU;
  enum Barrier : std::uint8_t {
    q_full,
    q_empty,
    tile_full,
    tile_empty,
    o_empty,
    k_full,
    k_empty = 7,
    v_full = 9,
    v_empty = 11,
    tile_asked = 13
  };

  /// A piece of work: packed query rows of one key head against a range of key tiles.
  struct Tile {
    std::uint32_t batch, head, split;
    std::uint32_t first_row, rows;              // packed
    std::uint32_t kv_first, kv_last, unmasked;  // key tiles; those before `unmasked` need no mask
    /// Of the trips from number `i` on, from the last key tile down, those that are alike: not the first
    /// ones, the masked ones, or the last.
    std::uint32_t alike(std::uint32_t i) const {
      return i >= kTripsToStep && kv_last - 1 - i < unmasked && kv_first + i + 1 < kv_last
                 ? kv_last - 1 - i - kv_first
                 : 0;
    }
  };
  std::uint32_t alike(const Tile& t) const {
    if (t.kv_first >= t.kv_last) return 0;
    const std::uint32_t tiles = t.kv_last - t.kv_first, masked = t.kv_last - std::min(t.kv_last, t.unmasked);
    const std::uint32_t first = std::max(kTripsToStep, masked);
    return first < tiles ? t.alike(first) : 0;
  }
  struct Ring {
    std::uint32_t stage = 0, phase = 0;
    void next() {
      stage ^= 1U;
      phase ^= stage == 0 ? 1U : 0U;
    }
  };
  /// Packed rows are runs of `group` heads: whole ones, and parts at both ends.
  struct Runs {
    std::uint32_t count = 0;
    tile::Box box[3];
  };

  std::uint32_t tiles_per_sequence() const { return kv_heads_ * schedule_.query_tiles * schedule_.splits; }
  std::uint32_t tiles() const { return sequences_ * tiles_per_sequence(); }
  /// Where tiles are taken longest first, how many heads are finished before the next ones begin: as many as
  /// share the L2; of split ones, one split of one head (hopper/tile_scheduler.hpp).
  std::uint32_t heads_per_section() const { return schedule_.splits > 1 ? 1 : schedule_.heads_in_l2; }
  Tile tile_at(std::uint32_t index) const;
  /// Rows and keys of a query tile's split.
  Tile tile_of(std::uint32_t block, std::uint32_t split) const;
  /// How far apart, in sequences, the tiles are that a CTA takes one after another.
  std::uint32_t sequences_per_turn() const {
    return std::max(1U, std::min(shape_.grid, tiles()) / tiles_per_sequence());
  }
  /// The same for excerpts, all that takes the search one step being alike.
  std::uint32_t excerpt_sequences_per_turn() const { return searched_sequences(sequences_per_turn()); }
  Runs packed_rows(std::uint64_t base, std::uint32_t element_bytes, const Tile& t, std::uint32_t first,
                   std::uint32_t rows) const;
  tile::Box kv_box(std::uint64_t base, const Tile& t, std::uint32_t kv_tile) const;

  tile::Program producer(tile::Cta cta) const;
  tile::Program consumer(tile::Cta cta, std::uint32_t me) const;

  PagedCall call_;
  PagedSchedule schedule_;
  PagedAddresses at_;
  std::uint32_t sequences_, kv_heads_, group_, head_dim_, row_bytes_, consumers_;
  tile::Divisor by_group_, by_tile_kv_;
  bool turns_;
  std::uint32_t search_, copy_chunk_;  // of the producer, in cycles
  tile::LaunchShape shape_;
  mutable std::vector<std::uint32_t> handed_;  // per CTA: the tile in the shared-memory mailbox
};

}  // namespace tessera::kernels
