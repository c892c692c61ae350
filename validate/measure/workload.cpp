#include "validate/measure/workload.hpp"

#include <bit>
#include <cmath>

namespace tessera::measure {

std::int64_t bytes_of(Element element) { return element == Element::bf16 ? 2 : 4; }

std::uint64_t seed_of(std::uint64_t seed, std::size_t operand) {
  return cuda::mixed(seed * 1000003 + operand);
}

double rounded(double value, Element element) {
  if (element == Element::i32) return std::nearbyint(value);
  const auto single = static_cast<float>(value);
  if (element == Element::f32 || !std::isfinite(single)) return single;
  const auto bits = std::bit_cast<std::uint32_t>(single);
  return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000U);
}

double Generated::fixed(std::int64_t index) const {
  switch (operand_->fill.kind) {
    case Fill::Kind::zeros:
      return 0;
    case Fill::Kind::listed:
      return (*operand_->fill.list)[static_cast<std::size_t>(index)];
    default:
      return std::nan("");
  }
}

std::int64_t Workload::bytes() const {
  std::int64_t sum = 0;
  for (const Operand& o : operands) sum += o.bytes();
  return sum;
}

std::vector<std::int64_t> spread(std::int64_t count, std::size_t limit) {
  std::vector<std::int64_t> all;
  if (count <= static_cast<std::int64_t>(limit)) {
    for (std::int64_t i = 0; i < count; ++i) all.push_back(i);
    return all;
  }
  const std::int64_t step = (count / static_cast<std::int64_t>(limit)) | 1;
  for (std::int64_t i = 0; i < count && all.size() < limit; i += step) all.push_back(i);
  all.back() = count - 1;
  return all;
}

}  // namespace tessera::measure
