#include "sim/core/window_pool.hpp"

#include <algorithm>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tessera::sim {

namespace {

thread_local unsigned t_index = 0;

void pause() {
#if defined(__SSE2__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// A window takes microseconds; a sleeping thread takes several to wake. About 20 us of looking.
constexpr int kLooks = 1000;

}  // namespace

unsigned thread_index() { return t_index; }

WindowPool::WindowPool(unsigned threads) {
  for (unsigned i = 1; i < std::min(threads, kMostThreads); ++i)
    threads_.emplace_back([this, i] { serve(i); });
}

WindowPool::~WindowPool() {
  stop_ = true;
  ticket_.fetch_add(std::uint64_t{1} << 2 * kTaskBits);
  ticket_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void WindowPool::run(std::uint32_t count, void (*task)(void*, std::uint32_t), void* context) {
  run_ = task;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  const std::uint64_t round = (ticket_.load(std::memory_order_relaxed) >> 2 * kTaskBits) + 1;
  ticket_.store(round << 2 * kTaskBits | std::uint64_t{count} << kTaskBits, std::memory_order_release);
  ticket_.notify_all();
  work();
  for (int looks = 0; done_.load(std::memory_order_acquire) != count; ++looks) {
    if (looks < kLooks)
      pause();
    else
      std::this_thread::yield();
  }
}

void WindowPool::work() {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kTaskBits) - 1;
  for (;;) {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
      if ((ticket & kMask) >= (ticket >> kTaskBits & kMask)) return;
    } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
    run_(context_, static_cast<std::uint32_t>(ticket & kMask));
    done_.fetch_add(1, std::memory_order_release);
  }
}

void WindowPool::serve(unsigned index) {
  t_index = index;
  std::uint64_t seen = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    work();
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    for (int looks = 0; ticket == seen && looks < kLooks; ++looks) {
      pause();
      ticket = ticket_.load(std::memory_order_acquire);
    }
    if (ticket == seen) ticket_.wait(seen, std::memory_order_acquire);
    seen = ticket_.load(std::memory_order_acquire);
  }
}

}  // namespace tessera::sim
