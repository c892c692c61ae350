#pragma once
// What the kernels of a chunkwise call share: its shape, and where everything lies. Layouts as in
// flash-linear-attention: tokens outermost, then heads, then channels.

#include <algorithm>
#include <cstdint>

#include "kernels/library/lower.hpp"
#include "kernels/tile/op.hpp"
#include "models/operators/linear_attention.hpp"

namespace tessera::kernels {

/// Sub-chunks, within which the running sum of the decay has one reference.
inline constexpr std::uint32_t kSubChunk = 16;

struct ChunkedCall {
  models::LinearAttention op;
  // Operands; q and k after normalisation, where there is one.
  std::uint64_t q = 0, k = 0, v = 0, decay = 0, strength = 0, state = 0, out = 0, state_out = 0;
  // Workspace: running sums of the decay (fp32), scores q k^T and the inverse of I + A (a row of `chunk` per
  // token and head), its diagonal blocks (fp32), W, the keys decayed to the chunk's end, U, D and the state
  // before each chunk.
  std::uint64_t sums = 0, scores = 0, inverse = 0, diagonal = 0, w = 0, kg = 0, u = 0, d = 0, states = 0;

  std::uint32_t element() const { return static_cast<std::uint32_t>(models::bytes_of(op.dtype)); }
  std::uint32_t chunk() const { return static_cast<std::uint32_t>(op.chunk); }
  std::uint32_t k_dim() const { return static_cast<std::uint32_t>(op.k_dim); }
  std::uint32_t v_dim() const { return static_cast<std::uint32_t>(op.v_dim); }
  std::uint64_t heads() const { return static_cast<std::uint64_t>(op.heads); }
  std::uint64_t tokens() const { return static_cast<std::uint64_t>(op.batch * op.seq); }
  std::uint64_t head_tokens() const { return tokens() * heads(); }
  std::uint64_t chunks_of_sequence() const {
    return static_cast<std::uint64_t>((op.seq + op.chunk - 1) / op.chunk);
  }
  std::uint64_t chunks() const { return static_cast<std::uint64_t>(op.batch) * chunks_of_sequence(); }
  std::uint64_t head_chunks() const { return chunks() * heads(); }
  bool vector_decay() const { return op.rule.decay == models::Decay::vector; }
  /// Running sums are stored for decays that tokens give.
  std::uint32_t sums_per_token() const {
    return vector_decay() ? k_dim() : op.rule.decay == models::Decay::scalar ? 1 : 0;
  }
};

/// One chunk of one head. Kernels number them with the chunk varying fastest, as their grids do.
struct HeadChunk {
  std::uint64_t token = 0;  ///< the first, of all sequences
  std::uint32_t rows = 0;
  std::uint64_t head = 0, chunk = 0;  ///< the chunk of all sequences

  HeadChunk(const ChunkedCall& call, std::uint64_t number)
      : head{number / call.chunks()}, chunk{number % call.chunks()} {
    const std::uint64_t each = call.chunks_of_sequence(), first = chunk % each * call.chunk();
    const auto seq = static_cast<std::uint64_t>(call.op.seq);
    token = chunk / each * seq + first;
    rows = static_cast<std::uint32_t>(std::min<std::uint64_t>(call.chunk(), seq - first));
  }
};

/// `rows` rows of `columns` elements of `bytes`, from column `column` of this head: of an array of `width`
/// elements per token and head.
inline tile::Box head_box(const ChunkedCall& call, std::uint64_t base, std::uint64_t token,
                          std::uint32_t rows, std::uint64_t head, std::uint32_t width, std::uint32_t column,
                          std::uint32_t columns, std::uint32_t bytes) {
  return {base + ((token * call.heads() + head) * width + column) * bytes, rows, columns * bytes,
          call.heads() * width * bytes};
}

}  // namespace tessera::kernels
