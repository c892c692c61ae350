#pragma once
// Where the arrays of a linear attention in chunks are, whichever kernels compute it.

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/library/lower.hpp"
#include "models/operators/linear_attention.hpp"

namespace tessera::kernels {

/// Gives `call` the addresses of the operands of its `op`, by their roles.
template <class Call>
void place_operands(Call& call, const Addresses& addresses) {
  const std::vector<models::Operand> operands = models::operands(call.op);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    for (const auto& [role, to] : {std::pair{"q", &call.q},
                                   {"k", &call.k},
                                   {"v", &call.v},
                                   {"decay", &call.decay},
                                   {"strength", &call.strength},
                                   {"state", &call.state},
                                   {"out", &call.out},
                                   {"state_out", &call.state_out}})
      if (operands[i].role == role) *to = addresses.operands.at(i);
  }
}

/// Hands out a workspace, array by array, as cudaMalloc would align them.
class Workspace {
 public:
  explicit Workspace(std::uint64_t begin) : next_{begin} {}
  std::uint64_t take(std::uint64_t bytes) { return std::exchange(next_, next_ + (bytes + 511) / 512 * 512); }
  std::uint64_t next() const { return next_; }

 private:
  std::uint64_t next_;
};

}  // namespace tessera::kernels
