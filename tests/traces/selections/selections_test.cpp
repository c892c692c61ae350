// Recorded selections and routings: what our reference chooses is written, read back and costed alike; what
// is wrong is told by line.

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <numeric>
#include <random>
#include <sstream>

#include "models/operators/operator.hpp"
#include "models/reference/block_sparse.hpp"
#include "tests/traces/mutate.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"

namespace tessera::traces {
namespace {

using models::SelectionLists;

models::reference::Rows normal_rows(std::int64_t rows, std::int64_t width, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  models::reference::Rows r{std::vector<std::int32_t>(static_cast<std::size_t>(rows)),
                            std::vector<double>(static_cast<std::size_t>(rows * width))};
  std::iota(r.positions.begin(), r.positions.end(), 0);
  for (double& x : r.values) x = normal(random);
  return r;
}

TEST_CASE("what the reference's gate chooses is written, read back, and the same work") {
  std::mt19937_64 random{21};
  std::stringstream file;
  constexpr std::int64_t kTokens = 70, kBlock = 8, kTopk = 3;
  const models::reference::HeadShape shape{4, 2, 3};
  const models::reference::BlockSparse rule{.block = kBlock, .topk = kTopk};
  write_header(file, {.tokens = kTokens, .heads = 4, .block = kBlock});
  std::vector<SelectionLists> written;
  for (int layer = 0; layer < 3; ++layer) {
    const auto q = normal_rows(kTokens, shape.q_width(), random),
               k = normal_rows(kTokens, shape.kv_width(), random);
    const auto summary = models::reference::pool(shape, rule, k, (kTokens + kBlock - 1) / kBlock);
    written.push_back(models::reference::select(shape, rule, q, summary, kTokens));
    write_layer(file, layer, written.back());
  }
  const SelectionTrace trace = read_selection_trace(file, "s.jsonl");
  REQUIRE(trace.layers.size() == 3);
  CHECK(trace.header.block == kBlock);
  for (int layer = 0; layer < 3; ++layer) {
    const SelectionLists &a = written[static_cast<std::size_t>(layer)], &b = *trace.layers.at(layer);
    CHECK(a.heads == b.heads);
    CHECK(a.rows == b.rows);
    CHECK(a.offsets == b.offsets);
    CHECK(a.blocks == b.blocks);
    const models::Moba op{
        .seq = kTokens,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 3 * 8,
        .block = kBlock,
        .topk = kTopk,
        .selection = {.kind = models::SelectionKind::lists, .lists = trace.layers.at(layer)}};
    CHECK_NOTHROW(models::check(op));
  }
  // Counts of the summary are those of the lists.
  file.clear();
  file.seekg(0);
  SelectionReader reader{file, "s.jsonl"};
  const SelectionSummary summary = summarise(reader);
  for (int layer = 0; layer < 3; ++layer) {
    const SelectionSummary::Layer& l = summary.layers.at(layer);
    CHECK(l.pairs == static_cast<std::int64_t>(written[static_cast<std::size_t>(layer)].blocks.size()));
    CHECK(l.records <= kTokens * 4);
    CHECK(l.spread.imbalance >= 1);
    CHECK(l.spread.hot_share > 0);
    CHECK(l.spread.hot_share < 1);
  }
}

TEST_CASE("a range of tokens is one line; tokens that no line has take nothing") {
  std::istringstream in{R"({"selection_trace": 1, "tokens": 12, "heads": 2, "block": 4}

{"layer": 5, "head": 1, "tokens": [4, 7], "blocks": [0]}
{"layer": 5, "head": 1, "tokens": [8, 12], "blocks": [1, 0]}
)"};
  const SelectionTrace trace = read_selection_trace(in, "s.jsonl");
  const SelectionLists& lists = *trace.layers.at(5);
  REQUIRE(lists.offsets.size() == 25);
  CHECK(lists.offsets[12] == 0);      // head 0 takes nothing
  CHECK(lists.offsets[12 + 7] == 3);  // tokens 4, 5, 6
  CHECK(lists.offsets[12 + 8] == 3);  // token 7: not told
  CHECK(lists.offsets[24] == 3 + 8);
  CHECK(lists.blocks[3] == 1);
  std::ostringstream again;
  write_header(again, trace.header);
  write_layer(again, 5, lists);
  CHECK(again.str() ==
        "{\"selection_trace\": 1, \"tokens\": 12, \"heads\": 2, \"block\": 4}\n"
        "{\"layer\": 5, \"head\": 1, \"tokens\": [4, 7], \"blocks\": [0]}\n"
        "{\"layer\": 5, \"head\": 1, \"tokens\": [8, 12], \"blocks\": [1, 0]}\n");
}

/// What is said of `text`.
template <class Read>
std::string complaint(const std::string& text, Read read) {
  std::istringstream in{text};
  try {
    read(in, "t.jsonl");
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("a bad selection trace is refused by line, saying what was expected") {
  const std::string head = "{\"selection_trace\": 1, \"tokens\": 12, \"heads\": 2, \"block\": 4}\n";
  const auto of = [&](const std::string& line) {
    return complaint(head + line + "\n", read_selection_trace);
  };
  CHECK(complaint("", read_selection_trace).find("t.jsonl:0: the trace is empty") != std::string::npos);
  CHECK(complaint(head, read_selection_trace).find("no record") != std::string::npos);
  CHECK(complaint("{\"tokens\": 3}", read_selection_trace).find("t.jsonl:1: 'selection_trace' is missing") !=
        std::string::npos);
  CHECK(of("{").find("t.jsonl:2: not JSON") != std::string::npos);
  CHECK(of("[1]").find("expected an object") != std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 2, "tokens": [4, 5], "blocks": [0]})")
            .find("head: must be from 0 to 1, not 2") != std::string::npos);
  CHECK(of(R"({"layer": 0, "haed": 1, "tokens": [4, 5], "blocks": [0]})").find("unknown key 'haed'") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 1, "tokens": [5, 5], "blocks": [0]})").find("first < end") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 1, "tokens": [4, 13], "blocks": [0]})").find("<= 12") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 1, "tokens": [4, 5], "blocks": [1]})").find("1 is no past block") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 1, "tokens": [8, 9], "blocks": [0, 0]})").find("listed twice") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "head": 1, "tokens": [8, 9], "blocks": [0.5]})").find("whole numbers, not 0.5") !=
        std::string::npos);
  const std::string twice = R"({"layer": 0, "head": 1, "tokens": [4, 6], "blocks": [0]})";
  CHECK(of(twice + "\n" + twice).find("t.jsonl:3: tokens: layer 0 head 1 is already told up to token 6") !=
        std::string::npos);
}

