#pragma once
// FlashAttention-3 over a latent cache (hopper/, head dimension 64, value dimension 512, HasQv, Varlen).
//
// A cached row is the key of all heads, in two parts: the rotated 64 columns (K) and the latent 512, which
// are the value too (V). A tile is 64 packed query rows, the heads of one token after the other, against 64
// keys. 64 x 512 outputs in fp32 take half of an SM's registers, so two warpgroups hold 256 columns each:
//
// - consumer0 multiplies S = Q_r K^T + Q_l V^T, does the softmax, hands P and the rescaling factors to
//   consumer1 through shared memory, and multiplies its half of O += P V with P from registers;
// - consumer1 multiplies the other half, with P from shared memory.
//
// Nothing but consumer1's product overlaps the softmax. Two stages each of K and V fill the shared memory.
// Up to 64 packed rows a sequence, four producer warps gather K and V by cp.async; beyond that one thread
// does by TMA, a page of 64 rows at a time. The way from tile to tile is that of attention_paged/paged_flash:
// a search over the sequences, learnt of at a barrier with the consumers; V waits for the output, staged
// there.

#include <algorithm>

#include "kernels/attention_paged/schedule.hpp"
#include "kernels/attention_paged/search_cost.hpp"
#include "kernels/attention_prefill/softmax_cost.hpp"
#include "kernels/tile/divisor.hpp"

namespace tessera::kernels {

/// Widths of a cached row, and where its call's arrays lie.
struct LatentCall {
  PagedCall call;  ///< one key head; head_dim is the latent's width
  std::uint32_t rope = 64;
  std::uint64_t q_latent = 0, q_rope = 0, cache = 0, out = 0;
  std::uint64_t max_expsum = 0;                        ///< of a partial result that is not split; else 0
  std::uint64_t pages = 0, lengths = 0, schedule = 0;  ///< tables, as PagedAddresses
  std::uint64_t partials = 0, statistics = 0;          ///< of splits, as PagedAddresses
};

/// What FlashAttention-3 decides before the call: tiles of 64 x 64, splits.
PagedSchedule latent_schedule_of(const PagedCall& call, std::int64_t sms);

class LatentFlash final : public tile::Kernel {
 public:
  LatentFlash(const LatentCall& call, const PagedSchedule& schedule, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  static constexpr std::uint32_t kEnd = 0xffffffffU;
  static constexpr std::uint32_t kConsumers = 2;
  /// Trips until the rings are full and the warpgroups in step.
  static constexpr std::uint32_t kTripsToSettle = 4;
  enum Barrier : std::uint8_t {
    q_full,
    qv_full,
    q_empty,
    tile_full,
    tile_empty,
    tile_asked,
    o_empty,
    k_full,
    k_empty = 9,
    v_full = 11,
    v_empty = 13
  };

  /// A piece of work: packed query rows of a sequence against a range of key tiles, from the last one down.
  struct Tile {
    std::uint32_t batch, split;
    std::uint32_t first_row, rows;              // packed
    std::uint32_t kv_first, kv_last, unmasked;  // key tiles; those before `unmasked` need no mask
    std::uint32_t blocks() const { return kv_last - kv_first; }
    bool masked(std::uint32_t i) const { return i == 0 || kv_last - 1 - i >= unmasked; }
    /// Of the trips from number `i` on, those that are alike: not the first ones, the masked ones, the last.
    std::uint32_t alike(std::uint32_t i) const {
      return i >= kTripsToSettle && !masked(i) && i + 1 < blocks() ? blocks() - 1 - i : 0;
    }
    std::uint32_t alike() const {
      const std::uint32_t first = std::max(kTripsToSettle, kv_last - std::min(kv_last, unmasked));
      return first < blocks() ? alike(first) : 0;
    }
  };

  std::uint32_t packed_rows() const { return static_cast<std::uint32_t>(at_.call.new_rows) * heads_; }
  std::uint32_t tiles_per_sequence() const { return schedule_.query_tiles * schedule_.splits; }
  std::uint32_t tiles() const { return sequences_ * tiles_per_sequence(); }
  Tile tile_at(std::uint32_t index) const;
  Tile tile_of(std::uint32_t block, std::uint32_t split) const;
  /// Of a sequence, in the order of tile_at.
  template <class Visit>
  void for_each_tile(Visit visit) const {
    const std::uint32_t blocks = schedule_.query_tiles, splits = schedule_.splits;
    for (std::uint32_t i = 0; i < (schedule_.longest_first ? blocks : splits); ++i)
      for (std::uint32_t j = 0; j < (schedule_.longest_first ? splits : blocks); ++j)
        visit(schedule_.longest_first ? tile_of(blocks - 1 - i, j) : tile_of(j, i));
  }
  /// How far apart, in sequences, the tiles are that a CTA takes one after another.
  std::uint32_t sequences_per_turn() const {
    return std::max(1U, std::min(shape_.grid, tiles()) / tiles_per_sequence());
  }
  /// The same for excerpts, all that takes the search one step being alike.
  std::uint32_t excerpt_sequences_per_turn() const { return searched_sequences(sequences_per_turn()); }
  /// The columns of a key tile from `column` on.
  tile::Box cache_box(const Tile& t, std::uint32_t kv_tile, std::uint32_t column,
                      std::uint32_t columns) const;
  std::uint64_t copy_cycles(std::uint32_t rows, std::uint32_t row_bytes) const;

  tile::Program producer(tile::Cta cta) const;
  tile::Program scorer(tile::Cta cta) const;      // consumer0
  tile::Program multiplier(tile::Cta cta) const;  // consumer1
  /// What consumer `me` stores.
  tile::Box output(const Tile& t, std::uint32_t me) const;

  LatentCall at_;
  PagedSchedule schedule_;
  std::uint32_t sequences_, heads_, latent_, element_bytes_;
  tile::Divisor by_heads_;
  bool tma_;                           // K and V, by whole pages
  std::uint32_t search_, copy_chunk_;  // of the producer, in cycles
  tile::LaunchShape shape_;
  mutable std::vector<std::uint32_t> handed_;  // per CTA: the tile in the shared-memory mailbox
};

}  // namespace tessera::kernels
