#pragma once
// Which rows are held out together in k-fold cross-validation.

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::validate {

/// The fold of each row, 0 to folds - 1. Rows of equal key are one kernel and share a fold, else a held-out
/// row would have been fitted to under another line. The keys of each kind are dealt out evenly, in an order
/// drawn by the seed. `kinds` and `keys` are parallel to the rows. std::invalid_argument if there are fewer
/// keys than folds.
std::vector<int> folds_of(const std::vector<std::string>& kinds, const std::vector<std::string>& keys,
                          int folds, std::uint64_t seed);

}  // namespace tessera::validate
