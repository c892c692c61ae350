#include "models/operators/operand.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <stdexcept>

namespace tessera::models {

int bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::fp32:
      return 4;
    case Dtype::bf16:
    case Dtype::fp16:
      return 2;
    case Dtype::fp8:
      return 1;
  }
  return 0;
}

std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::fp32:
      return "fp32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::fp16:
      return "fp16";
    case Dtype::fp8:
      return "fp8";
  }
  return "";
}

std::uint64_t hash_of(const Positions& positions) {
  if (!positions) return 0;
  // Every layer asks for the same shards' rows. An owner that is still known cannot be another's anew.
  struct Known {
    std::weak_ptr<const std::vector<std::int32_t>> rows;
    std::uint64_t hash = 0;
  };
  thread_local std::array<Known, 64> known;
  thread_local std::size_t oldest = 0;
  for (const Known& k : known) {
    if (!k.rows.owner_before(positions) && !positions.owner_before(k.rows)) return k.hash;
  }
  std::uint64_t h = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const std::int32_t p : *positions) {
    for (unsigned byte = 0; byte < 4; ++byte) {
      h ^= static_cast<std::uint32_t>(p) >> (8 * byte) & 0xffU;
      h *= 0x100000001b3ULL;
    }
  }
  known[oldest++ % known.size()] = {positions, h};
  return h;
}

double product(std::initializer_list<std::int64_t> factors) {
  double p = 1;
  for (const std::int64_t f : factors) p *= static_cast<double>(f);
  return p;
}

void require_positive(std::string_view kind, std::string_view name, std::int64_t value) {
  if (value <= 0)
    throw std::invalid_argument{fmt::format("{}: {} must be positive, not {}", kind, name, value)};
}

void require_heads(std::string_view kind, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
  require_positive(kind, "heads", heads);
  require_positive(kind, "kv_heads", kv_heads);
  require_positive(kind, "head_dim", head_dim);
  if (heads % kv_heads != 0) {
    throw std::invalid_argument{
        fmt::format("{}: heads ({}) must be a multiple of kv_heads ({})", kind, heads, kv_heads)};
  }
}

void require_positions(std::string_view kind, std::string_view name, const Positions& positions,
                       std::int64_t rows) {
  if (!positions) return;
  if (static_cast<std::int64_t>(positions->size()) != rows) {
    throw std::invalid_argument{
        fmt::format("{}: {} positions for {} rows in {}", kind, positions->size(), rows, name)};
  }
  if (std::adjacent_find(positions->begin(), positions->end(), std::greater_equal<>{}) != positions->end())
    throw std::invalid_argument{fmt::format("{}: {} must be strictly increasing", kind, name)};
}

}  // namespace tessera::models
