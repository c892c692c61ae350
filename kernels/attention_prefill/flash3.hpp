#pragma once

#include <vector>

#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/attention_prefill/query_tiles.hpp"

namespace tessera::kernels {

class Flash3 final : public tile::Kernel {
 public:
  /// `value_dim`: the width of V and of the output, where it is not the head dimension.
  Flash3(const models::Attention& attention, const GpuSpec& gpu, const Addresses& addresses,
         std::int64_t value_dim = 0);
  const tile::LaunchShape& shape() const override { return shape_; }
  tile::Program program(tile::Cta cta, std::uint32_t role) const override;
  tile::Outline outline() const override;
  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                        std::uint32_t trips) const override;

 private:
  static constexpr std::uint32_t kStages = 2;
  static constexpr std::uint32_t kEnd = 0xffffffffU;
  struct Tile {
    std::uint32_t batch, head;
    const QueryTile* query;
  };
  Tile tile_at(std::uint32_t index) const;
  std::uint32_t tiles() const;
  std::uint64_t kv_rows_in(std::uint32_t kv_tile) const;

  tile::Program producer(tile::Cta cta) const;
  tile::Program consumer(tile::Cta cta, std::uint32_t index) const;

  // Barriers. K and V have rings of their own, as in the kernel.
  std::uint8_t q_full() const { return 0; }
  std::uint8_t q_empty() const { return 1; }
  std::uint8_t tile_full() const { return 2; }
  std::uint8_t tile_empty() const { return 3; }
  std::uint8_t k_full(std::uint32_t s) const { return static_cast<std::uint8_t>(4 + s); }
  std::uint8_t k_empty(std::uint32_t s) const { return static_cast<std::uint8_t>(6 + s); }
  std::uint8_t v_full(std::uint32_t s) const { return static_cast<std::uint8_t>(8 + s); }
  std::uint8_t v_empty(std::uint32_t s) const { return static_cast<std::uint8_t>(10 + s); }

  models::Attention attention_;
  std::uint64_t q_, k_, v_, out_, stats_ = 0;
  std::uint32_t element_bytes_, value_dim_;
  std::uint32_t tile_q_, tile_kv_, consumers_;
  std::uint32_t heads_per_section_;  // whose K and V fit in the L2 together
  std::vector<QueryTile> query_tiles_;
  bool turns_;  // the warpgroups take turns at the tensor cores
  bool p_in_registers_;
  bool dynamic_;  // causal tiles differ in length: take them from a counter, longest first
  tile::LaunchShape shape_;
  // The tile number that a CTA's producer hands to its consumers (in the kernel: through shared memory).
  mutable std::vector<std::uint32_t> handed_;
};

}  // namespace tessera::kernels
