#pragma once
// Threads that run the windows of several modules at once.
//
// Modules that SystemC activates at the same time do not see each other's events before the next window, so
// their windows can run side by side. What they send is kept apart per thread and handed over when all are
// done; results are the same with any number of threads.

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace tessera::sim {

/// The most threads a pool can have.
inline constexpr unsigned kMostThreads = 8;

/// Which thread of the pool this is: 0 for the one that owns it, and outside of pools.
unsigned thread_index();

class WindowPool {
 public:
  /// `threads` counts the caller's own.
  explicit WindowPool(unsigned threads);
  ~WindowPool();
  WindowPool(const WindowPool&) = delete;
  WindowPool& operator=(const WindowPool&) = delete;

  /// Calls task(context, i) once for each i below `count`, on any thread, and returns when all have returned.
  void run(std::uint32_t count, void (*task)(void* context, std::uint32_t i), void* context);

 private:
  void work();
  void serve(unsigned index);

  // One round: its number, how many tasks it has, the next to be taken.
  static constexpr unsigned kTaskBits = 12;
  std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};
  std::atomic<bool> stop_{false};
  void (*run_)(void*, std::uint32_t) = nullptr;
  void* context_ = nullptr;
  std::vector<std::thread> threads_;
};

}  // namespace tessera::sim
