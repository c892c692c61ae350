#include "kernels/cuda/emulation.hpp"

#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include "kernels/cuda/random.hpp"

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

struct Group {
  std::vector<std::function<void()>> later;
  bool at_once = false, used = false;
};
/// Those that were closed and not waited for, the oldest first, and the open one.
struct Groups {
  std::deque<Group> closed;
  Group open;
  bool empty() const {
    return !open.used && std::none_of(closed.begin(), closed.end(), [](const Group& g) { return g.used; });
  }
};
/// An accumulator that products in flight write.
struct InFlight {
  std::vector<float> values;
  std::size_t groups = 0;  // of products that are to be done first, the open one included
};

struct Fiber {
  ucontext_t context;
  Groups async[2];
  std::map<float*, InFlight> accumulators;
  bool fenced = false;
  std::unique_ptr<unsigned char[]> stack;
  dim3 thread;
  bool done = false;
  void* fake_stack = nullptr;  // the address sanitizer's
};

/// As aligned as kernels ask for, and not a byte longer: what is written beyond is the sanitizer's to find.
constexpr std::align_val_t kSharedAlignment{1024};
struct Aligned {
  void operator()(unsigned char* memory) const { ::operator delete(memory, kSharedAlignment); }
};

/// The CTA that runs.
struct Cta {
  std::vector<Fiber> fibers;
  std::vector<Barrier> warps;
  std::vector<Exchange> exchanges;
  Barrier all;
  std::unique_ptr<unsigned char, Aligned> dynamic;
  std::size_t dynamic_bytes = 0;
  std::vector<unsigned char> fixed;
  std::vector<std::pair<void*, std::function<void()>>> deliveries;
  std::uint64_t draws = 0;
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
Fiber& running() { return current->fibers[current->running]; }
Groups& groups_of(Async kind) { return running().async[static_cast<std::size_t>(kind)]; }
void carry_out(Group& group) {
  for (const auto& act : group.later) act();
  group.later.clear();
}
std::uint64_t draw(std::uint64_t below) { return mixed(current->draws++) % below; }

void require_nothing_in_flight(const Fiber& fiber) {
  for (const Async kind : {Async::copies, Async::products})
    if (!fiber.async[static_cast<std::size_t>(kind)].empty())
      throw std::runtime_error{std::string{"emulated kernel: a thread ended without waiting for its "} +
                               (kind == Async::copies ? "copies" : "products")};
}

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
    require_nothing_in_flight(running());
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
  f.async[0] = f.async[1] = {};
  f.accumulators.clear();
  f.fenced = false;
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
  std::fill_n(cta.dynamic.get(), cta.dynamic_bytes, static_cast<unsigned char>(0xff));
  cta.deliveries.clear();
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
  if (!cta.deliveries.empty())
    throw std::runtime_error{"emulated kernel: a CTA ended while bytes were on their way to it"};
}

}  // namespace

void wait_for_cta() { wait(current->all); }
void wait_for_warp() { wait(current->warps[warp_of_running()]); }
void yield() { to_scheduler(); }
void let_others_go_on() {
  for (std::uint64_t rounds = draw(4); rounds > 0; --rounds) {
    current->progress = true;
    to_scheduler();
  }
}
void progressed() { current->progress = true; }
Exchange& exchange() { return current->exchanges[warp_of_running()]; }
unsigned char* dynamic_shared() { return current->dynamic.get(); }

void start(Async kind, std::function<void()> act) {
  Group& open = groups_of(kind).open;
  if (kind == Async::products && !running().fenced)
    throw std::runtime_error{"emulated kernel: products without a fence before them"};
  // All of a group at once or all later, so that products stay in order; copies each by itself.
  if (!open.used || kind == Async::copies) open.at_once = draw(2) == 0;
  open.used = true;
  if (!open.at_once) {
    open.later.push_back(std::move(act));
    return;
  }
  // Products stay in order.
  if (kind == Async::products)
    for (Group& before : groups_of(kind).closed) carry_out(before);
  act();
}

void close_group(Async kind) {
  Groups& groups = groups_of(kind);
  groups.closed.push_back(std::exchange(groups.open, {}));
  if (kind == Async::products) running().fenced = false;
}

void wait_groups(Async kind, int pending) {
  if (kind == Async::products) let_others_go_on();
  Groups& groups = groups_of(kind);
  std::size_t done = 0;
  for (; groups.closed.size() > static_cast<std::size_t>(pending); ++done) {
    carry_out(groups.closed.front());
    groups.closed.pop_front();
  }
  if (kind != Async::products) return;
  // The other lanes' products read this one's registers.
  wait_for_warp();
  auto& accumulators = running().accumulators;
  for (auto at = accumulators.begin(); at != accumulators.end();) {
    InFlight& a = at->second;
    a.groups -= std::min(a.groups, done);
    if (a.groups > 0) {
      ++at;
      continue;
    }
    std::copy(a.values.begin(), a.values.end(), at->first);
    at = accumulators.erase(at);
  }
}

float* in_flight(float* registers, int count) {
  const auto [at, added] = running().accumulators.try_emplace(registers);
  InFlight& a = at->second;
  if (added) {
    a.values.assign(registers, registers + count);
    std::fill_n(registers, count, std::numeric_limits<float>::quiet_NaN());
  }
  a.groups = groups_of(Async::products).closed.size() + 1;
  return a.values.data();
}

void fence_products() { running().fenced = true; }

void deliver(void* barrier, std::function<void()> act) {
  if (draw(2) == 0)
    act();
  else
    current->deliveries.emplace_back(barrier, std::move(act));
}

void expect_deliveries(void* barrier) {
  auto& all = current->deliveries;
  for (std::size_t i = 0; i < all.size();) {
    if (all[i].first != barrier) {
      ++i;
      continue;
    }
    const auto act = std::move(all[i].second);
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
    act();
  }
}

void require_aligned(const void* address, std::size_t bytes, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0)
    throw std::runtime_error{std::string{"emulated kernel: "} + what + ": expected an address that is a " +
                             "multiple of " + std::to_string(bytes)};
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
  cta.dynamic.reset(static_cast<unsigned char*>(::operator new(shared_bytes, kSharedAlignment)));
  cta.dynamic_bytes = shared_bytes;
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
