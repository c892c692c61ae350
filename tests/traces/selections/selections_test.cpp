// Recorded selections and routings: what our reference chooses is written, read back and costed alike; what
// is wrong is told by line.

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <numeric>
#include <random>

#include "models/operators/operator.hpp"
#include "models/reference/block_sparse.hpp"
#include "tests/traces/mutate.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::traces {
namespace {

using models::SelectionLists;

std::unique_ptr<ByteSource> source(std::string_view text, std::size_t piece = 17) {
  return std::make_unique<TextSource>(text, piece);
}

std::string binary_of(const ChoiceHeader& header, const std::vector<ChoiceRecord>& records);

/// What a writer makes.
struct Written {
  std::string text;
  ChoiceWriter::Write write = [this](std::string_view piece) { text += piece; };
};

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
  Written file;
  constexpr std::int64_t kTokens = 70, kBlock = 8, kTopk = 3;
  const models::reference::HeadShape shape{4, 2, 3};
  const models::reference::BlockSparse rule{.block = kBlock, .topk = kTopk};
  const auto writer = json_writer({.tokens = kTokens, .heads = 4, .block = kBlock}, file.write);
  std::vector<SelectionLists> written;
  for (int layer = 0; layer < 3; ++layer) {
    const auto q = normal_rows(kTokens, shape.q_width(), random),
               k = normal_rows(kTokens, shape.kv_width(), random);
    const auto summary = models::reference::pool(shape, rule, k, (kTokens + kBlock - 1) / kBlock);
    written.push_back(models::reference::select(shape, rule, q, summary, kTokens));
    records_of(layer, written.back(), [&](const ChoiceRecord& r) { writer->add(r); });
  }
  const SelectionTrace trace = read_selection_trace(source(file.text), "s.jsonl");
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
  ChoiceReader reader{source(file.text), "s.jsonl"};
  const SelectionSummary summary = summarise_blocks(reader);
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
  const std::string in{R"({"selection_trace": 1, "tokens": 12, "heads": 2, "block": 4}

{"layer": 5, "head": 1, "tokens": [4, 7], "blocks": [0]}
{"layer": 5, "head": 1, "tokens": [8, 12], "blocks": [1, 0]}
)"};
  const SelectionTrace trace = read_selection_trace(source(in), "s.jsonl");
  const SelectionLists& lists = *trace.layers.at(5);
  REQUIRE(lists.offsets.size() == 25);
  CHECK(lists.offsets[12] == 0);      // head 0 takes nothing
  CHECK(lists.offsets[12 + 7] == 3);  // tokens 4, 5, 6
  CHECK(lists.offsets[12 + 8] == 3);  // token 7: not told
  CHECK(lists.offsets[24] == 3 + 8);
  CHECK(lists.blocks[3] == 1);
  Written again;
  const auto writer = json_writer(trace.header, again.write);
  records_of(5, lists, [&](const ChoiceRecord& r) { writer->add(r); });
  CHECK(again.text ==
        "{\"selection_trace\": 1, \"tokens\": 12, \"heads\": 2, \"block\": 4}\n"
        "{\"layer\": 5, \"head\": 1, \"tokens\": [4, 7], \"blocks\": [0]}\n"
        "{\"layer\": 5, \"head\": 1, \"tokens\": [8, 12], \"blocks\": [1, 0]}\n");
}

/// What is said of `text`.
template <class Read>
std::string complaint(const std::string& text, Read read) {
  try {
    read(source(text), "t.jsonl");
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
  CHECK(of("{\"layer\": 0, \"\xFF\": 1}").find("t.jsonl:2: byte 0xFF at column 15 is no UTF-8") !=
        std::string::npos);
  CHECK(complaint(head + "{\"layer\": 0, \"hea", read_selection_trace)
            .find("t.jsonl:2: not JSON (the file ends") != std::string::npos);
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
  Written file;
  const auto writer =
      json_writer({.kind = ChoiceKind::experts, .experts = kExperts, .topk = kTopk}, file.write);
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
    records_of(layer, kTopk, choices, [&](const ChoiceRecord& r) { writer->add(r); });
  }
  const RoutingTrace trace = read_routing_trace(source(file.text), "r.jsonl");
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
  ChoiceReader reader{source(file.text), "r.jsonl"};
  const RoutingSummary summary = summarise_experts(reader);
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
            .find("routing_trace: must be 1, not 2") != std::string::npos);
}

