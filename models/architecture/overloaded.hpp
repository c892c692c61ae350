#pragma once

namespace tessera::models {

/// A visitor of a variant made of one lambda per alternative.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
/// C++20 deduces so by itself; clang 14 (the fuzz preset) does not yet.
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace tessera::models
