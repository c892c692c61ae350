#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tests/traces/mutate.hpp"
#include "tests/validate/complaint.hpp"
#include "traces/input/wire.hpp"
#include "traces/operators/readers.hpp"
#include "traces/operators/replay.hpp"

using namespace tessera;
using namespace tessera::traces;
using validate::complaint;

namespace {

const std::string kKineto = R"({"schemaVersion": 1, "deviceProperties": [{"id": 0}],
"traceEvents": [
{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}},
{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 90, "dur": 10,
 "args": {"External id": 7, "Input Dims": [[128, 256], [256, 512]], "Input type": ["c10::BFloat16", "c10::BFloat16"]}},
{"ph": "X", "cat": "cpu_op", "name": "aten::relu", "pid": 1, "tid": 1, "ts": 92, "dur": 3, "args": {"External id": 8, "Input Dims": [[128, 512]]}},
{"ph": "X", "cat": "kernel", "name": "gemm_splitk", "pid": 0, "tid": 7, "ts": 100, "dur": 20, "args": {"External id": 7, "stream": 7, "device": 0}},
{"ph": "X", "cat": "kernel", "name": "reduce_splitk", "pid": 0, "tid": 7, "ts": 121, "dur": 4, "args": {"External id": 7, "stream": 7, "device": 0}},
{"ph": "X", "cat": "kernel", "name": "relu_kernel", "pid": 0, "tid": 7, "ts": 130, "dur": 5, "args": {"External id": 8, "stream": 7, "device": 0}},
{"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "pid": 0, "tid": 20, "ts": 126, "dur": 50,
 "args": {"stream": 20, "device": 0, "Collective name": "allreduce", "In msg nelems": 1000000, "dtype": "BFloat16", "Group size": 8}},
{"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH", "pid": 0, "tid": 7, "ts": 180, "dur": 2, "args": {"stream": 7, "device": 0}}
]})";

OperatorTrace kineto(const std::string& text) {
  return read_kineto(std::make_unique<TextSource>(text, 13), "t");
}

/// A Chakra node: id, name, type, data dependencies, duration, and further fields.
std::string node(std::uint64_t id, const std::string& name, std::uint64_t type,
                 const std::vector<std::uint64_t>& deps, std::uint64_t us,
                 const std::function<void(WireWriter&)>& more = {}) {
  WireWriter w;
  w.varint(1, id);
  w.bytes(2, name);
  w.varint(3, type);
  for (const std::uint64_t d : deps) w.varint(5, d);
  w.varint(7, us);
  if (more) more(w);
  return w.text();
}

std::string delimited(const std::vector<std::string>& messages) {
  std::string out;
  for (const std::string& m : messages) {
    WireWriter w;
    w.bytes(1, m);
    out += w.text().substr(1);  // a length and the message, as in a field without its tag
  }
  return out;
}

void attribute(WireWriter& w, const std::string& name, std::uint32_t field, std::uint64_t value) {
  WireWriter a;
  a.bytes(1, name);
  a.varint(field, value);
  w.bytes(10, a.text());
}

std::string chakra_text() {
  WireWriter metadata;
  metadata.bytes(1, "0.0.4");
  return delimited({metadata.text(), node(3, "gemm_kernel", 4, {1}, 40),
                    node(1, "aten::mm", 4, {}, 5,
                         [](WireWriter& w) {
                           attribute(w, "is_cpu_op", 27, 1);
                           WireWriter io;
                           io.bytes(2, "[[64, 128], [128, 32]]");
                           io.bytes(3, "['Tensor(c10::BFloat16)', 'Tensor(c10::BFloat16)']");
                           w.bytes(8, io.text());
                         }),
                    node(9, "ncclAllReduce", 7, {3, 77}, 30, [](WireWriter& w) {
                      attribute(w, "comm_type", 9, 0);
                      attribute(w, "comm_size", 9, 4096);
                      attribute(w, "group_size", 9, 4);
                    })});
}