TEST_CASE("a header that asks for more than memory is refused before anything is taken") {
  const std::string many = R"({"selection_trace": 1, "tokens": 2147483647, "heads": 1000, "block": 1})";
  CHECK_THROWS_AS((ChoiceReader{source(many), "s"}), std::invalid_argument);
  const std::string lists =
      R"({"selection_trace": 1, "tokens": 2147483647, "heads": 1000, "block": 1000000})";
  CHECK_THROWS_AS(read_selection_trace(source(lists), "s"), std::invalid_argument);
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
  const auto read_all = [&](const std::string& text) {
    try {
      ChoiceReader reader{source(text), "t"};
      for (ChoiceRecord r; reader.next(r);) {
        REQUIRE(r.first >= 0);
        REQUIRE(r.end > r.first);
        const bool experts = reader.header().kind == ChoiceKind::experts;
        if (experts) REQUIRE(std::ssize(r.items) == reader.header().topk);
        if (!experts) REQUIRE(r.end <= reader.header().tokens);
      }
    } catch (const std::invalid_argument& e) {
      REQUIRE(std::string{e.what()}.starts_with("t:"));
      ++refused;
    }
  };
  const std::string binary = binary_of({.kind = ChoiceKind::experts, .experts = 4, .topk = 2},
                                       {{3, 0, 0, 10, {3, 1}}, {3, 0, 12, 13, {0, 2}}});
  for (int i = 0; i < 2000; ++i) {
    read_all(i == 0 ? selection : mutate(selection));
    read_all(i == 0 ? routing : mutate(routing));
    if (i % 4 == 0) read_all(i == 0 ? binary : mutate(binary));
  }
  CHECK(refused > 1000);
  CHECK(refused < 4500);  // of as many
}

/// Records of every shape that a trace can have.
std::pair<ChoiceHeader, std::vector<ChoiceRecord>> random_trace(std::mt19937& random) {
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>{least, most}(random);
  };
  const bool experts = pick(0, 1) == 1;
  ChoiceHeader h{.kind = experts ? ChoiceKind::experts : ChoiceKind::blocks};
  if (experts) {
    h.experts = pick(1, 300);
    h.topk = pick(1, std::min<std::int64_t>(h.experts, 9));
  } else {
    h.tokens = pick(1, 3000);
    h.heads = pick(1, 4);
    h.block = pick(1, 70);
  }
  std::vector<ChoiceRecord> records;
  for (std::int64_t layer = pick(0, 3); layer < 6; layer += pick(1, 4)) {
    for (std::int64_t head = 0; head < (experts ? 1 : h.heads); ++head) {
      const std::int64_t most = experts ? 3000 : h.tokens;
      for (std::int64_t token = pick(0, 1) * pick(0, most); token < most;) {
        ChoiceRecord r{layer, head, token, std::min(most, token + (pick(0, 3) > 0 ? 1 : pick(1, 400))), {}};
        std::vector<std::int32_t> all(static_cast<std::size_t>(experts ? h.experts : token / h.block));
        std::iota(all.begin(), all.end(), 0);
        std::shuffle(all.begin(), all.end(), random);  // in no order
        all.resize(std::min(all.size(), static_cast<std::size_t>(experts ? h.topk : pick(0, 12))));
        r.items = all;
        token = r.end + (pick(0, 5) > 0 ? 0 : pick(0, 100));
        records.push_back(std::move(r));
      }
    }
  }
  return {h, records};
}

