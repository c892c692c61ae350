#pragma once
// A kernel: a grid of CTAs, the resources each needs, and the tile program of each warp role.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tile/program.hpp"

namespace tessera::tile {

struct RoleSpec {
  std::string name;  ///< "producer", "consumer0", ...
  std::uint32_t warps = 4;
};

struct BarrierSpec {
  const char* name = "";       ///< a literal
  std::uint32_t arrivals = 1;  ///< arrive operations (not threads) that complete a phase
  int stage = -1;              ///< of a ring of barriers of this name; below 0: the only one
};
/// "full[2]": what a deadlock report calls it.
inline std::string name_of(const BarrierSpec& b) {
  return b.stage < 0 ? b.name : b.name + ('[' + std::to_string(b.stage) + ']');
}

struct LaunchShape {
  std::string name;           ///< "gemm 128x256x64 cluster 2"
  std::uint32_t grid = 0;     ///< CTAs
  std::uint32_t cluster = 1;  ///< CTAs per cluster; the grid is a multiple of it
  std::int64_t registers_per_cta = 0;
  std::int64_t shared_bytes = 0;
  std::vector<RoleSpec> roles;
  std::vector<BarrierSpec> barriers;
  std::uint64_t prologue_cycles = 0;  ///< barrier set-up, descriptor prefetch, before any role starts
  /// Programmatic dependent launch: the launch goes on while the kernel before runs.
  bool launched_beside = false;
  /// Calls of trip() by the last role, summed over the CTAs, and how many of them come before the first CTA
  /// of a grid that is resident as a whole runs out of work. Zero: no loop is worth passing over.
  std::uint64_t trips = 0, even_trips = 0;

  std::uint32_t threads() const {
    std::uint32_t warps = 0;
    for (const RoleSpec& r : roles) warps += r.warps;
    return warps * 32;
  }
};

struct Cta {
  std::uint32_t index = 0;  ///< in the grid
  std::uint32_t rank = 0;   ///< in the cluster
};

/// Equal pieces of work: output tiles that CTAs take in turn, or whole CTAs.
struct Pieces {
  std::uint64_t count = 0;  ///< of a cluster's work each
  std::uint32_t trips = 0;  ///< of the inner loop, in each
};

/// What the CTAs of a kernel do, without running them all: for the cost model.
struct Outline {
  std::vector<Pieces> pieces;  ///< in the order in which they are taken
  std::uint64_t rounds = 1;    ///< how many times, one after another
  bool in_turn = false;        ///< each CTA takes one after another; else a piece is a CTA
  /// Equal for kernels whose excerpts are, or without pieces those whose CTAs are, each and in any place of
  /// the grid. Empty: no other operator has such.
  std::string key;
  std::uint64_t load_bytes = 0;   ///< that all CTAs together ask of the L2
  std::uint64_t store_bytes = 0;  ///< and send to it
  /// Operand bytes that come back from HBM more than once where the L2 cannot hold them: read `times` times.
  std::uint64_t reread_bytes = 0, rereads = 1;
  /// Of a kernel between others of its operator: the operands' bytes that it reads, and of the arrays between
  /// the kernels what it reads and writes, each byte once. Below 0: the kernel that moves most reads them
  /// all.
  std::int64_t operand_bytes = -1;
  std::uint64_t between_read = 0, between_written = 0;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual const LaunchShape& shape() const = 0;
  /// The program of role `role` (an index into shape().roles) of one CTA.
  virtual Program program(Cta cta, std::uint32_t role) const = 0;

  /// Empty pieces: all CTAs are short and alike, and may be run themselves.
  virtual Outline outline() const { return {}; }
  /// A kernel of the same programs whose first `ctas` CTAs each do `pieces` pieces of `trips` trips. Only for
  /// kernels with an outline.
  virtual std::unique_ptr<Kernel> excerpt(std::uint32_t ctas, std::uint32_t pieces,
                                          std::uint32_t trips) const {
    (void)ctas, (void)pieces, (void)trips;
    return nullptr;
  }
};

}  // namespace tessera::tile
