#pragma once
// Grids of short CTAs that are all alike, as Triton launches them: one per chunk and head, say. As many as
// the GPU holds at a time are run; each then does, one trip after another, what the CTAs that take its place
// would.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "kernels/tile/latency.hpp"
#include "kernels/tile/occupancy.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// What the launch of such a grid takes.
struct ShortCtaLaunch {
  std::string name;
  std::uint64_t ctas = 0;
  std::uint32_t warps = 4, registers_per_thread = 64;
  std::int64_t shared_bytes = 0;
  /// Of all CTAs together: what they ask of the L2 and send to it.
  std::uint64_t load_bytes = 0, store_bytes = 0;
  /// Distinct bytes among these, of a kernel between others of its operator; 0: the only kernel.
  std::uint64_t reads = 0, writes = 0;
  std::vector<tile::BarrierSpec> barriers = {};
};

/// CTAs of one warp that share an SM run on different sub-cores. As the pipes here are those of a whole SM,
/// up to four of them are taken together, as warps of one CTA.
inline std::uint32_t side_by_side(std::uint64_t ctas, const GpuSpec& gpu) {
  const auto sms = static_cast<std::uint64_t>(gpu.sms());
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>((ctas + sms - 1) / sms, 1, 4));
}

/// Derived has `program`, which goes through `trips(cta)` CTAs, the n-th of which is number `number(cta, n)`.
template <class Derived>
class ShortCtas : public tile::Kernel {
 public:
  const tile::LaunchShape& shape() const override { return shape_; }

  tile::Outline outline() const override {
    tile::Outline o{.load_bytes = launch_.load_bytes, .store_bytes = launch_.store_bytes};
    if (launch_.reads > 0) {
      o.operand_bytes = 0;
      o.between_read = launch_.reads;
      o.between_written = launch_.writes;
    }
    const auto least = static_cast<std::uint32_t>(ctas_ / shape_.grid);
    if (const std::uint64_t more = ctas_ % shape_.grid; more > 0) o.pieces.push_back({more, least + 1});
    o.pieces.push_back({shape_.grid - ctas_ % shape_.grid, least});
    return o;
  }

  std::unique_ptr<tile::Kernel> excerpt(std::uint32_t ctas, std::uint32_t,
                                        std::uint32_t trips) const override {
    auto e = std::make_unique<Derived>(static_cast<const Derived&>(*this));
    e->ctas_ = std::uint64_t{ctas} * trips;
    e->shape_.grid = ctas;
    return e;
  }

 protected:
  ShortCtas(ShortCtaLaunch launch, const GpuSpec& gpu)
      : launch_{std::move(launch)},
        ctas_{launch_.ctas},
        next_cta_cycles_{static_cast<std::uint64_t>(gpu.launch.cta_launch_cycles)},
        chains_{gpu.sm} {
    shape_.name = launch_.name;
    shape_.roles = {{"warps", launch_.warps}};
    shape_.registers_per_cta = std::int64_t{launch_.warps} * 32 * launch_.registers_per_thread;
    shape_.shared_bytes = launch_.shared_bytes;
    shape_.barriers = launch_.barriers;
    shape_.grid = 1;
    const std::uint64_t slots =
        std::uint64_t{tile::resident_ctas(gpu.sm, shape_)} * static_cast<std::uint64_t>(gpu.sms());
    shape_.grid = static_cast<std::uint32_t>(std::min(slots, ctas_));
    // The last trip of each is not alike: nothing follows it.
    shape_.trips = ctas_ - shape_.grid;
    shape_.even_trips = shape_.trips / shape_.grid * shape_.grid;
  }

  std::uint32_t trips(tile::Cta cta) const {
    return static_cast<std::uint32_t>(ctas_ / shape_.grid + (cta.index < ctas_ % shape_.grid ? 1 : 0));
  }
  /// An excerpt may have more CTAs than there are.
  std::uint64_t number(tile::Cta cta, std::uint32_t trip) const {
    return (cta.index + std::uint64_t{trip} * shape_.grid) % launch_.ctas;
  }
  std::uint64_t next_cta_cycles() const { return next_cta_cycles_; }
  const Chains& chains() const { return chains_; }

 private:
  ShortCtaLaunch launch_;
  std::uint64_t ctas_;
  std::uint64_t next_cta_cycles_;
  Chains chains_;
  tile::LaunchShape shape_;
};

}  // namespace tessera::kernels
