#pragma once
// MoonshotAI/FlashKDA @ 1ce47ea: Kimi Delta Attention in chunks of 16 by two CUTLASS kernels, TMA around
// mma.sync. Layouts are fla's; the state stays in shared memory, in bf16, from a sequence's first chunk to
// its last.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/library/lower.hpp"
#include "kernels/linear_attention/short_ctas.hpp"
#include "models/operators/linear_attention.hpp"

namespace tessera::kernels {

struct FlashKdaCall {
  models::LinearAttention op;
  std::uint64_t q = 0, k = 0, v = 0, decay = 0, strength = 0, state = 0, out = 0, state_out = 0;
  // Workspace: strength by heads; of each head's tiles (chunks) the decayed k and q, the keys decayed to the
  // tile's end, the decay of the whole tile (fp32), (I + A)^-1 and the scores.
  std::uint64_t strength_by_head = 0, k_decayed = 0, q_decayed = 0, k_restored = 0, total = 0, inverse = 0,
                scores = 0;
  std::vector<std::uint64_t> first_token, first_tile;  ///< of each sequence, and one beyond the last

  std::uint32_t tile() const { return static_cast<std::uint32_t>(op.chunk); }
  std::uint32_t dim() const { return static_cast<std::uint32_t>(op.k_dim); }
  std::uint32_t element() const { return static_cast<std::uint32_t>(models::bytes_of(op.dtype)); }
  std::uint64_t heads() const { return static_cast<std::uint64_t>(op.heads); }
  std::uint64_t tiles() const { return first_tile.back(); }
  /// Of one tile of one head: 16 rows, 16 x 16 scores, and all that the first kernel hands to the second.
  std::uint64_t rows_bytes() const { return std::uint64_t{tile()} * dim() * element(); }
  std::uint64_t scores_bytes() const { return std::uint64_t{tile()} * tile() * element(); }
  std::uint64_t handed_bytes() const { return 3 * rows_bytes() + 4 * dim() + 2 * scores_bytes(); }
};

/// _flash_kda_fwd_prepare: everything that needs no state. A CTA of eight warps per tile and head.
class FlashKdaPrepare final : public ShortCtas<FlashKdaPrepare> {
 public:
  FlashKdaPrepare(const FlashKdaCall& call, const GpuSpec& gpu);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  FlashKdaCall call_;
  double mma_cycles_;  // of one m16n8k16 on a sub-core
  double mma_flops_per_cycle_;
};

/// _flash_kda_fwd_recurrence: a CTA per sequence and head, tile after tile. Four warps multiply, one loads,
/// one stores.
class FlashKdaRecurrence final : public tile::Kernel {
 public:
  FlashKdaRecurrence(const FlashKdaCall& call, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  struct Work {
    std::uint64_t sequence = 0, head = 0, token = 0, tile = 0, tokens = 0;
    std::uint32_t trips = 0;
  };
  Work work(tile::Cta cta) const;
  std::uint32_t rows(const Work& w, std::uint32_t trip) const;
  tile::Program multiply(Work w) const;
  tile::Program load(Work w) const;
  tile::Program store(Work w) const;

  FlashKdaCall call_;
  std::uint32_t excerpt_trips_ = 0;  // of every CTA, if not 0
  Chains chains_;
  tile::LaunchShape shape_;
};

/// Throws std::invalid_argument for what FlashKDA does not support, naming it.
std::vector<std::unique_ptr<tile::Kernel>> make_flash_kda(const models::LinearAttention& op,
                                                          const GpuSpec& gpu, const Addresses& addresses);

}  // namespace tessera::kernels
