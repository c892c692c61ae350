#include "kernels/tile/program.hpp"

#include <array>
#include <new>

namespace tessera::tile::detail {

namespace {

constexpr std::size_t kClass = 64;
constexpr std::size_t kClasses = 64;

struct FreeFrame {
  FreeFrame* next;
};

struct FramePool {
  std::array<FreeFrame*, kClasses> free{};
  ~FramePool() {
    for (FreeFrame* f : free) {
      while (f != nullptr) ::operator delete(std::exchange(f, f->next));
    }
  }
};

thread_local FramePool pool;

}  // namespace

void* allocate_frame(std::size_t bytes) {
  const std::size_t c = (bytes + kClass - 1) / kClass;
  if (c >= kClasses) return ::operator new(bytes);
  if (FreeFrame* f = pool.free[c]; f != nullptr) {
    pool.free[c] = f->next;
    return f;
  }
  return ::operator new(c* kClass);
}

void free_frame(void* frame, std::size_t bytes) {
  const std::size_t c = (bytes + kClass - 1) / kClass;
  if (c >= kClasses) {
    ::operator delete(frame);
    return;
  }
  pool.free[c] = new (frame) FreeFrame{pool.free[c]};
}

}  // namespace tessera::tile::detail
