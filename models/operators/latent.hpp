#pragma once
// Multi-head latent attention (DeepSeek-V2): keys and values are projections of one cached row per token, a
// latent c shared by all heads and one rotated key k_r. Two forms of the same function, equal in exact
// arithmetic (docs/operators/mla.md):
//
// - naive: k_h = [W_uk_h c ; k_r] and v_h = W_uv_h c are formed for every head, then attended to. Prefill.
// - absorbed: q_h W_uk_h is scored against c itself, and W_uv_h applied to what comes out. All heads share
// the
//   cached row, as in multi-query attention: decode reads 576 elements per token, whatever the heads.
//
// Widths are DeepSeek-V3's unless given [arXiv 2405.04434, 2412.19437].

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/operators/attention.hpp"
#include "models/operators/operand.hpp"

namespace tessera::models {

/// Which kernels: those that serving engines launch on the GPU's architecture, or FlashAttention-3, or
/// FlashAttention-2 (naive form), or Triton's split-KV kernels (absorbed form, one query row a sequence).
enum class LatentAlgorithm : std::uint8_t { by_gpu, flash3, flash2, triton };

/// The naive form, after the up-projection: q, k [rows, heads, nope + rope], v, out [rows, heads, value].
/// With `partial`, also returns the row maximum and sum of exponentials, for a later Merge.
struct LatentAttention {
  std::int64_t batch = 1;
  std::int64_t q_rows = 0, kv_rows = 0;  ///< per sequence
  std::int64_t heads = 0;
  std::int64_t nope = 128, rope = 64, value = 128;  ///< widths of a head
  bool causal = false;                              ///< as Attention::causal
  bool partial = false;
  Positions q_positions, kv_positions;  ///< as of Attention
  Dtype dtype = Dtype::bf16;
  LatentAlgorithm algorithm = LatentAlgorithm::by_gpu;  ///< not triton

  /// Dense attention over the same rows with as many key heads as heads: for all that does not depend on v.
  Attention scores() const;
};

/// The absorbed form, of the last `q_rows` rows of each sequence of `context` cached rows: q [rows, heads,
/// latent] and [rows, heads, rope], cache [rows, latent + rope], out [rows, heads, latent]. One row a
/// sequence is a decode step; the up-projections before and after are BatchedGemms.
struct LatentDecode {
  std::int64_t batch = 1;
  std::int64_t context = 0;
  std::int64_t heads = 0;
  std::int64_t q_rows = 1;
  std::int64_t latent = 512, rope = 64;
  bool causal = true;    ///< q row i of a sequence sees its first context - q_rows + i + 1 rows
  bool partial = false;  ///< as LatentAttention::partial
  Dtype dtype = Dtype::bf16;
  /// A serving engine's call: the q_rows are new and first written into a paged cache. Not partial.
  bool paged = false;
  LatentAlgorithm algorithm = LatentAlgorithm::by_gpu;  ///< not flash2

  std::int64_t visible(std::int64_t q) const { return causal ? context - q_rows + q + 1 : context; }
};

/// As the command line has it: "auto", "fa3", "fa2", "triton".
std::string_view name_of(LatentAlgorithm algorithm);

std::string_view kind(const LatentAttention& op);
std::string_view kind(const LatentDecode& op);
double flops(const LatentAttention& op);
double flops(const LatentDecode& op);
std::vector<Operand> operands(const LatentAttention& op);
std::vector<Operand> operands(const LatentDecode& op);
std::string signature(const LatentAttention& op);
std::string signature(const LatentDecode& op);
void require_possible(const LatentAttention& op);
void require_possible(const LatentDecode& op);

}  // namespace tessera::models
