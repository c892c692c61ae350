// Any bytes as a file of measured kernels, in every layout but SQLite's: rows with possible shapes and times,
// or a complaint; nothing else.

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "configs/reader/document.hpp"
#include "validate/read.hpp"

namespace {

using namespace tessera;

std::int64_t number(const std::string& text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < 1 || n > 1 << 20)
    throw std::invalid_argument{"expected a size"};
  return n;
}

/// In the command line's place: products alone.
validate::Measurement product(const std::string& kind,
                              const std::vector<std::pair<std::string, std::string>>& arguments) {
  if (kind != "gemm") throw std::domain_error{"not simulated"};
  models::Gemm gemm{.m = 1, .n = 1, .k = 1};
  for (const auto& [key, value] : arguments) {
    if (key == "m")
      gemm.m = number(value);
    else if (key == "n")
      gemm.n = number(value);
    else if (key == "k")
      gemm.k = number(value);
    else
      throw std::invalid_argument{"unknown key"};
  }
  validate::Measurement m;
  m.kind = kind;
  m.op = gemm;
  return m;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    validate::Measurements rows;
    validate::read_text({reinterpret_cast<const char*>(data), size}, "t", product, rows);
    for (const validate::Measurement& m : rows.rows) {
      if (!(m.measured_us > 0) || !std::isfinite(m.measured_us)) std::abort();
      models::check(m.op);
      if (!(models::flops_of(m.op) >= 0)) std::abort();
    }
  } catch (const config::InputError&) {
  }
  return 0;
}
