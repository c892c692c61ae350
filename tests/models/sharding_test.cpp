#include "models/sharding/sharding.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <random>
#include <stdexcept>

#include "tests/models/random_sharding.hpp"

namespace tessera::models {
namespace {

using Catch::Matchers::Message;
using Sets = std::vector<std::vector<std::int32_t>>;

TEST_CASE("(c, delta) = (2, 5) over 14 tokens gives the founding diagram's CompNodes") {
  // 1-based there: [1,2,8,9] [3,4,10,11] [5,6,12,13] [7,14].
  CHECK(c_delta(14, 2, 5).sets == Sets{{0, 1, 7, 8}, {2, 3, 9, 10}, {4, 5, 11, 12}, {6, 13}});
}

TEST_CASE("S takes its sets across the clusters of R") {
  const Partition s = across_clusters(14, 2, 2, 5);
  CHECK(s.sets == Sets{{0, 2, 4, 6, 7, 9, 11, 13}, {1, 3, 5, 8, 10, 12}});
  // The diagram's AttnNodes, 1-based [1,3,8,10] and [2,4,9,11], are the parts of these in the first two
  // CompNodes.
  CHECK_THROWS_AS(across_clusters(14, 3, 2, 5), std::invalid_argument);
}

TEST_CASE("every generator partitions the tokens") {
  for (const std::int64_t tokens : {1, 2, 7, 64, 1000}) {
    for (const int sets : {1, 2, 3, 8}) {
      CHECK_NOTHROW(check(contiguous(tokens, sets)));
      CHECK_NOTHROW(check(round_robin(tokens, sets, 3)));
      for (const std::int64_t delta : {0, 1, 6}) {
        CHECK_NOTHROW(check(c_delta(tokens, sets, delta)));
        CHECK_NOTHROW(check(across_clusters(tokens, sets, sets, delta)));
      }
    }
  }
  CHECK(contiguous(10, 3).sets == Sets{{0, 1, 2, 3}, {4, 5, 6}, {7, 8, 9}});
  CHECK(round_robin(7, 2, 2).sets == Sets{{0, 1, 4, 5}, {2, 3, 6}});
}

TEST_CASE("explicit sets and what is wrong with them") {
  CHECK(explicit_sets(6, {"0-2, 5", "3,4"}).sets == Sets{{0, 1, 2, 5}, {3, 4}});
  CHECK_THROWS_MATCHES(explicit_sets(6, {"0-3", "3-5"}), std::invalid_argument,
                       Message("token 3 is in set 0 and in set 1"));
  CHECK_THROWS_MATCHES(explicit_sets(6, {"0-3", "5"}), std::invalid_argument,
                       Message("token 4 is in no set"));
  CHECK_THROWS_MATCHES(explicit_sets(6, {"0-6"}), std::invalid_argument,
                       Message("token 6 of set 0 is not among the 6 tokens"));
  CHECK_THROWS_MATCHES(explicit_sets(6, {"3-1"}), std::invalid_argument, Message("range 3-1 runs backwards"));
  CHECK_THROWS_AS(explicit_sets(6, {"a-b"}), std::invalid_argument);
  CHECK_THROWS_AS(explicit_sets(6, {"0,0,1-5"}), std::invalid_argument);
}

TEST_CASE("tokens to be decoded that explicit sets do not name are dealt out in turn") {
  CHECK(explicit_sets(9, {"2-3", "0-1"}, 4).sets == Sets{{2, 3, 4, 6, 8}, {0, 1, 5, 7}});
  CHECK(explicit_sets(7, {"1-2", "0"}, 3).sets == Sets{{1, 2, 3, 5}, {0, 4, 6}});
  CHECK(explicit_sets(7, {"2-3,5", "0-1"}, 4).sets == Sets{{2, 3, 4, 5, 6}, {0, 1}});  // 5 is named
  CHECK_THROWS_MATCHES(explicit_sets(6, {"0-1", "3"}, 4), std::invalid_argument,
                       Message("token 2 is in no set"));
}

TEST_CASE("a generator's pattern goes on where the prompt ends") {
  const Partition all = c_delta(40, 2, 5), prompt = first_tokens(all, 23);
  CHECK(prompt.sets == c_delta(23, 2, 5).sets);
  CHECK(prompt.tokens == 23);
  CHECK_NOTHROW(check(prompt));
  CHECK(first_tokens(all, 99).sets == all.sets);
}

TEST_CASE("every CompNode of a (c, delta)-sharding sees clusters of at most c and gaps of at least delta") {
  for (const std::int64_t c : {1, 2, 3, 8}) {
    for (const std::int64_t delta : {1, 3, 5, 17, 56}) {
      const Partition p = c_delta(10 * (c + delta), c, delta);
      CHECK(p.sets.size() == static_cast<std::size_t>((c + delta + c - 1) / c));
      for (const auto& set : p.sets) {
        CHECK(exposure(set).largest_cluster <= c);
        CHECK(exposure(set).smallest_gap >= delta);
      }
    }
  }
  // AttnNode (0, 1) sees both of two sets: everything.
  const Partition s = across_clusters(14, 2, 2, 5);
  CHECK(exposure(union_of(s.sets[0], s.sets[1])).largest_cluster == 14);
}

TEST_CASE("check names the token") {
  CHECK_THROWS_MATCHES(check(Partition{3, {{0, 1}, {1, 2}}}), std::invalid_argument,
                       Message("token 1 is in set 0 and in set 1"));
  CHECK_THROWS_MATCHES(check(Partition{3, {{0}, {2}}}), std::invalid_argument,
                       Message("token 1 is in no set"));
  CHECK_THROWS_MATCHES(check(Partition{2, {{0, 1}, {-1}}}), std::invalid_argument,
                       Message("token -1 of set 1 is not among the 2 tokens"));
  CHECK_THROWS_MATCHES(check(Partition{2, {{1, 0}}}), std::invalid_argument,
                       Message("set 0 is not in increasing order"));
  CHECK_THROWS_AS(check(Partition{-1, {}}), std::invalid_argument);
  CHECK_NOTHROW(check(Partition{2, {{0, 1}, {}}}));
}

TEST_CASE("R and S must share out the same tokens") {
  CHECK_THROWS_AS(check(Sharding{contiguous(4, 2), contiguous(5, 2)}), std::invalid_argument);
  Sharding bad{contiguous(4, 2), contiguous(4, 2)};
  bad.s.sets[1].pop_back();
  CHECK_THROWS_MATCHES(check(bad), std::invalid_argument, Message("S: token 3 is in no set"));
}

TEST_CASE("exposure counts runs and gaps") {
  const Exposure e = exposure({0, 1, 7, 8, 9, 11});
  CHECK(e.largest_cluster == 3);
  CHECK(e.smallest_gap == 1);
  CHECK(exposure({3, 4, 5}).smallest_gap == 0);
  CHECK(exposure({}).largest_cluster == 0);
  CHECK(union_of({0, 2}, {1, 2}) == std::vector<std::int32_t>{0, 1, 2});
}

TEST_CASE("owners inverts a random partition") {
  std::mt19937_64 random{3};
  const Partition p = testing::random_partition(100, 5, random);
  const std::vector<std::int32_t> owner = owners(p);
  for (std::size_t s = 0; s < p.sets.size(); ++s) {
    for (const std::int32_t t : p.sets[s])
      CHECK(owner[static_cast<std::size_t>(t)] == static_cast<std::int32_t>(s));
  }
}

}  // namespace
}  // namespace tessera::models