OperatorTrace chakra(const std::string& text) {
  return read_chakra(std::make_unique<TextSource>(text, 5), "t");
}

}  // namespace

TEST_CASE("a Kineto trace's kernels become operators, collectives and fixed times, in their order") {
  const OperatorTrace t = kineto(kKineto);
  REQUIRE(t.nodes.size() == 5);
  REQUIRE(t.nodes[0].op);
  const auto& gemm = std::get<models::Gemm>(*t.nodes[0].op);
  CHECK((gemm.m == 128 && gemm.n == 512 && gemm.k == 256));
  CHECK(t.nodes[1].part_of == 0U);
  CHECK(t.nodes[2].name == "ncclDevKernel_AllReduce");
  REQUIRE(t.nodes[2].collective);
  CHECK(t.nodes[2].collective->bytes == 2e6);
  CHECK(t.nodes[2].collective->gpus == 8);
  CHECK(t.nodes[2].after == std::vector<std::uint32_t>{1});  // it began when the reduction was over
  CHECK(t.nodes[3].name == "relu_kernel");
  CHECK_FALSE(t.nodes[3].op);
  CHECK(t.nodes[3].after ==
        std::vector<std::uint32_t>{1});  // not after the all-reduce, which was still going on
  CHECK(t.nodes[4].kind == TraceNode::Kind::copy);
  CHECK(t.nodes[4].after == std::vector<std::uint32_t>{3, 2});
  CHECK(t.nodes[1].delay_us == 1);
}

TEST_CASE("with nothing priced a Kineto trace takes as long as it took") {
  const OperatorReplay r = replay_operators(
      kineto(kKineto), [](const models::Operator&) -> double { throw std::invalid_argument{"none"}; },
      nullptr);
  CHECK(r.recorded_us == Catch::Approx(82));
  CHECK(r.replayed_us == Catch::Approx(82));
  CHECK(r.operators.nodes == 0);
  CHECK(r.fixed.nodes == 5);
  CHECK(r.largest_fixed.front().name == "ncclDevKernel_AllReduce");
}

TEST_CASE("priced operators and collectives replace what was recorded, and the coverage says how much") {
  FabricSpec fabric;
  fabric.node_gb_per_s = 100;
  fabric.endpoint_latency_ns = 500;
  fabric.link_latency_ns = fabric.switch_latency_ns = 0;
  const OperatorReplay r = replay_operators(
      kineto(kKineto), [](const models::Operator&) { return 10.0; }, &fabric);
  CHECK(r.operators.nodes == 2);  // the product and its reduction
  CHECK(r.operators.recorded_us == 24);
  CHECK(r.operators.replayed_us == 10);
  // 14 steps of 1 us, and 2 x 7/8 of 2 MB at 100 GB/s.
  CHECK(r.collectives.replayed_us == Catch::Approx(14 + 35));
  // 10, 1 later nothing, 1 later 49 of all-reduce, 4 later the copy of 2.
  CHECK(r.replayed_us == Catch::Approx(10 + 1 + 1 + 49 + 4 + 2));
}

TEST_CASE("a Chakra trace keeps its dependencies, whatever the order of its nodes") {
  const OperatorTrace t = chakra(chakra_text());
  REQUIRE(t.nodes.size() == 3);
  CHECK(t.nodes[0].kind == TraceNode::Kind::host);
  CHECK(t.nodes[1].name == "gemm_kernel");
  CHECK(t.nodes[1].after == std::vector<std::uint32_t>{0});
  REQUIRE(t.nodes[1].op);
  CHECK(std::get<models::Gemm>(*t.nodes[1].op).m == 64);
  REQUIRE(t.nodes[2].collective);
  CHECK(t.nodes[2].collective->bytes == 4096);
  CHECK(t.passed_over == 1);  // a dependency on node 77, which is not there
  const OperatorReplay r = replay_operators(
      t, [](const models::Operator&) { return 1.0; }, nullptr);
  CHECK(r.recorded_us == 75);
  CHECK(r.replayed_us == 36);
}