TEST_CASE("a recorded routing is read back; its loads keep its shares, whatever the number of tokens") {
  std::mt19937_64 random{22};
  constexpr std::int64_t kTokens = 500, kExperts = 16, kTopk = 3;
  std::stringstream file;
  write_header(file, RoutingHeader{.experts = kExperts, .topk = kTopk});
  std::vector<std::vector<std::int64_t>> counts(2, std::vector<std::int64_t>(kExperts));
  for (int layer = 0; layer < 2; ++layer) {
    std::vector<std::int32_t> choices;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> weight(kExperts);
      for (std::size_t e = 0; e < kExperts; ++e) weight[e] = 1.0 / static_cast<double>(1 + e);
      for (std::int64_t i = 0; i < kTopk; ++i) {
        const std::size_t e = std::discrete_distribution<std::size_t>{weight.begin(), weight.end()}(random);
        weight[e] = 0;
        choices.push_back(static_cast<std::int32_t>(e));
        ++counts[static_cast<std::size_t>(layer)][e];
      }
    }
    write_layer(file, layer, kTopk, choices);
  }
  const RoutingTrace trace = read_routing_trace(file, "r.jsonl");
  CHECK(trace.layers.at(0) == counts[0]);
  CHECK(trace.layers.at(1) == counts[1]);
  const models::LoadDistribution recorded{
      .kind = models::LoadKind::recorded,
      .counts = std::make_shared<const models::ExpertCounts>(trace.layers),
      .layer = 1};
  const auto same = models::expert_loads(recorded, {.tokens = kTokens, .experts = kExperts, .topk = kTopk});
  CHECK(std::equal(same.begin(), same.end(), counts[1].begin()));
  for (const std::int64_t tokens : {1, 7, 100, 12345}) {
    const auto loads = models::expert_loads(recorded, {.tokens = tokens, .experts = kExperts, .topk = kTopk});
    CHECK(std::accumulate(loads.begin(), loads.end(), std::int64_t{0}) == tokens * kTopk);
    CHECK(*std::max_element(loads.begin(), loads.end()) <= tokens);
    for (std::size_t e = 0; tokens > 1000 && e < kExperts; ++e)
      CHECK(loads[e] == Catch::Approx(static_cast<double>(counts[1][e] * tokens) / kTokens).margin(1));
  }
  CHECK_THROWS_AS(models::expert_loads(recorded, {.tokens = 5, .experts = 8, .topk = 2}),
                  std::invalid_argument);
  file.clear();
  file.seekg(0);
  RoutingReader reader{file, "r.jsonl"};
  const RoutingSummary summary = summarise(reader);
  CHECK(summary.layers.at(0).tokens == kTokens);
  CHECK(summary.layers.at(0).spread.imbalance ==
        Catch::Approx(static_cast<double>(*std::max_element(counts[0].begin(), counts[0].end())) * kExperts /
                      (kTokens * kTopk)));

  const std::string head = "{\"routing_trace\": 1, \"experts\": 8, \"topk\": 2}\n";
  const auto of = [&](const std::string& line) { return complaint(head + line + "\n", read_routing_trace); };
  CHECK(of(R"({"layer": 0, "tokens": [0, 1], "experts": [1]})").find("t.jsonl:2: experts: expected 2") !=
        std::string::npos);
  CHECK(of(R"({"layer": 0, "tokens": [0, 1], "experts": [1, 8]})").find("from 0 to 7, not 8") !=
        std::string::npos);
  CHECK(complaint("{\"routing_trace\": 2, \"experts\": 8, \"topk\": 2}\n", read_routing_trace)
            .find("routing_trace: must be from 1 to 1") != std::string::npos);
}

