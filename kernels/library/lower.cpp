#include "kernels/library/lower.hpp"

#include <stdexcept>

#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/gemm/gemm.hpp"

namespace tessera::kernels {

namespace {
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;
}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> lower(const models::Operator& op, const GpuSpec& gpu,
                                                 const Addresses& addresses) {
  using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;
  return std::visit(Overloaded{[&](const models::Gemm& g) { return make_gemm(g, gpu, addresses); },
                               [&](const models::Attention& a) { return make_attention_prefill(a, gpu, addresses); },
                               [&](const auto&) -> Kernels { throw std::invalid_argument{"no kernel"}; }},
                    op);
}

}  // namespace tessera::kernels
