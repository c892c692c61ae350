#pragma once
// Division of many numbers by one that is known at run time only, by multiplication: exact for all 32-bit
// numbers. [Lemire, Kaser, Kurz: Faster remainder by direct computation, Software: Practice and Experience
// 49(6), 2019]

#include <cstdint>
#include <limits>

namespace tessera::tile {

class Divisor {
 public:
  /// `by`: not zero.
  explicit Divisor(std::uint32_t by)
      : by_{by}, inverse_{by > 1 ? std::numeric_limits<std::uint64_t>::max() / by + 1 : 0} {}

  /// n / by, rounded down.
  std::uint32_t operator()(std::uint32_t n) const {
    if (by_ == 1) return n;
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint32_t>((Wide{inverse_} * n) >> 64U);
  }
  /// Rounded up, if n + by - 1 has no more than 32 bits.
  std::uint32_t up(std::uint32_t n) const { return (*this)(n + by_ - 1); }

 private:
  std::uint32_t by_;
  std::uint64_t inverse_;
};

}  // namespace tessera::tile
