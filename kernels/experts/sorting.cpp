#include "kernels/experts/sorting.hpp"

#include <algorithm>

namespace tessera::kernels {

using tile::Box;

namespace {

constexpr std::uint32_t kIndexBytes = 4;
constexpr std::uint32_t kThreads = 1024, kSortThreads = 256;
constexpr std::uint32_t kUnrolled = 4;
constexpr std::uint32_t kMostRounds = 1U << 13U;
constexpr std::uint32_t kSharedAtomicCycles = 40;
// The sums over 1024 threads: CUB's raking scan, in which 32 threads go up and then down 32 numbers each, one
// access to shared memory (30 cycles) after another; before it each thread clears 32 counters.
constexpr std::uint32_t kScanCycles = 2 * 32 * 30 + 32 * 10;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
std::uint32_t rounds(std::int64_t items, std::uint32_t threads) {
  return static_cast<std::uint32_t>(std::min<std::int64_t>((items + threads - 1) / threads, kMostRounds));
}

}  // namespace

bool AlignBlocks::small(const Sorting& s) { return s.choices < kThreads && s.experts <= 64; }

AlignBlocks::AlignBlocks(const Sorting& sorting, const GpuSpec& gpu) : sorting_{sorting}, chains_{gpu.sm} {
  shape_.name = small(sorting) ? "moe align, small batch" : "moe align";
  shape_.grid = small(sorting) ? 1 : 2;
  shape_.roles = {{"threads", small(sorting) ? 8 + 2 : kThreads / 32}};
  shape_.registers_per_cta = std::int64_t{shape_.threads()} * 32;
}

tile::Program AlignBlocks::program(tile::Cta cta, std::uint32_t) const {
  const Sorting& s = sorting_;
  if (cta.index == 1) {
    for (std::uint32_t r = 0, n = rounds(s.padded, kThreads); r < n; ++r)
      co_await tile::store(
          Box{s.to + std::uint64_t{r} * kThreads * kIndexBytes, 1, kThreads * kIndexBytes, 0});
    co_return;
  }
  // The loop is unrolled: four rounds' choices are asked for together.
  const std::uint32_t threads =
      small(s) ? static_cast<std::uint32_t>(std::max<std::int64_t>(s.experts, 32)) : kThreads;
  for (std::uint32_t pass = 0, passes = small(s) ? 2 : 1; pass < passes; ++pass) {
    for (std::uint32_t r = 0, n = rounds(s.choices, threads); r < n; ++r) {
      const auto here =
          static_cast<std::uint32_t>(std::min<std::int64_t>(threads, s.choices - std::int64_t{r} * threads));
      co_await tile::load(Box{s.from + std::uint64_t{r} * threads * kIndexBytes, 1, here * kIndexBytes, 0});
      if (r % kUnrolled == kUnrolled - 1 || r + 1 == n) co_await tile::load_wait();
      // The table is looked up by what was loaded: in the L1, but for the first time.
      if (s.mapped && r == 0) {
        co_await tile::load(Box{s.to, 1, static_cast<std::uint32_t>(s.experts) * kIndexBytes, 0});
        co_await tile::load_wait();
      } else if (s.mapped) {
        co_await tile::l1_load(here * kIndexBytes);
      }
      co_await tile::chain(kSharedAtomicCycles);
    }
    if (pass == 0) {
      co_await tile::chain(small(s) ? u(s.experts) * 2 * kSharedAtomicCycles / 4 : kScanCycles);
    }
  }
  // The sums go to global memory and come back before blocks are given to experts.
  co_await tile::store(Box{s.to, 1, 2 * 1024, 0});
  co_await tile::load(Box{s.to, 1, 2 * 1024, 0});
  co_await tile::load_wait();
  // Then a thread for each expert writes its blocks, one after another: first row / block_size, a division of
  // numbers known at run time only. The rows beyond the last block: the sum of all, from the L1, and another
  // division.
  co_await tile::chain(u(std::max<std::int64_t>(s.most_blocks, 1)) *
                           (Chains::integer_division() + Chains::alu(3)) +
                       chains_.l1 + Chains::integer_division() + Chains::alu(4));
  co_await tile::store(
      Box{s.to, 1, static_cast<std::uint32_t>(std::max<std::int64_t>(s.experts, 1)) * kIndexBytes, 0});
}

SortTokens::SortTokens(const Sorting& sorting) : sorting_{sorting} {
  shape_.name = "moe sort";
  shape_.grid =
      std::min(65535U, static_cast<std::uint32_t>((sorting.choices + kSortThreads - 1) / kSortThreads));
  shape_.roles = {{"threads", kSortThreads / 32}};
  shape_.registers_per_cta = kSortThreads * 24;
}

tile::Program SortTokens::program(tile::Cta cta, std::uint32_t) const {
  const Sorting& s = sorting_;
  for (std::int64_t i = std::int64_t{cta.index} * kSortThreads; i < s.choices;
       i += std::int64_t{shape_.grid} * kSortThreads) {
    const auto bytes =
        static_cast<std::uint32_t>(std::min<std::int64_t>(kSortThreads, s.choices - i)) * kIndexBytes;
    co_await tile::load(Box{s.from + u(i) * kIndexBytes, 1, bytes, 0});
    co_await tile::load_wait();
    // The table; then the atomic, a round trip to the L2 as a load is.
    if (s.mapped) co_await tile::l1_load(bytes);
    co_await tile::load(Box{s.to, 1, 32, 0});
    co_await tile::load_wait();
    co_await tile::store(Box{s.to + u(i) * kIndexBytes, 1, bytes, 0});
  }
}

StoreCount::StoreCount(std::uint64_t to) : to_{to} {
  shape_.name = "fill";
  shape_.grid = 1;
  shape_.roles = {{"threads", 4}};
  shape_.registers_per_cta = 128 * 24;
}

tile::Program StoreCount::program(tile::Cta, std::uint32_t) const {
  co_await tile::store(Box{to_, 1, kIndexBytes, 0});
}

}  // namespace tessera::kernels
