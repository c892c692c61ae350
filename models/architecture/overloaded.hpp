#pragma once

namespace tessera::models {

/// A visitor of a variant made of one lambda per alternative.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

}  // namespace tessera::models
