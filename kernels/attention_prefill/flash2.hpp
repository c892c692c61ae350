#pragma once

#include <string>
#include <vector>

#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/attention_prefill/query_tiles.hpp"

namespace tessera::kernels {

/// A sequence of a packed call: its q rows among all q rows, its key rows among all key rows.
struct FlashSequence {
  std::uint64_t first_q = 0, first_kv = 0;
  std::uint32_t q_rows = 0, kv_rows = 0;
};

/// flash_attn_varlen_func: sequences of different lengths, one after another in packed rows. The grid is as
/// long as `longest_q` needs for every sequence: CTAs beyond the end of theirs leave at once.
struct FlashVarlen {
  std::string name;
  std::vector<FlashSequence> sequences;
  std::int64_t longest_q = 0;
  std::int64_t heads = 1, kv_heads = 1, head_dim = 0;
  bool causal = false;  ///< then a sequence's q and key rows are the same
  std::uint32_t element_bytes = 2;
  std::uint64_t q = 0, k = 0, v = 0, out = 0, lse = 0;  ///< addresses; lse is fp32
  std::uint64_t between_read = 0, between_written = 0;  ///< see tile::Outline
};

/// What a call between others of its operator reads of the operands and of what they left, and leaves itself:
/// see tile::Outline.
struct FlashBetween {
  std::int64_t operand_bytes = -1;
  std::uint64_t read = 0, written = 0;
};

/// FlashAttention-2: four warps share a query tile; K and V tiles by cp.async, one ahead; two CTAs per SM
/// hide each other's softmax. Of wide heads eight warps, one CTA per SM: they meet twice a trip, and between
/// that one half's fragments come from shared memory beside the other's products. Products are mma.sync, on
/// Hopper too.
class Flash2 final : public tile::Kernel {
 public:
  Flash2(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses,
         const FlashBetween& between = {});
  Flash2(const FlashVarlen& call, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  struct Tile {
    QueryTile query;  ///< no rows: beyond the end of its sequence
    std::uint64_t q_row = 0, kv_row = 0, kv_rows = 0;
    std::uint32_t head = 0;
  };
  Tile tile_at(std::uint32_t index) const;
  QueryTile query_tile(const FlashSequence& sequence, std::uint32_t block) const;
  void lay_out(const GpuSpec& gpu);

  std::uint32_t heads_, kv_heads_, head_dim_;
  bool causal_;
  std::uint32_t element_bytes_;
  std::uint64_t q_, k_, v_, out_, stats_ = 0;
  std::uint32_t stats_bytes_ = 0;  // per row and head
  std::uint32_t tile_q_ = 128, tile_kv_ = 64;
  std::uint32_t groups_ = 1;  // of four warps
  bool varlen_ = false;
  std::int64_t l2_bytes_ = 0;
  FlashBetween between_;
  std::vector<FlashSequence> sequences_;
  std::uint32_t blocks_ = 0;            // query tiles of the longest sequence
  std::vector<QueryTile> query_tiles_;  // unless varlen: of every sequence
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
