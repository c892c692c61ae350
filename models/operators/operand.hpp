#pragma once
// What every operator is described with: number formats, rows' positions, operands; and the checks that
// operators share.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::models {

enum class Dtype { fp32, bf16, fp16, fp8 };
int bytes_of(Dtype dtype);
std::string_view name_of(Dtype dtype);

/// The original positions of a shard's rows, strictly increasing. Null means 0, 1, 2, ...
using Positions = std::shared_ptr<const std::vector<std::int32_t>>;
/// Of every position, in order; 0 for null.
std::uint64_t hash_of(const Positions& positions);

/// One array that a kernel reads or writes, in the order of the kernel's operands.
struct Operand {
  std::string_view role;  ///< "a", "weights", "q", "k", "v", "out", ...
  std::int64_t bytes = 0;
  bool written = false;
  std::int32_t over = -1;  ///< written in place: over the operand of this index
};

/// Row maximum and sum of exponentials, fp32, of a row and head of a partial attention.
inline constexpr std::int64_t kStatsBytes = 8;

/// In floating point: FLOP counts pass 2^63.
double product(std::initializer_list<std::int64_t> factors);

// Throw std::invalid_argument, beginning with the operator's kind.
void require_positive(std::string_view kind, std::string_view name, std::int64_t value);
/// All positive, and heads a multiple of kv_heads.
void require_heads(std::string_view kind, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim);
/// One position per row, strictly increasing.
void require_positions(std::string_view kind, std::string_view name, const Positions& positions,
                       std::int64_t rows);

}  // namespace tessera::models
