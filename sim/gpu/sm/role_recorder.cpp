#include "sim/gpu/sm/role_recorder.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace tessera::sim {

void RoleRecorder::prepare(const tile::LaunchShape& shape) {
  Kernel kernel{.name = shape.name};
  for (const tile::RoleSpec& r : shape.roles) kernel.roles.push_back(r.name);
  for (const tile::BarrierSpec& b : shape.barriers) kernel.barriers.push_back(name_of(b));
  kernels_.push_back(std::move(kernel));
  open_.clear();
}

void RoleRecorder::resume(Time now, std::uint8_t slot, std::uint8_t role) {
  Open& o = open_[{slot, role}];
  if (!o.open) return;
  o.open = false;
  o.span.end = now;
  if (o.span.end <= o.span.start) return;
  if (spans_.size() < most_)
    spans_.push_back(o.span);
  else
    ++left_out_;
}

void RoleRecorder::stop(Time since, std::uint8_t slot, std::uint8_t role, const tile::Op& op,
                        const RoleState& state) {
  open_[{slot, role}] = {.span = {.start = since,
                                  .slot = slot,
                                  .role = role,
                                  .kernel = static_cast<std::uint16_t>(kernels_.size() - 1),
                                  .op = op.kind,
                                  .blocked = state.blocked,
                                  .barrier = state.blocked_on},
                         .open = true};
}

std::string text_of(const RoleSpan& span, const RoleRecorder::Kernel& kernel) {
  static constexpr std::array<std::string_view, 23> kOps{
      "tma_load",    "tma_store",    "store_wait",    "expect",     "arrive",      "wait",
      "named_sync",  "named_arrive", "wgmma",         "wgmma_wait", "mma",         "compute",
      "shared_load", "l1_load",      "shared_store",  "load",       "async_load",  "load_wait",
      "store",       "chain",        "prefetch_tile", "next_tile",  "cluster_sync"};
  switch (span.blocked) {
    case Blocked::no:
      break;
    case Blocked::mbarrier:
      return "waits for " + (span.barrier < kernel.barriers.size() ? kernel.barriers[span.barrier]
                                                                   : fmt::format("barrier {}", span.barrier));
    case Blocked::named_barrier:
      return fmt::format("waits at named barrier {}", span.barrier);
    case Blocked::loads:
      return "waits for loads";
    case Blocked::stores:
      return "waits for stores";
    case Blocked::issue:
      return "issues products";
    case Blocked::products:
      return "waits for products";
    case Blocked::tile_counter:
      return "waits for a tile";
    case Blocked::cluster:
      return "waits for the cluster";
  }
  const auto op = static_cast<std::size_t>(span.op);
  return op < kOps.size() ? std::string{kOps[op]} : "trips passed over";
}

}  // namespace tessera::sim
