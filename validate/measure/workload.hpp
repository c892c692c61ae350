#pragma once
// What is measured, as data: the operands of a kernel call, how each of its kernels is launched, and what
// float64 says that it computes.

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/random.hpp"
#include "validate/measure/arguments.hpp"

namespace tessera::measure {

enum class Element : std::uint8_t { bf16, f32, i32 };
std::int64_t bytes_of(Element element);

/// What an operand holds before the first launch.
struct Fill {
  enum class Kind : std::uint8_t {
    poison,  ///< every bit set: NaN, or -1. Outputs and scratch
    zeros,
    normal,   ///< offset + scale x a value of standard deviation 1
    uniform,  ///< offset + scale x a value in [0, 1)
    listed    ///< `list`
  } kind = Kind::poison;
  float scale = 1, offset = 0;
  std::shared_ptr<const std::vector<std::int32_t>> list = {};  ///< of i32 operands
};

struct Operand {
  std::string name;
  Element element = Element::bf16;
  std::int64_t count = 0;
  Fill fill = {};
  std::int64_t bytes() const { return count * bytes_of(element); }
};

/// Device addresses of the operands, in their order, and the stream to launch in.
struct Call {
  std::vector<void*> at;
  void* stream = nullptr;
};

struct Stage {
  std::string name;
  /// Enqueues; std::runtime_error if that fails. Empty in a build without CUDA.
  std::function<void(const Call&)> launch;
};

/// The seed of an operand's fill; one for each operand.
std::uint64_t seed_of(std::uint64_t seed, std::size_t operand);
/// To the nearest, ties to even, as GPUs convert.
double rounded(double value, Element element);

/// An operand's elements as they are filled, rounded to its element type, worked out again on the host: that
/// is most of what a check against float64 takes.
class Generated {
 public:
  /// `operand` stays where it is.
  Generated(const Operand& operand, std::uint64_t seed)
      : operand_{&operand},
        mixed_seed_{cuda::mixed(seed)},
        plain_{operand.fill.scale == 1 && operand.fill.offset == 0} {}
  double operator[](std::int64_t index) const {
    const Fill& fill = operand_->fill;
    if (fill.kind != Fill::Kind::normal && fill.kind != Fill::Kind::uniform) return fixed(index);
    const std::uint64_t bits = cuda::bits_of(mixed_seed_, index);
    float value = fill.kind == Fill::Kind::normal ? cuda::normal_of(bits) : cuda::uniform_of(bits);
    // As the device has it: one fused multiply-add.
    if (!plain_) value = std::fma(value, fill.scale, fill.offset);
    if (operand_->element != Element::bf16) return rounded(value, operand_->element);
    const auto word = std::bit_cast<std::uint32_t>(value);
    return std::bit_cast<float>((word + 0x7fff + ((word >> 16) & 1)) & 0xffff0000U);
  }

 private:
  double fixed(std::int64_t index) const;
  const Operand* operand_;
  std::uint64_t mixed_seed_;
  bool plain_;
};

/// The inputs as the host works them out again.
class Inputs {
 public:
  Inputs(const std::vector<Operand>& operands, std::uint64_t seed) {
    for (std::size_t i = 0; i < operands.size(); ++i) operands_.emplace_back(operands[i], seed_of(seed, i));
  }
  double operator()(std::size_t operand, std::int64_t index) const { return operands_[operand][index]; }

 private:
  std::vector<Generated> operands_;
};

/// A shape that is possible, and that no kernel here is for.
class NotMeasured : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// What float64 says of one element of an output.
struct Expected {
  std::size_t operand = 0;
  std::int64_t index = 0;
  double value = 0;
};

/// Largest |got - expected| over the rms of what is expected of the operand, by its type: bf16's rounding is
/// 2^-9 of a value, of which a large one is some times the rms; sums in fp32 are far nearer, and indices
/// exact.
struct Tolerance {
  double bf16 = 0.03, f32 = 1e-3, i32 = 0;
  double of(Element element) const {
    return element == Element::bf16 ? bf16 : element == Element::f32 ? f32 : i32;
  }
};

/// A microbenchmark's result: `amount` over time, or time over amount.
struct Figure {
  std::string unit;
  double amount = 1;
  bool rate = false;         ///< amount / time, else time / amount
  double unit_scale = 1;     ///< the result times this is in `unit`; time in seconds or cycles
  bool from_cycles = false;  ///< time is the first element of the operand "cycles", else that of the launch
};

/// An operand (i32) in which kernels leave what they chose. Of blocks, [sequences, tokens, heads, topk]: a
/// row's own block, then past ones, best first, then -1. Of experts, [tokens, topk].
struct ChoiceOutput {
  std::size_t operand = 0;
  std::int64_t tokens = 0, topk = 0;                 ///< of each sequence; the own block counts
  std::int64_t sequences = 1, heads = 0, block = 0;  ///< of blocks
  std::int64_t experts = 0;                          ///< 0: of blocks
};

struct Workload {
  Request request = {};
  std::string implementation = {};  ///< "cuBLASLt", "flash (mma.sync)"
  /// Why no tile program stands for what is measured; empty if one does.
  std::string unlike = {};
  std::vector<Operand> operands = {};
  std::vector<Stage> stages = {};  ///< launched one after the other
  /// Enqueued once after the fills, not timed. May be empty.
  std::function<void(const Call&)> prepare = {};
  /// Empty: there is nothing to check. Float64 for at most about `limit` elements of the outputs, spread over
  /// them; all if there are no more.
  std::function<std::vector<Expected>(const Inputs&, std::size_t limit)> expect = {};
  Tolerance tolerance = {};
  double flops = 0, min_bytes = 0;
  bool cold = false, graph = true;         ///< l2=cold, launch=host
  double least_warm_up_ms = 0;             ///< however short the suite has it
  bool emulable = true;                    ///< its kernels run on the CPU in a build without CUDA
  std::function<std::string()> note = {};  ///< after a launch: the library's algorithm
  std::shared_ptr<const Figure> figure = {};
  std::shared_ptr<const ChoiceOutput> choices = {};  ///< null: its kernels choose nothing

  std::int64_t bytes() const;
};

/// Evenly spread indices below `count`, with a step that shares no factor with small powers of two.
std::vector<std::int64_t> spread(std::int64_t count, std::size_t limit);

}  // namespace tessera::measure
