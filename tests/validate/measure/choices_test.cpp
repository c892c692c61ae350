// What the CUDA kernels choose, read back and written as a trace: the trace that the float64 reference gives
// for the same queries, keys and scores.

#include "validate/measure/choices.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "models/reference/block_sparse.hpp"
#include "models/reference/experts.hpp"
#include "traces/input/byte_source.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"
#include "traces/selections/writer.hpp"
#include "validate/measure/check.hpp"
#include "validate/measure/kinds.hpp"

namespace tessera::measure {

namespace {

namespace reference = models::reference;

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

/// A workload in the emulation's memory.
struct Placed {
  std::unique_ptr<Device> device = make_emulated_device();
  Workload workload;
  Call set;
  explicit Placed(const std::string& words) : workload{build(expand(words).front(), {})} {
    for (const Operand& o : workload.operands)
      set.at.push_back(device->allocate(std::max<std::int64_t>(o.bytes(), 16)));
  }
  ~Placed() {
    for (void* memory : set.at) device->release(memory);
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  /// Filled with `seed`'s inputs and run, as before a timing.
  Chosen run(std::uint64_t seed) {
    REQUIRE(device->computes(workload));
    const Check c = check(*device, workload, set, seed);
    INFO(c.worst);
    CHECK(c.passed);
    return read_choices(*device, workload, set);
  }
  std::int32_t& selected(std::int64_t index) {
    return static_cast<std::int32_t*>(set.at[workload.choices->operand])[index];
  }
};

std::string trace_of(const ChoiceOutput& of, const models::SelectionLists& lists) {
  std::string text;
  const auto writer =
      traces::json_writer({.tokens = of.tokens, .heads = of.sequences * of.heads, .block = of.block},
                          [&](std::string_view piece) { text += piece; });
  traces::records_of(0, lists, [&](const traces::ChoiceRecord& r) { writer->add(r); });
  writer->finish();
  return text;
}

std::string trace_of(const ChoiceOutput& of, const std::vector<std::int32_t>& experts) {
  std::string text;
  const auto writer =
      traces::json_writer({.kind = traces::ChoiceKind::experts, .experts = of.experts, .topk = of.topk},
                          [&](std::string_view piece) { text += piece; });
  traces::records_of(0, of.topk, experts, [&](const traces::ChoiceRecord& r) { writer->add(r); });
  writer->finish();
  return text;
}

/// Rows [first, first + rows) of an operand of `width` elements a row, at positions from 0 on.
reference::Rows rows_of(const Inputs& in, std::size_t operand, std::int64_t first, std::int64_t rows,
                        std::int64_t width) {
  reference::Rows r{std::vector<std::int32_t>(z(rows)), std::vector<double>(z(rows * width))};
  std::iota(r.positions.begin(), r.positions.end(), 0);
  for (std::int64_t i = 0; i < rows * width; ++i) r.values[z(i)] = in(operand, first * width + i);
  return r;
}

/// What the reference selects of a moba_prefill's queries and keys: the lists of one sequence behind those of
/// another.
models::SelectionLists selected_by_reference(const Workload& workload, const reference::HeadShape& shape,
                                             std::uint64_t seed) {
  const ChoiceOutput& of = *workload.choices;
  const Inputs in{workload.operands, seed};
  const reference::BlockSparse rule{.block = of.block, .topk = of.topk};
  models::SelectionLists all{of.sequences * of.heads, of.tokens, {0}, {}};
  for (std::int64_t s = 0; s < of.sequences; ++s) {
    const reference::Rows q = rows_of(in, 0, s * of.tokens, of.tokens, shape.q_width()),
                          k = rows_of(in, 1, s * of.tokens, of.tokens, shape.kv_width());
    const auto lists = reference::select(
        shape, rule, q, reference::pool(shape, rule, k, (of.tokens + of.block - 1) / of.block), of.tokens);
    for (std::size_t i = 1; i < lists.offsets.size(); ++i)
      all.offsets.push_back(all.blocks.size() + lists.offsets[i]);
    all.blocks.insert(all.blocks.end(), lists.blocks.begin(), lists.blocks.end());
  }
  return all;
}

}  // namespace

TEST_CASE("blocks that MoBA's kernels select are those of the reference") {
  if (has_cuda()) SKIP("this build's kernels need a GPU");
  struct Shape {
    const char* words;
    reference::HeadShape heads;
  };
  for (const Shape& shape :
       {Shape{"moba_prefill batch=2 seq=200 heads=2 kv_heads=1 block=64 topk=3 head_dim=64", {2, 1, 64}},
        Shape{"moba_prefill seq=520 heads=1 block=128 topk=2 head_dim=64 variant=five_step", {1, 1, 64}},
        Shape{"moba_prefill seq=150 heads=1 block=64 topk=2 head_dim=128 index=cub", {1, 1, 128}},
        Shape{"moba_prefill seq=70 heads=1 block=64 topk=5 head_dim=64", {1, 1, 64}}}) {
    Placed placed{shape.words};
    INFO(shape.words);
    const Chosen chosen = placed.run(1);
    const std::string trace = trace_of(chosen.of, chosen.blocks);
    CHECK(trace == trace_of(chosen.of, selected_by_reference(placed.workload, shape.heads, 1)));
    // And a reader takes it.
    const auto back = traces::read_selection_trace(std::make_unique<traces::TextSource>(trace), "t");
    CHECK(back.layers.at(0)->blocks == chosen.blocks.blocks);
    CHECK(back.layers.at(0)->offsets == chosen.blocks.offsets);
  }
}

TEST_CASE("blocks that the gate's kernel selects are those of the reference") {
  if (has_cuda()) SKIP("this build's kernels need a GPU");
  Placed placed{"block_gate q_rows=700 heads=2 kv_heads=1 block=64 topk=4 head_dim=64"};
  const Chosen chosen = placed.run(3);
  const Inputs in{placed.workload.operands, 3};
  const std::int64_t blocks = 11, dim = 64;
  // Means are the kernel's input: as a summary of blocks of one key each.
  reference::BlockSummary means;
  means.count.assign(z(blocks), 1);
  for (std::int64_t i = 0; i < blocks * dim; ++i) means.sum.push_back(in(1, i));
  const auto lists =
      reference::select({2, 1, dim}, {.block = 64, .topk = 4}, rows_of(in, 0, 0, 700, 2 * dim), means, 700);
  CHECK(trace_of(chosen.of, chosen.blocks) == trace_of(chosen.of, lists));
}

TEST_CASE("experts that the router's kernel chooses are those of the reference") {
  if (has_cuda()) SKIP("this build's kernels need a GPU");
  for (const char* words :
       {"moe_router tokens=200 experts=70 topk=8", "moe_router tokens=33 experts=9 topk=9",
        "moe_router tokens=64 experts=256 topk=1"}) {
    INFO(words);
    Placed placed{words};
    const Chosen chosen = placed.run(1);
    const ChoiceOutput& of = chosen.of;
    const Inputs in{placed.workload.operands, 1};
    std::vector<double> logits(z(of.tokens * of.experts));
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = in(0, static_cast<std::int64_t>(i));
    const reference::Choices choices = reference::route({.topk = of.topk}, logits, of.experts);
    const std::string trace = trace_of(of, chosen.experts);
    CHECK(trace == trace_of(of, choices.experts));
    const auto counts = traces::read_routing_trace(std::make_unique<traces::TextSource>(trace), "t").layers;
    const auto& of_layer = counts.at(0);
    CHECK(std::accumulate(of_layer.begin(), of_layer.end(), std::int64_t{0}) == of.tokens * of.topk);
  }
}

TEST_CASE("what is no choice is not recorded") {
  if (has_cuda()) SKIP("this build's kernels need a GPU");
  using Catch::Matchers::ContainsSubstring;
  using Catch::Matchers::MessageMatches;
  Placed gate{"block_gate q_rows=200 heads=1 block=64 topk=3 head_dim=64"};
  gate.run(1);
  const auto refused = [](Placed& placed, std::int64_t index, std::int32_t value, const char* why) {
    std::int32_t& at = placed.selected(index);
    const std::int32_t before = at;
    at = value;
    CHECK_THROWS_MATCHES(read_choices(*placed.device, placed.workload, placed.set), std::runtime_error,
                         MessageMatches(ContainsSubstring(why)));
    at = before;
  };
  const std::int64_t row = 3 * 150;  // of block 2: takes both blocks before it
  refused(gate, row, 1, "its own block, 2");
  refused(gate, row + 1, 2, "a number from 0 to 1");
  refused(gate, row + 2, -1, "a number from 0 to 1");  // a score that was no number
  refused(gate, row + 2, gate.selected(row + 1), "not there twice");
  refused(gate, 2, 0, "no further past block");
  Placed router{"moe_router tokens=4 experts=9 topk=2"};
  router.run(1);
  refused(router, 3, 9, "a number from 0 to 8");
  refused(router, 3, router.selected(2), "not there twice");
}

TEST_CASE("of measured kinds the gates and the router choose") {
  CHECK(chooses(expand("moba_prefill seq=4096 heads=2 block=512 topk=3").front()));
  CHECK(chooses(expand("block_gate q_rows=4096 heads=2 block=512 topk=3").front()));
  CHECK(chooses(expand("moe_router tokens=16 experts=64 topk=6").front()));
  CHECK_FALSE(chooses(expand("moe tokens=16 hidden=128 intermediate=128 experts=8 topk=2").front()));
  CHECK_FALSE(chooses(expand("gemm m=64 n=64 k=64").front()));
  CHECK_FALSE(chooses(expand("moe_router tokens=16 experts=64 topk=6 score=sigmoid").front()));
}

}  // namespace tessera::measure
