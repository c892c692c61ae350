#include "validate/folds.hpp"

#include <fmt/format.h>

#include <map>
#include <random>
#include <set>
#include <stdexcept>

namespace tessera::validate {

std::vector<int> folds_of(const std::vector<std::string>& kinds, const std::vector<std::string>& keys,
                          int folds, std::uint64_t seed) {
  std::map<std::string, std::set<std::string>> by_kind;
  for (std::size_t i = 0; i < keys.size(); ++i) by_kind[kinds[i]].insert(keys[i]);
  std::mt19937_64 random{seed};
  std::map<std::pair<std::string, std::string>, int> fold_of;
  std::size_t dealt = 0;  // goes on from kind to kind, so that the folds stay even
  for (const auto& [kind, distinct] : by_kind) {
    std::vector<std::string> order{distinct.begin(), distinct.end()};
    // Fisher-Yates by hand: std::shuffle differs between libraries.
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    for (const std::string& key : order)
      fold_of[{kind, key}] = static_cast<int>(dealt++ % static_cast<std::size_t>(folds));
  }
  if (dealt < static_cast<std::size_t>(folds)) {
    throw std::invalid_argument{
        fmt::format("{} folds need at least as many different kernels, and there are {}", folds, dealt)};
  }
  std::vector<int> of_row;
  for (std::size_t i = 0; i < keys.size(); ++i) of_row.push_back(fold_of.at({kinds[i], keys[i]}));
  return of_row;
}

}  // namespace tessera::validate
