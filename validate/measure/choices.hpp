#pragma once
// What a gate's or a router's kernel chose, read back from device memory: blocks of past keys, or experts.

#include <cstdint>
#include <vector>

#include "models/operators/selection.hpp"
#include "validate/measure/device.hpp"

namespace tessera::measure {

/// Choices of one call, and what they are of.
struct Chosen {
  ChoiceOutput of;
  models::SelectionLists blocks;      ///< of blocks: sequences x heads lists, a row's own block left out
  std::vector<std::int32_t> experts;  ///< of experts: [tokens, topk]
};

/// What the last run on `set` left there, best first. `workload.choices` is not null. std::runtime_error
/// naming the element that is no choice: a row's own block is not its first, a block is not past, one is
/// there twice, there are fewer or more than min(topk - 1, past blocks), an expert does not exist.
Chosen read_choices(Device& device, const Workload& workload, const Call& set);

/// Whether its kernels choose, and leave what they chose in memory.
bool chooses(const Request& request);

}  // namespace tessera::measure
