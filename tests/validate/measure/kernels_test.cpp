// The CUDA kernels' own sources, run on the CPU and held against float64: every check that `tessera measure`
// makes before it times anything.

#include <algorithm>
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

void check_one(Device& device, const Request& request) {
  const Workload workload = build(request, {});
  // Else what is expected was filled in, and the check says nothing.
  if (workload.emulable && !has_cuda()) REQUIRE(device.computes(workload));
  const Allocated set{device, workload};
  const Check result = check(device, workload, set, 1);
  INFO(request.text() << ": error " << result.error << ", allowed " << result.allowed << "; "
                      << result.worst);
  CHECK(result.passed);
  CHECK(result.elements > 0);
}

void check_all(const std::vector<std::string>& requests) {
  const auto device = make_emulated_device();
  for (const std::string& words : requests) check_one(*device, expand(words).front());
}

/// The checks of a kind whose words hold all of `with`.
void check_kind(const std::string& name, const std::vector<std::string>& with = {}) {
  const MeasuredKind& kind = measured_kind(name);
  const auto device = make_emulated_device();
  int checked = 0;
  for (const std::string& words : kind.checks) {
    for (const Request& request : expand(name + " " + words)) {
      // One head size is enough where the sources are the same: the emulation is slow.
      const std::string text = request.text();
      const auto holds = [&](const std::string& part) { return text.find(part) != std::string::npos; };
      if (holds("head_dim=128") || !std::ranges::all_of(with, holds)) continue;
      check_one(*device, request);
      ++checked;
    }
  }
  CHECK(checked > 0);
}

}  // namespace

// A test each: they run in parallel, and the emulation takes a while.
TEST_CASE("attention by mma.sync computes attention") {
  check_all({"attention_prefill batch=2 seq=77 heads=2 kv_heads=1 algorithm=fa2 head_dim=64",
             "attention_prefill seq=100 heads=1 algorithm=fa2 head_dim=128 causal=false"});
}
TEST_CASE("attention by mma.sync computes attention of one row, and of a tile and a row") {
  check_all({"attention_prefill seq=1 heads=3 kv_heads=1 algorithm=fa2 head_dim=64",
             "attention_prefill seq=65 heads=1 algorithm=fa2 head_dim=64",
             "attention_partial q_rows=2 kv_rows=66 heads=1 algorithm=fa2 head_dim=64",
             "attention_partial q_rows=1 kv_rows=65 heads=1 algorithm=fa2 head_dim=64 causal=false"});
}
TEST_CASE("attention by TMA and wgmma computes attention") {
  check_all({"attention_prefill batch=2 seq=70 heads=2 kv_heads=1 algorithm=fa3 head_dim=64",
             "attention_partial q_rows=70 kv_rows=300 heads=1 algorithm=fa3 head_dim=64"});
}
TEST_CASE("attention by TMA and wgmma computes attention over more tiles than stages") {
  check_all({"attention_partial q_rows=3 kv_rows=700 heads=1 algorithm=fa3 head_dim=64 causal=false",
             "attention_partial q_rows=66 kv_rows=515 heads=1 algorithm=fa3 head_dim=64"});
}
TEST_CASE("attention by TMA and wgmma computes attention of wide heads") {
  check_all({"attention_prefill seq=150 heads=1 algorithm=fa3 head_dim=128"});
}
TEST_CASE("attention by TMA and wgmma computes attention of one row, and of a tile and a row") {
  check_all({"attention_prefill seq=1 heads=3 kv_heads=1 algorithm=fa3 head_dim=64",
             "attention_prefill seq=129 heads=1 algorithm=fa3 head_dim=64",
             "attention_partial q_rows=2 kv_rows=130 heads=1 algorithm=fa3 head_dim=64",
             "attention_partial q_rows=1 kv_rows=65 heads=1 algorithm=fa3 head_dim=64 causal=false"});
}
TEST_CASE("partial attention takes any index sets") {
  check_all({"attention_partial q_rows=70 kv_rows=75 heads=2 algorithm=fa2 positions=clusters head_dim=64"});
}
TEST_CASE("split-KV decode and its combination compute attention") { check_kind("attention_decode"); }
TEST_CASE("the merge combines partial attention") { check_kind("merge"); }
TEST_CASE("MoBA's kernels select and attend in five steps") {
  check_kind("moba_prefill", {"variant=five_step", "batch=2", "index=own"});
  check_kind("moba_prefill", {"variant=five_step", "seq=70", "index=own"});
  check_kind("moba_prefill", {"variant=five_step", "seq=1 ", "index=own"});
}
TEST_CASE("MoBA's kernels select and attend in five steps of large blocks") {
  check_kind("moba_prefill", {"variant=five_step", "seq=520"});
}
TEST_CASE("MoBA's kernels select and attend in five steps, their index sorted") {
  check_kind("moba_prefill", {"variant=five_step", "index=cub"});
}
TEST_CASE("MoBA's kernels select and attend, fused") {
  check_kind("moba_prefill", {"variant=fused", "batch=2", "index=own"});
  check_kind("moba_prefill", {"variant=fused", "seq=70", "index=own"});
  check_kind("moba_prefill", {"variant=fused", "seq=1 ", "index=own"});
}
TEST_CASE("MoBA's kernels select and attend, fused, over large blocks") {
  check_kind("moba_prefill", {"variant=fused", "seq=520"});
}
TEST_CASE("MoBA's kernels select and attend, fused, their index sorted") {
  check_kind("moba_prefill", {"variant=fused", "index=cub"});
}
TEST_CASE("block means are means") { check_kind("block_pool"); }
TEST_CASE("the gate finds the best blocks") { check_kind("block_gate"); }
TEST_CASE("KDA in chunks equals the recurrence") { check_kind("kda_prefill"); }
TEST_CASE("KDA's decode equals the recurrence") { check_kind("kda_decode"); }
TEST_CASE("short convolutions convolve, from a state or without") { check_kind("causal_conv1d"); }
TEST_CASE("MLA's absorbed decode attends to latents") { check_kind("mla_decode", {"context=77"}); }
TEST_CASE("MLA's absorbed decode takes more heads than a tile, and one") {
  check_kind("mla_decode", {"context=40"});
  check_kind("mla_decode", {"context=1 "});
}
TEST_CASE("MLA's naive prefill has wider keys than values") { check_kind("mla_prefill", {"causal=true"}); }
TEST_CASE("MLA's naive prefill sees all keys") { check_kind("mla_prefill", {"causal=false"}); }
TEST_CASE("MLA's naive prefill of a tile and a row, and of a row") {
  check_kind("mla_prefill", {"seq=65"});
  check_kind("mla_prefill", {"seq=1 "});
}
TEST_CASE("experts' grouped products, and their weighted sum") { check_kind("moe", {"products=own"}); }
TEST_CASE("experts' grouped products as a library takes them") { check_kind("moe", {"products=cublas"}); }
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