std::string binary_of(const ChoiceHeader& header, const std::vector<ChoiceRecord>& records) {
  Written out;
  const auto writer = binary_writer(header, out.write);
  for (const ChoiceRecord& r : records) writer->add(r);
  writer->finish();
  return out.text;
}

TEST_CASE("whatever is written in either form is read back, record by record") {
  std::mt19937 random{31};
  for (int i = 0; i < 60; ++i) {
    const auto [header, records] = random_trace(random);
    Written json;
    const auto writer = json_writer(header, json.write);
    for (const ChoiceRecord& r : records) writer->add(r);
    writer->finish();
    for (const std::string& text : {json.text, binary_of(header, records)}) {
      ChoiceReader reader{source(text, 1 + random() % 50), "t"};
      REQUIRE(reader.header() == header);
      std::size_t at = 0;
      for (ChoiceRecord r; reader.next(r); ++at) {
        REQUIRE(at < records.size());
        REQUIRE(r == records[at]);
      }
      REQUIRE(at == records.size());
    }
  }
}

/// The first complaint about a binary trace.
std::string complaint_about(const std::string& text) {
  try {
    ChoiceReader reader{source(text), "t"};
    for (ChoiceRecord r; reader.next(r);) {
    }
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("a binary trace that is cut off, damaged or foreign is refused by its byte") {
  std::mt19937 random{32};
  const ChoiceHeader header{.kind = ChoiceKind::experts, .experts = 300, .topk = 2};
  std::vector<ChoiceRecord> records;
  for (std::int64_t t = 0; t < 9000; ++t)
    records.push_back({t / 3000, 0, t % 3000, t % 3000 + 1, {static_cast<std::int32_t>(t % 299), 299}});
  const std::string good = binary_of(header, records);
  REQUIRE(complaint_about(good).empty());
  using Catch::Matchers::ContainsSubstring;
  std::string other = good;
  other[8] = 2;
  CHECK_THAT(complaint_about(other),
             ContainsSubstring("t: byte 0: of version 2; this program reads version 1"));
  std::swap(other[8], other[11]);
  other[11] = 1;
  other[8] = 0;
  CHECK_THAT(complaint_about(other), ContainsSubstring("most significant byte first"));
  other = good;
  other.erase(5, 1);  // as a change of line ends would
  CHECK_THAT(complaint_about(other), ContainsSubstring("line ends were changed"));
  CHECK_THAT(complaint_about(good.substr(0, 7)), ContainsSubstring("cut off"));
  CHECK_THAT(complaint_about(good + "x"), ContainsSubstring("goes on behind its end"));
  // Cut anywhere, or with any bit turned, it is not taken for whole.
  for (int i = 0; i < 400; ++i) {
    const std::size_t at = random() % good.size();
    REQUIRE_THAT(complaint_about(good.substr(0, at)), ContainsSubstring(at == 0 ? "empty" : "cut off") ||
                                                          ContainsSubstring("within") ||
                                                          ContainsSubstring("the file ends"));
    other = good;
    other[at] = static_cast<char>(other[at] ^ (1 << random() % 8));
    INFO(at);
    const std::string what = complaint_about(other);
    REQUIRE_THAT(what, ContainsSubstring(at == 0 ? "t:" : "t: byte "));
  }
  // The next chunk is read for all that.
  other = good;
  other[good.size() / 2] = static_cast<char>(other[good.size() / 2] ^ 1);
  ChoiceReader reader{source(other), "t"};
  std::size_t read = 0;
  std::vector<std::string> said;
  for (ChoiceRecord r;;) {
    try {
      if (!reader.next(r)) break;
      ++read;
    } catch (const std::invalid_argument& e) {
      said.emplace_back(e.what());
    }
  }
  CHECK(read >= 3000);
  CHECK(read < 9000);
  REQUIRE(said.size() == 2);
  CHECK_THAT(said[0], ContainsSubstring("the checksum is another"));
  CHECK_THAT(said[1], ContainsSubstring("should have 9000"));
}

}  // namespace
}  // namespace tessera::traces
