#pragma once
// What vLLM launches before the grouped products: rows sorted by expert and padded to whole blocks
// (vllm-project/vllm, csrc/moe/moe_align_sum_kernels.cu).

#include <cstdint>

#include "kernels/library/lower.hpp"
#include "kernels/tile/latency.hpp"

namespace tessera::kernels {

struct Sorting {
  std::int64_t choices = 0;      ///< tokens x topk
  std::int64_t experts = 0;      ///< of all nodes
  std::int64_t padded = 0;       ///< rows that are allocated, with the padding
  std::int64_t most_blocks = 1;  ///< of one expert
  bool mapped = false;           ///< expert parallel: a table tells which experts are here
  std::uint64_t from = 0, to = 0;
};

/// moe_align_block_size_kernel: one CTA counts each expert's rows in shared memory and sums them up, another
/// fills the sorted indices with a mark for padding. Of few choices and experts, the small-batch form, in
/// which the one CTA also sorts.
class AlignBlocks final : public tile::Kernel {
 public:
  AlignBlocks(const Sorting& sorting, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  static bool small(const Sorting& sorting);

 private:
  Sorting sorting_;
  Chains chains_;
  tile::LaunchShape shape_;
};

/// count_and_sort_expert_tokens_kernel: each thread takes a choice and, by an atomic, its place among the
/// expert's rows.
class SortTokens final : public tile::Kernel {
 public:
  explicit SortTokens(const Sorting& sorting);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  Sorting sorting_;
  tile::LaunchShape shape_;
};

/// One number written: how many rows there are when nothing is sorted.
class StoreCount final : public tile::Kernel {
 public:
  explicit StoreCount(std::uint64_t to);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;

 private:
  std::uint64_t to_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
