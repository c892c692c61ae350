#pragma once
// What the warp roles of one SM did and waited for, for timelines.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "sim/core/time.hpp"
#include "sim/gpu/sm/resident_cta.hpp"

namespace tessera::sim {

/// A role did an operation that took time, or waited for one thing.
struct RoleSpan {
  Time start, end;
  std::uint8_t slot = 0, role = 0;  ///< role: index into the kernel's
  std::uint16_t kernel = 0;         ///< index into RoleRecorder::kernels()
  tile::OpKind op = tile::OpKind::compute;
  Blocked blocked = Blocked::no;  ///< else what it waited for
  std::uint8_t barrier = 0;       ///< of a wait
};

class RoleRecorder {
 public:
  explicit RoleRecorder(std::size_t most_spans = 200'000) : most_{most_spans} {}

  struct Kernel {
    std::string name;
    std::vector<std::string> roles, barriers;
  };
  /// What another process recorded.
  RoleRecorder(std::vector<Kernel> kernels, std::vector<RoleSpan> spans, std::size_t left_out)
      : most_{spans.size()}, left_out_{left_out}, kernels_{std::move(kernels)}, spans_{std::move(spans)} {}

  const std::vector<Kernel>& kernels() const { return kernels_; }
  /// In the order of their ends. Those of one role in one slot do not overlap; what is between them took the
  /// role no more than a few instructions.
  const std::vector<RoleSpan>& spans() const { return spans_; }
  std::size_t left_out() const { return left_out_; }  ///< spans beyond the most

  // For the SM.
  void prepare(const tile::LaunchShape& shape);
  /// The role in `slot` goes on at `now`: what it did or waited for ends.
  void resume(Time now, std::uint8_t slot, std::uint8_t role);
  /// From `since` on it is at `op`, or blocked there as `state` says, until it goes on.
  void stop(Time since, std::uint8_t slot, std::uint8_t role, const tile::Op& op, const RoleState& state);

 private:
  struct Open {
    RoleSpan span;
    bool open = false;
  };

  std::size_t most_, left_out_ = 0;
  std::vector<Kernel> kernels_;
  std::map<std::pair<std::uint8_t, std::uint8_t>, Open> open_;  // by slot and role
  std::vector<RoleSpan> spans_;
};

/// "wgmma_wait", "waits for full[2]".
std::string text_of(const RoleSpan& span, const RoleRecorder::Kernel& kernel);

}  // namespace tessera::sim