TEST_CASE("a header that asks for more than memory is refused before anything is taken") {
  std::istringstream many{R"({"selection_trace": 1, "tokens": 2147483647, "heads": 1000, "block": 1})"};
  CHECK_THROWS_AS((SelectionReader{many, "s"}), std::invalid_argument);
  std::istringstream lists{
      R"({"selection_trace": 1, "tokens": 2147483647, "heads": 1000, "block": 1000000})"};
  CHECK_THROWS_AS(read_selection_trace(lists, "s"), std::invalid_argument);
}

TEST_CASE("whatever a trace of choices holds, it is read or refused by line") {
  const std::string selection =
      "{\"selection_trace\": 1, \"tokens\": 64, \"heads\": 2, \"block\": 16}\n"
      "{\"layer\": 0, \"head\": 0, \"tokens\": [32, 40], \"blocks\": [0, 1]}\n"
      "{\"layer\": 0, \"head\": 1, \"tokens\": [48, 64], \"blocks\": [2]}\n";
  const std::string routing =
      "{\"routing_trace\": 1, \"experts\": 4, \"topk\": 2}\n"
      "{\"layer\": 3, \"tokens\": [0, 10], \"experts\": [3, 1]}\n"
      "{\"layer\": 3, \"tokens\": [10, 12], \"experts\": [0, 2]}\n";
  traces_test::Mutator mutate{11};
  int refused = 0;
  for (int i = 0; i < 4000; ++i) {
    std::istringstream blocks{i == 0 ? selection : mutate(selection)},
        experts{i == 0 ? routing : mutate(routing)};
    try {
      SelectionReader reader{blocks, "s"};
      for (SelectionRecord r; reader.next(r);)
        REQUIRE((r.first >= 0 && r.end > r.first && r.end <= reader.header().tokens));
    } catch (const std::invalid_argument& e) {
      REQUIRE(std::string{e.what()}.starts_with("s:"));
      ++refused;
    }
    try {
      RoutingReader reader{experts, "r"};
      for (RoutingRecord r; reader.next(r);) REQUIRE(std::ssize(r.experts) == reader.header().topk);
    } catch (const std::invalid_argument& e) {
      REQUIRE(std::string{e.what()}.starts_with("r:"));
    }
  }
  CHECK(refused > 1000);
  CHECK(refused < 4000);
}

}  // namespace
}  // namespace tessera::traces
