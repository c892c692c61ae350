#pragma once
// From an operator to the kernels a library would launch for it on a given GPU.

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/tile/kernel.hpp"
#include "models/operators/operator.hpp"
#include "sim/core/hardware.hpp"

namespace tessera::kernels {

/// Where an operator's operands lie: one device address per models::operands_of(op), and a workspace
/// for what passes between the kernels of one operator (split partials, semaphores).
struct Addresses {
  std::vector<std::uint64_t> operands;
  std::uint64_t workspace = 0;
};

/// The kernels of `op`, launched one after another. Throws std::invalid_argument for a shape or dtype
/// that no kernel here supports, naming it.
std::vector<std::unique_ptr<tile::Kernel>> lower(const models::Operator& op, const GpuSpec& gpu,
                                                 const Addresses& addresses);

}  // namespace tessera::kernels
