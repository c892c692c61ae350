#include "kernels/cuda/emulation.hpp"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace tessera::cuda::emulation {

namespace {

constexpr std::size_t kStackBytes = 192 << 10, kStaticSharedBytes = 48 << 10;

struct Barrier {
  int waiting = 0, members = 0;
  unsigned generation = 0;

  bool complete_if_all() {
    if (waiting == 0 || waiting < members) return false;
    waiting = 0;
    ++generation;
    return true;
  }
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  dim3 thread;
  bool done = false;
  void* fake_stack = nullptr;  // the address sanitizer's
};

/// The CTA that runs.
struct Cta {
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<Exchange> exchanges;
  Barrier all;
  std::vector<unsigned char> dynamic, fixed;
  std::map<std::string, std::size_t> fixed_at;
  std::size_t fixed_used = 0;
  ucontext_t scheduler;
  void* fake_stack = nullptr;  // the address sanitizer's; and where the scheduler's stack is
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  std::size_t running = 0;
  bool progress = false;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;
};
Cta* current = nullptr;

std::size_t warp_of_running() { return current->running / 32; }

// The address sanitizer is told of every change of stacks.
#ifdef __SANITIZE_ADDRESS__
void leave(void** fake_stack, const void* to, std::size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, to, bytes);
}
void enter(void* fake_stack, const void** from, std::size_t* bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, from, bytes);
}
/// A stack whose last frames were never left.
void forget(const unsigned char* stack) { __asan_unpoison_memory_region(stack, kStackBytes); }
#else
void leave(void**, const void*, std::size_t) {}
void enter(void*, const void**, std::size_t*) {}
void forget(const unsigned char*) {}
#endif

void to_scheduler() {
  Cta& cta = *current;
  Fiber& fiber = cta.fibers[cta.running];
  leave(fiber.done ? nullptr : &fiber.fake_stack, cta.stack, cta.stack_bytes);
  swapcontext(&fiber.context, &cta.scheduler);
  enter(fiber.fake_stack, nullptr, nullptr);
}

void to_fiber(Cta& cta, Fiber& fiber) {
  leave(&cta.fake_stack, fiber.stack.get(), kStackBytes);
  swapcontext(&cta.scheduler, &fiber.context);
  enter(cta.fake_stack, nullptr, nullptr);
}

void wait(Barrier& barrier) {
  const unsigned generation = barrier.generation;
  ++barrier.waiting;
  current->progress = true;
  barrier.complete_if_all();
  while (barrier.generation == generation) to_scheduler();
  current->progress = true;
}

void fiber_main() {
  Cta& cta = *current;
  enter(nullptr, &cta.stack, &cta.stack_bytes);
  try {
    (*cta.body)();
  } catch (...) {
    cta.error = std::current_exception();
  }
  // A thread that has returned no longer takes part in barriers.
  cta.fibers[cta.running].done = true;
  cta.progress = true;
  --cta.all.members;
  cta.all.complete_if_all();
  Barrier& warp = cta.warps[warp_of_running()];
  --warp.members;
  warp.complete_if_all();
  to_scheduler();
}

void prepare(Fiber& f) {
  f.done = false;
  forget(f.stack.get());
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.get();
  f.context.uc_stack.ss_size = kStackBytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, fiber_main, 0);
}

void run_cta(Cta& cta) {
  std::for_each(cta.fibers.begin(), cta.fibers.end(), prepare);
  cta.all = {.members = static_cast<int>(cta.fibers.size())};
  for (std::size_t w = 0; w < cta.warps.size(); ++w)
    cta.warps[w] = {.members = static_cast<int>(std::min<std::size_t>(32, cta.fibers.size() - 32 * w))};
  cta.fixed_at.clear();
  cta.fixed_used = 0;
  // Shared memory begins as anything: as what is no number, here.
  std::fill(cta.dynamic.begin(), cta.dynamic.end(), static_cast<unsigned char>(0xff));
  std::fill(cta.fixed.begin(), cta.fixed.end(), static_cast<unsigned char>(0xff));
  int idle_rounds = 0;
  for (bool left = true; left;) {
    left = false;
    cta.progress = false;
    for (cta.running = 0; cta.running < cta.fibers.size(); ++cta.running) {
      if (cta.fibers[cta.running].done) continue;
      left = true;
      threadIdx = cta.fibers[cta.running].thread;
      to_fiber(cta, cta.fibers[cta.running]);
      if (cta.error) std::rethrow_exception(cta.error);
    }
    idle_rounds = cta.progress ? 0 : idle_rounds + 1;
    if (left && idle_rounds > 3)
      throw std::runtime_error{"emulated kernel: its threads wait for each other forever"};
  }
}

}  // namespace

void wait_for_cta() { wait(current->all); }
void wait_for_warp() { wait(current->warps[warp_of_running()]); }
void yield() { to_scheduler(); }
void progressed() { current->progress = true; }
Exchange& exchange() { return current->exchanges[warp_of_running()]; }
unsigned char* dynamic_shared() {
  // As aligned as kernels ask for.
  const auto at = reinterpret_cast<std::uintptr_t>(current->dynamic.data());
  return current->dynamic.data() + (1024 - at % 1024) % 1024;
}

void* static_shared(const char* name, std::size_t bytes) {
  const auto [at, added] = current->fixed_at.try_emplace(name, current->fixed_used);
  if (added) current->fixed_used += (bytes + 127) / 128 * 128;
  if (current->fixed_used > current->fixed.size())
    throw std::runtime_error{"emulated kernel: too much shared memory"};
  const auto base = reinterpret_cast<std::uintptr_t>(current->fixed.data());
  return current->fixed.data() + (128 - base % 128) % 128 + at->second;
}

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  Cta cta;
  cta.fibers.resize(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    cta.fibers[i].stack = std::make_unique_for_overwrite<unsigned char[]>(kStackBytes);
    cta.fibers[i].thread = {static_cast<unsigned>(i % block.x), static_cast<unsigned>(i / block.x % block.y),
                            static_cast<unsigned>(i / block.x / block.y)};
  }
  cta.warps.resize((threads + 31) / 32);
  cta.exchanges.resize(cta.warps.size());
  cta.dynamic.resize(shared_bytes + 1024);
  cta.fixed.resize(kStaticSharedBytes + 128);
  cta.body = &body;
  blockDim = block;
  gridDim = grid;
  current = &cta;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_cta(cta);
  current = nullptr;
}

}  // namespace tessera::cuda::emulation
