#pragma once
// Operators with their arguments as `tessera kernel` writes them: what the CSV readers build rows from.

#include <cstdint>
#include <functional>

#include "configs/reader/document.hpp"
#include "validate/measurement.hpp"

namespace tessera::validate {

struct AttentionShape {
  std::int64_t batch = 1, heads = 0, kv_heads = 0, head_dim = 0;
};

Measurement gemm_row(std::int64_t m, std::int64_t n, std::int64_t k, models::Dtype dtype);
/// Causal attention of `chunk` new rows per sequence, after `past` earlier ones.
Measurement prefill_row(const AttentionShape& shape, std::int64_t chunk, std::int64_t past, int flash_version,
                        models::Dtype dtype);
/// `context` counts the new row too.
Measurement decode_row(const AttentionShape& shape, std::int64_t context, models::Dtype dtype);
/// The same attention as a serving engine calls it: new k and v rows written to a paged cache first.
Measurement through_paged_cache(Measurement attention);
/// Absorbed latent attention through a serving engine's cache: of whole sequences (`seq` new rows, no past),
/// or of one new row over `context` rows, its own included. DeepSeek-V3's widths.
Measurement latent_prefill_row(std::int64_t batch, std::int64_t seq, std::int64_t heads, models::Dtype dtype);
Measurement latent_decode_row(std::int64_t batch, std::int64_t context, std::int64_t heads,
                              models::Dtype dtype);
Measurement rope_row(std::int64_t rows, const AttentionShape& shape, models::Dtype dtype);
Measurement activation_row(std::int64_t rows, std::int64_t width, models::ActivationKind kind,
                           models::Dtype dtype);

/// Throws `error(message)` if the shape is impossible, or so large that its bytes could not be counted.
void require_possible(const Measurement& row,
                      const std::function<config::InputError(const std::string&)>& error);

}  // namespace tessera::validate
