#include "models/cost/sm_run.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <utility>

#include "kernels/attention_prefill/softmax_cost.hpp"
#include "tests/kernels/gpus.hpp"

namespace tessera::cost {
namespace {

using tile::Program;
using tile::testing::hopper;

/// One CTA of the given roles.
class Roles final : public tile::Kernel {
 public:
  explicit Roles(std::vector<std::function<Program()>> roles) : roles_{std::move(roles)} {
    shape_.name = "roles";
    shape_.grid = 1;
    for (std::size_t r = 0; r < roles_.size(); ++r) shape_.roles.push_back({"role", 4});
    shape_.barriers = {{"full", 1}};
  }
  const tile::LaunchShape& shape() const override { return shape_; }
  Program program(tile::Cta, std::uint32_t role) const override { return roles_[role](); }

 private:
  std::vector<std::function<Program()>> roles_;
  tile::LaunchShape shape_;
};

constexpr MemoryLatency kMemory{.load = 300, .store = 100, .counter = 300};

double cycles_of(std::vector<std::function<Program()>> roles) {
  SmSpec sm = hopper().sm;
  sm.wgmma_leaves_share = 0.5;
  return SmRun{sm}.run(Roles{std::move(roles)}, 1, 1, kMemory)[cycles];
}

Program copy(std::uint32_t chain) {
  const tile::Box box{0, 16, 256, 256};
  co_await tile::expect(0, box.bytes());
  co_await tile::async_load(box, 0, chain);
  co_await tile::wait(0, 0);
}

Program exponentials(kernels::SoftmaxCost cost) {
  for (std::uint32_t part = 0; part < cost.parts(); ++part) co_await cost.exponentials(part);
}
Program product_after(std::uint32_t cycles) {
  co_await tile::chain(cycles);
  co_await tile::wgmma(64, 64, 128);  // 256 cycles
  co_await tile::wgmma_wait(0);
}

}  // namespace

TEST_CASE("what threads copy arrives a load's time after they have asked for the last of it") {
  const double soon = cycles_of({[] { return copy(0); }});
  CHECK(soon >= kMemory.load);
  for (const std::uint32_t chain : {500U, 2000U}) {
    const double paced = cycles_of({[=] { return copy(chain); }});
    CHECK(paced >= chain + kMemory.load);
    CHECK(paced <= chain + soon);
  }
}

TEST_CASE("the parts of the exponentials are all of them, and wait for their results once") {
  for (const std::uint32_t tile_kv : {80U, 96U, 112U, 128U, 176U, 192U}) {
    const kernels::SoftmaxCost cost{tile_kv, 128};
    std::uint64_t fma = 0, mufu = 0;
    for (std::uint32_t part = 0; part < cost.parts(); ++part) {
      const tile::Op op = cost.exponentials(part);
      fma += op.vector.fma;
      mufu += op.vector.mufu;
      CHECK(op.last_in_group == (part + 1 == cost.parts()));
    }
    CHECK(fma == cost.scores());
    CHECK(mufu == cost.scores());
    // Alone they take as long as the MUFU, and once what a last result takes to be there.
    const double alone = cycles_of({[=] { return exponentials(cost); }});
    const double busy = static_cast<double>(cost.scores()) / hopper().sm.mufu_per_cycle;
    CHECK(alone >= busy);
    CHECK(alone <= busy + 40);
  }
}

TEST_CASE("products slow down what is left of exponentials that began before them") {
  const kernels::SoftmaxCost cost{128, 64};
  const double alone = cycles_of({[=] { return exponentials(cost); }});
  for (const std::uint32_t after : {0U, 100U, 200U, 300U}) {
    const double beside =
        cycles_of({[=] { return exponentials(cost); }, [=] { return product_after(after); }});
    INFO("products after " << after << " cycles: " << beside << ", alone " << alone);
    CHECK(beside > alone + 100);
    CHECK(beside <= alone + 256 + 64);  // for as long as the products take, half as fast
  }
}

}  // namespace tessera::cost
