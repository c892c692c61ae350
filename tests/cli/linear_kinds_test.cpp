// Keys of linear attention that are more than numbers.

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <variant>
#include <vector>

#include "cli/command.hpp"
#include "cli/kernel_arguments.hpp"

namespace tessera::cli {
namespace {

models::LinearAttention parsed(std::vector<std::string> words) {
  return std::get<models::LinearAttention>(parse_kernel("kda_prefill", words).op);
}

TEST_CASE("chunks are those of the kernels, unless given") {
  CHECK(parsed({"seq=70", "heads=2"}).chunk == 64);
  CHECK(parsed({"seq=70", "heads=2", "algorithm=flash_kda"}).chunk == 16);
  CHECK(parsed({"seq=70", "heads=2", "chunk=32"}).chunk == 32);
}

TEST_CASE("lengths share out the tokens") {
  const models::LinearAttention op = parsed({"seq=10", "heads=2", "lengths=3,6,1", "algorithm=flash_kda"});
  CHECK(op.batch == 3);
  CHECK(op.seq == 6);
  CHECK(op.lengths == std::vector<std::int64_t>{3, 6, 1});
  CHECK(op.tokens() == 10);
  for (const char* wrong :
       {"lengths=3,6", "lengths=3,6,2", "lengths=3,7,", "lengths=10,0", "lengths=a", "lengths=11,-1"})
    CHECK_THROWS_AS(parsed({"seq=10", "heads=2", wrong}), UsageError);
  CHECK_THROWS_AS(parsed({"batch=2", "seq=10", "heads=2", "lengths=3,7"}), UsageError);
}

}  // namespace
}  // namespace tessera::cli