TEST_CASE("broken operator traces are refused where they break") {
  CHECK(complaint([] {
          kineto(
              "{\"traceEvents\": [\n{\"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"k\", \"ts\": 1, "
              "\"dur\": -2}]}");
        }).starts_with("t:2: dur: -2 is negative"));
  CHECK(complaint([] { kineto("{\"traceEvents\": [\n\n{\"ph\": \"X\""); }).starts_with("t:3: "));
  CHECK(complaint([] { kineto("{\"a\": 1}"); }).find("traceEvents") != std::string::npos);
  const std::string text = chakra_text();
  CHECK(complaint([&] { chakra(text.substr(0, text.size() - 3)); }).find("the file ends within a message") !=
        std::string::npos);
  CHECK(complaint([&] { chakra(""); }).find("empty") != std::string::npos);
  const std::string metadata = delimited({std::string{}});
  CHECK(complaint([&] {
          chakra(metadata + delimited({node(1, "a", 4, {2}, 1), node(2, "b", 4, {1}, 1)}));
        }).find("depends on itself") != std::string::npos);
  CHECK(complaint([&] {
          chakra(metadata + delimited({node(1, "a", 4, {}, 1), node(1, "b", 4, {}, 1)}));
        }).find("two nodes") != std::string::npos);
}

TEST_CASE("arguments that are no tensors, or none we know, give no operator") {
  CHECK_FALSE(operator_of(
      {.name = "aten::mm", .dims = {{2, 3}, {4, 5}}, .types = {"c10::BFloat16", "c10::BFloat16"}}));
  CHECK_FALSE(operator_of({.name = "aten::mm", .dims = {{2, 3}}, .types = {"c10::BFloat16"}}));
  CHECK_FALSE(operator_of(
      {.name = "aten::mm", .dims = {{0, 3}, {3, 5}}, .types = {"c10::BFloat16", "c10::BFloat16"}}));
  CHECK_FALSE(operator_of({.name = "aten::mm",
                           .dims = {{INT64_MAX, INT64_MAX}, {INT64_MAX, 5}},
                           .types = {"c10::BFloat16", "c10::BFloat16"}}));
  const auto linear = operator_of(
      {.name = "aten::linear", .dims = {{2, 8, 64}, {32, 64}}, .types = {"c10::Half", "c10::Half"}});
  REQUIRE(linear);
  CHECK(std::get<models::Gemm>(*linear).m == 16);
  const auto attention = operator_of({.name = "aten::_scaled_dot_product_flash_attention",
                                      .dims = {{2, 8, 100, 64}, {2, 4, 100, 64}, {2, 4, 100, 64}, {}, {}},
                                      .types = {"c10::BFloat16", "c10::BFloat16", "c10::BFloat16"},
                                      .values = {"", "", "", "0.", "True"}});
  REQUIRE(attention);
  CHECK(std::get<models::Attention>(*attention).causal);
  CHECK(parse_dims("[[1, 2], [], [3]]")->size() == 3);
  CHECK_FALSE(parse_dims("[[1, 2"));
}

TEST_CASE("whatever the bytes, a reader gives a trace or one complaint") {
  tessera::traces_test::Mutator mutate{5};
  const std::string text = chakra_text();
  for (int i = 0; i < 2000; ++i) {
    const auto check = [](const OperatorTrace& t) {
      for (std::size_t n = 0; n < t.nodes.size(); ++n) {
        for (const std::uint32_t a : t.nodes[n].after) REQUIRE(a < n);
      }
    };
    const std::string a = complaint([&] { check(kineto(mutate(kKineto))); });
    const std::string b = complaint([&] { check(chakra(mutate(text))); });
    if (!a.empty()) REQUIRE(a.starts_with("t:"));
    if (!b.empty()) REQUIRE(b.starts_with("t: message at byte"));
  }
}
