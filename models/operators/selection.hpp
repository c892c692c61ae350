#pragma once
// Which blocks of past keys each query attends in block-sparse attention: recorded lists, or a stated
// distribution from which only counts are drawn, since lists for millions of rows would not fit.
//
// Blocks lie on original positions: block b holds positions b * block .. (b + 1) * block - 1. A query's own
// block is always attended (causally) and is not in its list; top-k counts it, so a list has at most
// min(topk - 1, own block) entries, all of them earlier blocks. [arXiv 2502.13189]

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/operators/operand.hpp"

namespace tessera::models {

/// What real gating chose: of head h (batch-major) and row r, blocks[offsets[h * rows + r]] up to the next
/// offset.
struct SelectionLists {
  std::int64_t heads = 0, rows = 0;
  std::vector<std::uint64_t> offsets;  ///< heads * rows + 1
  std::vector<std::int32_t> blocks;
};

/// Of a model's layers, by number from 0.
using SelectionLayers = std::map<int, std::shared_ptr<const SelectionLists>>;

/// Distributions: the probability of a past block, relative to others.
///   uniform  all alike
///   recent   (1 + a)^-skew, a = how many past blocks are nearer
///   zipf     (1 + r)^-skew, r = the block's rank in a random order of the blocks, another for each head
enum class SelectionKind : std::uint8_t { uniform, recent, zipf, lists };
std::string_view name_of(SelectionKind kind);

struct Selection {
  SelectionKind kind = SelectionKind::uniform;
  double skew = 1;
  std::uint64_t seed = 1;
  std::shared_ptr<const SelectionLists> lists;  ///< of kind lists
  /// Of kind lists, in place of `lists`: what of_layer takes them from.
  std::shared_ptr<const SelectionLayers> layers;
};
/// Of one layer: its own lists where there are layers, those of the only one if there is one. Throws
/// std::invalid_argument for a layer that has none.
Selection of_layer(const Selection& selection, int layer);

/// Equal for selections that give equal counts.
std::string signature(const Selection& selection);

/// How many rows lie in each block of a sequence.
using RowsPerBlock = std::vector<std::int64_t>;
/// Of the rows at `positions` (null: 0 .. rows - 1).
RowsPerBlock rows_per_block(std::int64_t rows, std::int64_t block, const Positions& positions = nullptr);

/// How many query rows of `head` take each past block, in all sum over rows of min(topk - 1, own block). Of a
/// distribution: blocks are drawn one after another without the ones already drawn; a block's chance is that
/// of arriving among the first if block i arrives at an exponential time of rate weight_i, 1 - exp(-weight_i
/// t), with t such that the chances of a row sum to how many it takes; own blocks are grouped into at most 64
/// spans, in which t is taken alike; the count then varies around its mean as a sum of independent draws
/// would, by a hash of (seed, head, block). Of lists: what they say of the rows at `positions` (null: all).
std::vector<std::int64_t> routed_rows(const Selection& selection, std::int64_t head, std::int64_t topk,
                                      const RowsPerBlock& rows, const Positions& positions = nullptr);

}  // namespace tessera::models
