#pragma once
// Partitions of a sequence's tokens into shards, and the generators that make them.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::models {

/// `sets` share out the tokens 0 .. tokens-1; each set is strictly increasing, some may be empty.
struct Partition {
  std::int64_t tokens = 0;
  std::vector<std::vector<std::int32_t>> sets;
};

/// Throws std::invalid_argument naming the token that lies in two sets, in none, or out of range.
void check(const Partition& partition);

/// Consecutive runs, as equal as can be (the first ones one token longer).
Partition contiguous(std::int64_t tokens, int sets);
/// Blocks of `block` consecutive tokens dealt out in turn.
Partition round_robin(std::int64_t tokens, int sets, std::int64_t block);
/// (c, delta)-sharding: clusters of c consecutive tokens, then a gap of delta. Period c + delta; it takes
/// ceil((c + delta) / c) sets to cover every token. The last set's clusters are shorter when c does not
/// divide the period. c = 2, delta = 5 over 14 tokens: {0,1,7,8} {2,3,9,10} {4,5,11,12} {6,13}.
Partition c_delta(std::int64_t tokens, std::int64_t c, std::int64_t delta);
/// Takes its sets across the clusters of c_delta(tokens, c, delta): set i holds the i-th token of every
/// cluster, (t mod (c + delta)) mod c mod sets. c = 2, delta = 5, two sets over 14 tokens:
/// {0,2,4,6,7,9,11,13} {1,3,5,8,10,12}. Needs sets <= c, or some set would be empty.
Partition across_clusters(std::int64_t tokens, int sets, std::int64_t c, std::int64_t delta);
/// "0-3,8,12-13" per set. Tokens from `prompt` on (those to be decoded) that no set names are dealt out in
/// turn: token t to set (t - prompt) mod sets. Throws std::invalid_argument for text that is no such list.
Partition explicit_sets(std::int64_t tokens, const std::vector<std::string>& sets,
                        std::int64_t prompt = std::numeric_limits<std::int64_t>::max());

/// The same sets without the tokens from `tokens` on: the prompt's part of a partition.
Partition first_tokens(Partition partition, std::int64_t tokens);

/// The set of each token.
std::vector<std::int32_t> owners(const Partition& partition);

/// What a node that holds `positions` can read: the longest run of consecutive tokens, and the fewest
/// missing tokens between two runs (0 if there is one run only).
struct Exposure {
  std::int64_t largest_cluster = 0;
  std::int64_t smallest_gap = 0;
};
Exposure exposure(const std::vector<std::int32_t>& positions);
/// Sorted union of two sets.
std::vector<std::int32_t> union_of(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b);

}  // namespace tessera::models
