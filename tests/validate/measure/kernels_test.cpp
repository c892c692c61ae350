// The CUDA kernels' own sources, run on the CPU and held against float64: every check that `tessera measure`
// makes before it times anything.

#include <catch2/catch_test_macros.hpp>

#include "validate/measure/check.hpp"
#include "validate/measure/kinds.hpp"

namespace tessera::measure {

namespace {

/// The memory of one set, taken from the device and given back.
class Allocated {
 public:
  Allocated(Device& device, const Workload& workload) : device_{device} {
    for (const Operand& o : workload.operands)
      call_.at.push_back(device.allocate(std::max<std::int64_t>(o.bytes(), 16)));
  }
  Allocated(const Allocated&) = delete;
  Allocated& operator=(const Allocated&) = delete;
  ~Allocated() {
    for (void* memory : call_.at) device_.release(memory);
  }
  operator const Call&() const { return call_; }

 private:
  Device& device_;
  Call call_;
};

void check_kind(const std::string& name) {
  const MeasuredKind& kind = measured_kind(name);
  REQUIRE_FALSE(kind.checks.empty());
  const auto device = make_emulated_device();
  std::vector<Request> requests;
  for (const std::string& words : kind.checks)
    for (const Request& request : expand(name + " " + words))
      // One head size is enough where the sources are the same: the emulation is slow.
      if (request.text().find("head_dim=128") == std::string::npos) requests.push_back(request);
  for (const Request& request : requests) {
    const Workload workload = build(request, {});
    const Allocated set{*device, workload};
    const Check result = check(*device, workload, set, 1);
    INFO(request.text() << ": error " << result.error << ", allowed " << workload.tolerance << "; "
                        << result.worst);
    CHECK(result.passed);
    CHECK(result.elements > 0);
  }
}

}  // namespace

// A test each: they run in parallel, and the emulation takes a while.
TEST_CASE("attention by mma.sync computes attention") {
  const auto device = make_emulated_device();
  for (const char* words : {"attention_prefill batch=2 seq=77 heads=2 kv_heads=1 algorithm=fa2 head_dim=64",
                            "attention_prefill seq=100 heads=1 algorithm=fa2 head_dim=128 causal=false"}) {
    const Workload workload = build(expand(words).front(), {});
    const Allocated set{*device, workload};
    const Check result = check(*device, workload, set, 3);
    INFO(words << ": error " << result.error << "; " << result.worst);
    CHECK(result.passed);
  }
}
TEST_CASE("attention by TMA and wgmma computes attention") {
  const auto device = make_emulated_device();
  for (const char* words : {"attention_prefill batch=2 seq=70 heads=2 kv_heads=1 algorithm=fa3 head_dim=64",
                            "attention_partial q_rows=70 kv_rows=300 heads=1 algorithm=fa3 head_dim=64",
                            "attention_prefill seq=150 heads=1 algorithm=fa3 head_dim=128"}) {
    const Workload workload = build(expand(words).front(), {});
    const Allocated set{*device, workload};
    const Check result = check(*device, workload, set, 3);
    INFO(words << ": error " << result.error << "; " << result.worst);
    CHECK(result.passed);
  }
}
TEST_CASE("partial attention takes any index sets") {
  const auto device = make_emulated_device();
  const Workload workload = build(
      expand("attention_partial q_rows=70 kv_rows=75 heads=2 algorithm=fa2 positions=clusters head_dim=64")
          .front(),
      {});
  const Check result = check(*device, workload, Allocated{*device, workload}, 3);
  INFO(result.worst);
  CHECK(result.passed);
}
TEST_CASE("split-KV decode and its combination compute attention") { check_kind("attention_decode"); }
TEST_CASE("the merge combines partial attention") { check_kind("merge"); }
TEST_CASE("MoBA's kernels select and attend, in five steps and fused") { check_kind("moba_prefill"); }
TEST_CASE("block means are means") { check_kind("block_pool"); }
TEST_CASE("the gate finds the best blocks") { check_kind("block_gate"); }
TEST_CASE("KDA in chunks equals the recurrence") { check_kind("kda_prefill"); }
TEST_CASE("KDA's decode equals the recurrence") { check_kind("kda_decode"); }
TEST_CASE("short convolutions convolve, from a state or without") { check_kind("causal_conv1d"); }
TEST_CASE("MLA's absorbed decode attends to latents") { check_kind("mla_decode"); }
TEST_CASE("MLA's naive prefill has wider keys than values") { check_kind("mla_prefill"); }
TEST_CASE("experts' grouped products, and their weighted sum") { check_kind("moe"); }
TEST_CASE("the router takes the best experts") { check_kind("moe_router"); }
TEST_CASE("kernels over rows") {
  for (const char* kind : {"norm", "rope", "activation", "softmax", "sum", "memcpy", "embedding"})
    check_kind(kind);
}

TEST_CASE("every kind but probes has checks") {
  for (const MeasuredKind& kind : measured_kinds()) {
    INFO(kind.name);
    CHECK(kind.checks.empty() == (std::string{kind.name} == "microbench"));
  }
}

}  // namespace tessera::measure
