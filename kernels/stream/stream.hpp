#pragma once
// The memory-bound kernels: each row, or piece of a row, is loaded, worked on and stored once. One tile
// program serves them all; what differs is how many streams go in and out and the arithmetic per element.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/library/lower.hpp"

namespace tessera::kernels {

/// Rows of `row_bytes` at `address`, `pitch` apart.
struct RowStream {
  std::uint64_t address = 0;
  std::uint64_t row_bytes = 0;
  std::uint64_t pitch = 0;
};

struct StreamWork {
  std::string name;
  std::int64_t rows = 0;
  bool whole_rows = false;  ///< a CTA needs a row whole (norms); else rows may be cut into pieces
  std::vector<RowStream> in, out;
  RowStream once;          ///< read once per CTA (a norm's weight); 0 bytes: nothing
  tile::Vector per_row{};  ///< thread-level operations per row
  bool sampled = false;    ///< its trips may be passed over (docs/skipping.md), as those of long work always
  std::uint64_t between_read = 0, between_written = 0;  ///< see tile::Outline
  bool between = false;                                 ///< touches no operands, only arrays between kernels
  std::int64_t operand_bytes = -1;                      ///< unless between, see tile::Outline
};

/// Grid-stride kernel over rows: CTAs of eight warps, as many as fit, each with a few KB in flight.
class StreamKernel final : public tile::Kernel {
 public:
  StreamKernel(StreamWork work, const GpuSpec& gpu);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  StreamWork work_;
  std::uint32_t pieces_ = 1;  // per row
  std::uint32_t rows_per_trip_ = 1;
  std::uint64_t trips_ = 0;
  tile::LaunchShape shape_;
};

StreamWork merge_work(const models::Merge& m, const Addresses& at);
StreamWork norm_work(const models::Norm& n, const Addresses& at);
StreamWork rope_work(const models::Rope& r, const Addresses& at);
StreamWork activation_work(const models::Activation& a, const Addresses& at);
StreamWork softmax_work(const models::Softmax& s, const Addresses& at);
StreamWork sum_work(const models::Sum& s, const Addresses& at);
StreamWork copy_work(const models::Copy& c, const Addresses& at);
StreamWork embedding_work(const models::Embedding& e, const Addresses& at);

}  // namespace tessera::kernels
