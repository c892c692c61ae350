#pragma once
// Absorbed latent attention of one query row a sequence, as Triton kernels: what engines run where there is
// neither wgmma nor TMA (vLLM's TRITON_MLA backend).
//
// Stage 1: a CTA of four warps takes 16 heads of a sequence against a part of its cached rows, 32 at a time.
// A tile of rows is the keys, and transposed the values. Warps lie side by side along the keys of S and the
// columns of O; each holds the queries of all 16 heads in registers, as mma operands. With two stages
// Triton's pipeliner keeps one buffer: all of a tile's work comes first, then the copies of the next tile,
// which only the other CTA of the SM works beside.
// Stage 2: a CTA a head adds the parts up, one after another.
// [vllm-project/vllm, vllm/v1/attention/ops/triton_decode_attention.py (_fwd_grouped_kernel_stage1,
// _fwd_kernel_stage2), backends/mla/triton_mla.py, as of pull request 33529, after SGLang and LightLLM;
// triton-lang/triton, lib/Dialect/TritonGPU/Transforms: AccelerateMatmul (warpsPerTileV2),
// Pipeliner/AssignLatencies, ScheduleLoops, LowerLoops]

#include "kernels/attention_paged/call.hpp"
#include "kernels/tile/latency.hpp"

namespace tessera::kernels {

/// A call, and where its arrays lie. A query row is two parts, `pitch` apart from head to head.
struct TritonLatentCall {
  std::int64_t batch = 1, context = 0, heads = 0;
  std::uint32_t latent = 512, rope = 64, element_bytes = 2;
  std::uint64_t q_latent = 0, q_rope = 0, q_latent_pitch = 0, q_rope_pitch = 0;
  bool q_between = false;  ///< the queries are what a kernel before has left, not operands
  std::uint64_t cache = 0, out = 0;
  std::uint64_t max_expsum = 0;          ///< of a partial result; else 0
  std::uint64_t pages = 0, lengths = 0;  ///< tables, as PagedAddresses
  std::uint64_t parts = 0;               ///< fp32: of each row, head and split the result and its logarithm
  std::uint32_t splits = 1;

  std::uint64_t row_bytes() const { return std::uint64_t{latent + rope} * element_bytes; }
  /// Cached rows of a split; the last ones may have fewer, or none.
  std::int64_t keys_per_split() const { return (context + splits - 1) / splits; }
  /// Splits that have any.
  std::int64_t used_splits() const { return (context + keys_per_split() - 1) / keys_per_split(); }
  std::uint64_t part_bytes() const { return std::uint64_t{latent + 1} * 4; }
  std::uint64_t parts_bytes() const {
    return static_cast<std::uint64_t>(batch * heads) * splits * part_bytes();
  }
  /// Bytes of parts that are written and read.
  std::uint64_t used_parts_bytes() const {
    return static_cast<std::uint64_t>(batch * heads * used_splits()) * part_bytes();
  }
};

/// A power of two, of at least 512 cached rows each, at most two CTAs an SM (_compute_num_kv_splits).
std::uint32_t triton_splits(std::int64_t context, std::int64_t sms);

class TritonLatentDecode final : public tile::Kernel {
 public:
  TritonLatentDecode(const TritonLatentCall& call, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

  static constexpr std::uint32_t kHeads = 16, kKeys = 32, kWarps = 4;  // of a CTA, of a tile

 private:
  struct Part {
    std::uint32_t batch, head, heads;  // the first one, how many
    std::uint32_t split, tiles;
    std::int64_t first, last;  // cached rows
    /// Of the trips from number `i` on those that are alike: not the first, nor those that ask for the last
    /// tile, which may be short, or for none.
    std::uint32_t alike(std::uint32_t i) const { return i >= 1 && i + 2 < tiles ? tiles - 2 - i : 0; }
  };
  Part part(std::uint32_t index) const;
  std::uint32_t head_blocks() const;
  tile::Box keys(const Part& p, std::uint32_t tile) const;

  TritonLatentCall call_;
  Chains chains_;
  std::uint32_t qk_width_, value_width_;             // padded
  std::uint64_t scores_chain_ = 0, sums_chain_ = 0;  // products that add to the sums of the one before
  std::uint64_t l2_bytes_, slots_ = 0;               // CTAs that the GPU holds
  tile::LaunchShape shape_;
};

class TritonLatentReduce final : public tile::Kernel {
 public:
  explicit TritonLatentReduce(const TritonLatentCall& call);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  TritonLatentCall call_;
  std::uint32_t trips_;  // splits to add up
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
