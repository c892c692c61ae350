// The emulation that the CUDA kernels' tests run on: a kernel that is wrong in how it waits is found out.

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "kernels/cuda/wgmma.cuh"

namespace tessera::cuda {

namespace {

constexpr int kThreads = 32, kWords = 4, kTiles = 6;

/// Tiles of 16 bytes a thread through two stages of cp.async; `pending` groups are left when a tile is read.
template <int kPending>
void stream_tiles(const std::uint32_t* from, std::uint32_t* sums) {
  TESSERA_DYNAMIC_SHARED(memory);
  auto* const stages = reinterpret_cast<std::uint32_t*>(memory);
  const auto t = static_cast<int>(threadIdx.x);
  const auto bring = [&](int tile) {
    copy_async(stages + (tile % 2 * kThreads + t) * kWords, from + (tile * kThreads + t) * kWords, true);
  };
  std::uint32_t sum = 0;
  bring(0);
  commit_copies();
  for (int tile = 0; tile < kTiles; ++tile) {
    if (tile + 1 < kTiles) bring(tile + 1);
    commit_copies();
    wait_copies<kPending>();
    __syncthreads();
    for (int i = 0; i < kWords; ++i) sum += stages[(tile % 2 * kThreads + (t + 1) % kThreads) * kWords + i];
    __syncthreads();
  }
  wait_copies<0>();
  sums[t] = sum;
}

template <int kPending>
bool streams_right() {
  std::vector<std::uint32_t> from(kTiles * kThreads * kWords), sums(kThreads), expected(kThreads, 0);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint32_t>(i * i + 1);
  // 16-byte pieces of an aligned copy.
  std::vector<uint4> aligned(from.size() / kWords);
  std::memcpy(aligned.data(), from.data(), from.size() * 4);
  for (int tile = 0; tile < kTiles; ++tile)
    for (int t = 0; t < kThreads; ++t)
      for (int i = 0; i < kWords; ++i)
        expected[static_cast<std::size_t>(t)] +=
            from[static_cast<std::size_t>((tile * kThreads + (t + 1) % kThreads) * kWords + i)];
  launch("stream_tiles", stream_tiles<kPending>, {1}, {kThreads}, 2 * kThreads * kWords * 4, nullptr,
         reinterpret_cast<const std::uint32_t*>(aligned.data()), sums.data());
  return sums == expected;
}

enum class Mistake : std::uint8_t { none, no_fence, no_wait, early_overwrite };

/// c = a b, of ones: 16 in every element.
void multiply(float* to, Mistake mistake) {
  TESSERA_DYNAMIC_SHARED(memory);
  auto* const tiles = reinterpret_cast<bf16*>(memory);
  for (int i = static_cast<int>(threadIdx.x); i < 128 * 64; i += 128) tiles[i] = bf16{1.0F};
  __syncthreads();
  float c[32];
  for (int group = 0; group < 8; ++group) {
    if (mistake != Mistake::no_fence) wgmma_fence();
    wgmma<64, false>(c, wgmma_descriptor(0, 16, 1024), wgmma_descriptor(64 * 128, 16, 1024), group > 0);
    wgmma_commit();
    if (mistake == Mistake::early_overwrite) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < 64 * 64; i += 128) tiles[i] = bf16{0.0F};
      __syncthreads();
    }
    if (mistake != Mistake::no_wait) wgmma_wait<0>();
  }
  for (int i = 0; i < 32; ++i) to[static_cast<int>(threadIdx.x) * 32 + i] = c[i];
}

std::vector<float> products(Mistake mistake) {
  std::vector<float> to(128 * 32);
  launch("multiply", multiply, {1}, {128}, 128 * 64 * 2, nullptr, to.data(), mistake);
  return to;
}

/// A bulk copy of 64 bytes.
void fetch(const unsigned char* from, unsigned char* to, int expected_bytes, bool waits) {
  TESSERA_DYNAMIC_SHARED(memory);
  auto* const barrier = reinterpret_cast<Barrier*>(memory + 64);
  init_barrier(barrier, 1);
  arrive_expecting(barrier, expected_bytes);
  bulk_load(memory, from, 64, barrier);
  if (waits) wait_phase(barrier, 0);
  std::memcpy(to, memory, 64);
}

}  // namespace

TEST_CASE("a kernel that reads copies before it waited for their group is found out") {
  CHECK(streams_right<1>());
  CHECK(streams_right<0>());
  CHECK_FALSE(streams_right<2>());
}

TEST_CASE("a kernel that ends without waiting for what it started is found out") {
  alignas(16) std::uint32_t from[4] = {1, 2, 3, 4};
  const auto forgets = [](const std::uint32_t* at) {
    TESSERA_DYNAMIC_SHARED(memory);
    copy_async(memory, at, true);
    commit_copies();
  };
  void (*const kernel)(const std::uint32_t*) = forgets;
  CHECK_THROWS_AS(launch("forgets", kernel, {1}, {1}, 16, nullptr, &from[0]), std::runtime_error);
  const std::uint32_t* const odd = reinterpret_cast<const std::uint32_t*>(&from[1]);
  CHECK_THROWS_AS(launch("forgets", kernel, {1}, {1}, 16, nullptr, odd), std::runtime_error);
  CHECK_THROWS_AS(products(Mistake::no_wait), std::runtime_error);
}

TEST_CASE("products are there when they were waited for, of operands that stay till then") {
  for (const float x : products(Mistake::none)) CHECK(x == 8 * 16);
  CHECK_THROWS_AS(products(Mistake::no_fence), std::runtime_error);
  int wrong_when_overwritten = 0;
  for (const float x : products(Mistake::early_overwrite)) wrong_when_overwritten += x != 8 * 16 ? 1 : 0;
  CHECK(wrong_when_overwritten > 0);
}

TEST_CASE("bytes that a barrier does not expect, or that nobody waits for, are found out") {
  alignas(16) unsigned char from[64], to[64] = {};
  for (int i = 0; i < 64; ++i) from[i] = static_cast<unsigned char>(i + 1);
  const auto run = [&](int expected, bool waits) {
    launch("fetch", fetch, {4}, {1}, 128, nullptr, static_cast<const unsigned char*>(from),
           static_cast<unsigned char*>(to), expected, waits);
  };
  run(64, true);
  CHECK(std::equal(from, from + 64, to));
  CHECK_THROWS_AS(run(80, true), std::runtime_error);   // waits for ever
  CHECK_THROWS_AS(run(64, false), std::runtime_error);  // in one of four CTAs the bytes come too late
}

}  // namespace tessera::cuda
