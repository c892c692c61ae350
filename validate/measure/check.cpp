#include "validate/measure/check.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace tessera::measure {

namespace {

constexpr std::size_t kAll = 1 << 15, kSome = 192;
constexpr double kSmallFlops = 1e8;  // a check of every element takes a second
constexpr std::int64_t kDownloadWhole = std::int64_t{64} << 20;

double load(const unsigned char* bytes, Element element) {
  if (element == Element::bf16) {
    const auto bits = static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8) << 16;
    return std::bit_cast<float>(bits);
  }
  std::uint32_t bits = 0;
  for (int i = 3; i >= 0; --i) bits = bits << 8 | bytes[i];
  return element == Element::f32 ? static_cast<double>(std::bit_cast<float>(bits))
                                 : static_cast<double>(static_cast<std::int32_t>(bits));
}

}  // namespace

std::size_t sample_limit(const Workload& workload) { return workload.flops <= kSmallFlops ? kAll : kSome; }

Check check(Device& device, const Workload& workload, const Call& set, std::uint64_t seed) {
  for (std::size_t i = 0; i < workload.operands.size(); ++i)
    device.fill(set.at[i], workload.operands[i], seed_of(seed, i));
  device.run(workload, set, seed);
  const Inputs inputs{workload.operands, seed};
  const std::vector<Expected> expected = workload.expect(inputs, sample_limit(workload));
  if (expected.empty()) throw std::logic_error{workload.request.text() + ": nothing to check"};

  const std::size_t operands = workload.operands.size();
  std::vector<double> squares(operands, 0), counts(operands, 0);
  for (const Expected& e : expected) {
    squares[e.operand] += e.value * e.value;
    counts[e.operand] += 1;
  }
  std::vector<std::vector<unsigned char>> whole(operands);
  Check result{.elements = expected.size()};
  for (const Expected& e : expected) {
    const Operand& operand = workload.operands[e.operand];
    const std::int64_t width = bytes_of(operand.element);
    unsigned char bytes[4];
    const unsigned char* at = bytes;
    if (operand.bytes() <= kDownloadWhole) {
      if (whole[e.operand].empty()) {
        whole[e.operand].resize(static_cast<std::size_t>(operand.bytes()));
        device.download(set.at[e.operand], 0, operand.bytes(), whole[e.operand].data());
      }
      at = &whole[e.operand][static_cast<std::size_t>(e.index * width)];
    } else {
      device.download(set.at[e.operand], e.index * width, width, bytes);
    }
    const double got = load(at, operand.element);
    const double rms = std::sqrt(squares[e.operand] / counts[e.operand]);
    const double scale = rms > 0 ? rms : 1;
    double error = std::abs(got - e.value) / scale;
    if (!std::isfinite(got)) error = std::numeric_limits<double>::infinity();
    const double allowed = workload.tolerance.of(operand.element);
    if (result.worst.empty() || error - allowed > result.error - result.allowed) {
      result.error = error;
      result.allowed = allowed;
      result.worst = fmt::format("{}[{}]: {:.6g}, expected {:.6g}", operand.name, e.index, got, e.value);
    }
  }
  result.passed = result.error <= result.allowed;
  return result;
}

}  // namespace tessera::measure
