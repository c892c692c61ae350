#pragma once
// What a sequence in segments takes beside the kernels of a whole one: flash-linear-attention's context
// parallelism (fla/ops/cp/chunk_delta_h.py).

#include "kernels/linear_attention/chunks.hpp"
#include "kernels/linear_attention/short_ctas.hpp"

namespace tessera::kernels {

/// pre_process_fwd_kernel_merged: the segment's map S -> P S + Q. A CTA of four warps per sequence, head and
/// 32 columns of Q or of P goes through the chunks one after the other. Columns of Q are the state pass from
/// zeros, without what it stores. For columns of P every CTA forms diag(e^G) - K^T W and multiplies, in tf32.
/// The columns of Q have a program of their own beside StatePass's: it stores neither states nor D, changes
/// the state's layout only once W has come, and knows no call without the delta rule. One program for both
/// would give other times to one of them, or switch at each of these steps.
class MapPass final : public tile::Kernel {
 public:
  MapPass(const ChunkedCall& call, std::uint64_t map, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  std::uint32_t blocks_of(std::uint32_t width) const;
  std::uint32_t blocks() const { return blocks_of(call_.k_dim()) + blocks_of(call_.v_dim()); }
  tile::Program columns_of_p(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const;
  tile::Program columns_of_q(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const;
  tile::Box rows(std::uint64_t base, std::uint64_t sequence, std::uint64_t head, std::uint32_t chunk,
                 std::uint32_t width, std::uint32_t column, std::uint32_t columns) const;
  tile::Box last_sums(std::uint64_t sequence, std::uint64_t head, std::uint32_t chunk) const;
  tile::Box map_box(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const;
  std::uint32_t rows_of(std::uint32_t chunk) const;

  ChunkedCall call_;
  std::uint64_t map_;
  std::uint32_t trips_;  // chunks of a segment
  std::uint64_t ctas_;   // an excerpt may have more
  bool wgmma_;
  Chains chains_;
  tile::LaunchShape shape_;
};

/// merge_fwd_bwd_kernel: the maps of the segments before, one after the other, to a state. A CTA of four
/// warps per sequence, head and 32 value channels.
class ScanKernel final : public ShortCtas<ScanKernel> {
 public:
  ScanKernel(const models::StateScan& op, const GpuSpec& gpu, const Addresses& addresses);
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  models::StateScan op_;
  std::uint64_t maps_, state_, out_;
};

}  // namespace tessera::kernels
