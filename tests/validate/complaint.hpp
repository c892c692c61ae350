#pragma once
// The message of an InputError, checked to be one line.

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "configs/reader/document.hpp"

namespace tessera::validate {

/// "" if `f` throws nothing; anything but an InputError fails the test.
template <class F>
std::string complaint(F f) {
  try {
    f();
  } catch (const config::InputError& e) {
    const std::string what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    return what;
  }
  return "";
}

}  // namespace tessera::validate
