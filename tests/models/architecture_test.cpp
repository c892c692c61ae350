#include "models/architecture/architecture.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "configs/reader/document.hpp"

namespace tessera::models {
namespace {

std::filesystem::path config_file(const std::string& name) {
  return std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/models" / name / "config.json";
}

Architecture published(const std::string& name) { return read_architecture(config_file(name)); }

/// A published config.json with one key changed (null removes it).
Architecture changed(const std::string& name, const std::string& key, const std::string& value) {
  config::Document document = config::Document::read(config_file(name));
  document.set(key, value);
  return read_architecture(document);
}
std::string complaint_about(const std::string& name, const std::string& key, const std::string& value) {
  try {
    (void)changed(name, key, value);
  } catch (const config::InputError& e) {
    return e.what();
  }
  return "";
}

/// What reading this text says.
std::string complaint(const std::string& text, const std::string& file = "models/some/config.json") {
  try {
    (void)read_architecture(config::Document::parse(text, file));
  } catch (const config::InputError& e) {
    return e.what();
  }
  return "";
}

/// Our YAML, as if it stood among the published models.
Architecture own(const std::string& text) {
  return read_architecture(config::Document::parse(
      text, std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/models/of_this_test.yaml"));
}
std::string own_complaint(const std::string& text) {
  try {
    (void)own(text);
  } catch (const config::InputError& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  INFO("expected '" << part << "' in '" << text << "'");
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

bool within(std::int64_t counted, double published_count, double share) {
  return std::abs(static_cast<double>(counted) - published_count) <= share * published_count;
}

// Where each figure was published: docs/models.md.
TEST_CASE("parameter counts equal the published ones") {
  CHECK(published("llama3_8b").parameters() == 8'030'261'248);
  CHECK(published("llama2_7b").parameters() == 6'738'415'616);
  CHECK(published("mistral_7b").parameters() == 7'241'732'096);
  CHECK(published("qwen2_7b").parameters() == 7'615'616'512);
  CHECK(published("qwen3_8b").parameters() == 8'190'735'360);
  CHECK(published("bert_large").parameters() == 335'141'888);
  CHECK(published("qwen3_30b_a3b").parameters() == 30'532'122'624);
  CHECK(published("deepseek_v3").parameters() == 671'026'419'200);
  CHECK(within(published("moonlight_16b_a3b").parameters(), 15'960'111'936, 1e-6));
  CHECK(within(published("kimi_linear_48b_a3b").parameters(), 49.12e9, 1e-3));
}

TEST_CASE("active parameters equal the published ones, each by its own way of counting embeddings") {
  const auto table = [](const Architecture& m) { return m.vocab * m.hidden; };
  const Architecture deepseek = published("deepseek_v3"), moonlight = published("moonlight_16b_a3b"),
                     kimi = published("kimi_linear_48b_a3b"), qwen = published("qwen3_30b_a3b");
  // With the head, without the embedding (37 B); with both, 37,552,282,624.
  CHECK(within(deepseek.active_parameters(), 36.6e9, 1e-3));
  CHECK(within(deepseek.active_parameters() + table(deepseek), 37'552'282'624, 1e-6));
  // Without either: 2.24 B of 15.29 B.
  CHECK(within(moonlight.active_parameters() - table(moonlight), 2.24e9, 2e-3));
  CHECK(within(moonlight.parameters() - 2 * table(moonlight), 15.29e9, 1e-3));
  // 48 B, 3 B.
  CHECK(within(kimi.parameters() - 2 * table(kimi), 48e9, 1e-2));
  CHECK(within(kimi.active_parameters(), 3.1e9, 5e-3));
  // With both, 3.3 B.
  CHECK(qwen.active_parameters() + table(qwen) - qwen.hidden == 3'353'032'704);
}

TEST_CASE("a dense model is all active, but for the rows of its table that are not looked up") {
  const Architecture m = published("llama3_8b");
  CHECK(m.active_parameters() == m.parameters() - (m.vocab - 1) * m.hidden);
  const Architecture tied = changed("llama3_8b", "tie_word_embeddings", "true");
  CHECK(tied.active_parameters() == tied.parameters());
}

TEST_CASE("KV cache bytes per token and state bytes per sequence") {
  CHECK(published("llama3_8b").kv_bytes_per_token() == 32 * 2 * 8 * 128 * 2);
  CHECK(published("llama2_7b").kv_bytes_per_token() == 32 * 2 * 32 * 128 * 2);
  CHECK(published("bert_large").kv_bytes_per_token() == 0);
  CHECK(published("deepseek_v3").kv_bytes_per_token() == 61 * 1152);
  const Architecture kimi = published("kimi_linear_48b_a3b");
  CHECK(kimi.kv_bytes_per_token() == 8'064);
  // fp32 states of 32 heads, and 3 past inputs of q, k and v in bf16.
  CHECK(state_bytes_per_sequence(kimi.layers[0].attention, Dtype::bf16) == 2'097'152 + 3 * 3 * 4096 * 2);
  CHECK(kimi.state_bytes_per_sequence() == 20 * (2'097'152 + 73'728));
  const Architecture all_mla = changed("kimi_linear_48b_a3b", "linear_attn_config", "null");
  CHECK(all_mla.kv_bytes_per_token() == 31'104);
  CHECK(all_mla.state_bytes_per_sequence() == 0);
  CHECK(published("llama3_8b").state_bytes_per_sequence() == 0);
}

TEST_CASE("families differ as they should") {
  const auto dense = [](const Architecture& m) { return std::get<DenseShape>(m.layers.at(0).attention); };
  const Architecture bert = published("bert_large");
  CHECK(!bert.causal);
  CHECK(bert.post_norm);
  CHECK(!std::get<MlpShape>(bert.layers[0].feed_forward).gated);
  CHECK(bert.norm == NormKind::layer);
  CHECK(dense(published("qwen2_7b")).qkv_bias);
  CHECK(!dense(published("qwen2_7b")).output_bias);
  CHECK(dense(published("qwen3_8b")).qk_norm);
  CHECK(dense(published("qwen3_30b_a3b")).qk_norm);
  CHECK(dense(published("llama3_8b")).head_dim == 128);
  CHECK(dense(changed("llama3_8b", "attention_bias", "true")).output_bias);
  CHECK(changed("llama3_8b", "rope_theta", "null").rope_theta == 10000);
  CHECK(changed("llama3_8b", "torch_dtype", "float16").dtype == Dtype::fp16);
}

TEST_CASE("layers of hybrids and mixtures of experts") {
  const Architecture kimi = published("kimi_linear_48b_a3b");
  CHECK(layers_text(kimi) == "20 KDA, 7 MLA (NoPE); 1 MLP, 26 MoE");
  CHECK(std::holds_alternative<KdaShape>(kimi.layers[2].attention));
  CHECK(std::holds_alternative<MlaShape>(kimi.layers[3].attention));
  CHECK(std::holds_alternative<MlaShape>(kimi.layers[26].attention));
  const auto kda = std::get<KdaShape>(kimi.layers[0].attention);
  CHECK(kda.taps == 4);
  CHECK(kda.decay_rank == 128);
  const auto moe = std::get<MoeShape>(kimi.layers[1].feed_forward);
  CHECK(moe.topk == 8);
  CHECK(moe.shared == 1);
  CHECK(moe.score == MoeShape::Score::sigmoid);
  CHECK(moe.scale == 2.446);
  CHECK(layers_text(changed("kimi_linear_48b_a3b", "num_hidden_layers", "3")) == "3 KDA; 1 MLP, 2 MoE");

  const Architecture deepseek = published("deepseek_v3");
  const auto mla = std::get<MlaShape>(deepseek.layers[60].attention);
  CHECK(mla.q_lora == 1536);
  CHECK(mla.rotated);
  CHECK(mla.latent_width() == 576);
  const auto grouped = std::get<MoeShape>(deepseek.layers[3].feed_forward);
  CHECK(grouped.groups == 8);
  CHECK(grouped.top_groups == 4);
  CHECK(std::get<MlpShape>(deepseek.layers[2].feed_forward).width == 18432);
  CHECK(layers_text(changed("deepseek_v3", "moe_layer_freq", "2")) == "61 MLA; 32 MLP, 29 MoE");
  CHECK(layers_text(changed("deepseek_v3", "n_routed_experts", "null")) == "61 MLA + MLP");
  const Architecture v2 = changed("deepseek_v3", "model_type", "deepseek_v2");
  CHECK(layers_text(v2) == layers_text(deepseek));

  const Architecture qwen = published("qwen3_30b_a3b");
  CHECK(layers_text(qwen) == "48 dense + MoE");
  CHECK(!std::get<MoeShape>(qwen.layers[0].feed_forward).score_bias);
  CHECK(layers_text(changed("qwen3_30b_a3b", "mlp_only_layers", "[0, 7]")) == "48 dense; 2 MLP, 46 MoE");
  CHECK(layers_text(changed("qwen3_30b_a3b", "decoder_sparse_step", "2")) == "48 dense; 24 MLP, 24 MoE");
}

TEST_CASE("sliding windows") {
  CHECK(layers_text(changed("mistral_7b", "sliding_window", "4096")) == "32 sliding window + MLP");
  CHECK(layers_text(published("mistral_7b")) == "32 dense + MLP");
  CHECK(layers_text(changed("qwen2_7b", "sliding_window", "4096")) == "28 dense + MLP");
  config::Document some = config::Document::read(config_file("qwen2_7b"));
  some.set("sliding_window", "4096");
  some.set("use_sliding_window", "true");
  some.set("max_window_layers", "20");
  CHECK(layers_text(read_architecture(some)) == "20 dense, 8 sliding window; 28 MLP");
  some.set("layer_types", "[full_attention, sliding_attention, full_attention]");
  some.set("num_hidden_layers", "3");
  CHECK(layers_text(read_architecture(some)) == "2 dense, 1 sliding window; 3 MLP");
}

TEST_CASE("our YAML over a config.json: MoBA on all but the first and last layers") {
  const Architecture m =
      read_architecture(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/models/llama3_8b_1m_moba.yaml");
  CHECK(layers_text(m) == "29 MoBA, 3 dense; 32 MLP");
  CHECK(m.max_positions == 1 << 20);
  const auto moba = std::get<MobaShape>(m.layers[28].attention);
  CHECK(moba.block == 4096);
  CHECK(moba.topk == 12);
  CHECK(std::holds_alternative<DenseShape>(m.layers[29].attention));
  const Architecture base = published("llama3_8b");
  CHECK(m.parameters() == base.parameters());
  CHECK(m.kv_bytes_per_token() == base.kv_bytes_per_token());
  CHECK(layers_text(own("name: a\nbase: llama3_8b\nlayers: 4\nmoba: {block: 8, topk: 2, first_full: 1}\n")) ==
        "1 dense, 3 MoBA; 4 MLP");
  CHECK(own("name: a\nbase: deepseek_v3\nlayers: 4\n").layer_count() == 4);
}

TEST_CASE("our YAML over a config.json: one attention for every layer") {
  const Architecture mla = read_architecture(std::filesystem::path{TESSERA_SOURCE_DIR} /
                                             "configs/models/kimi_linear_48b_a3b_mla.yaml");
  CHECK(layers_text(mla) == "27 MLA (NoPE); 1 MLP, 26 MoE");
  CHECK(mla.kv_bytes_per_token() == 31104);
  CHECK(mla.state_bytes_per_sequence() == 0);
  CHECK(layers_text(own("name: a\nbase: kimi_linear_48b_a3b\nlayers: 3\nattention: kda\n")) ==
        "3 KDA; 1 MLP, 2 MoE");
}

TEST_CASE("bad architectures are refused at file, line and key") {
  const std::string head =
      "{\n\"model_type\": \"llama\", \"hidden_act\": \"silu\",\n\"num_hidden_layers\": 2, \"hidden_size\": "
      "64,\n";
  const std::string tail = "\"intermediate_size\": 4, \"vocab_size\": 8, \"max_position_embeddings\": 16}";
  CHECK(complaint(head + "\"num_attention_heads\": 4,\n" + tail).empty());
  contains(complaint(head + "\"num_attention_heads\": 0,\n" + tail),
           ":4: num_attention_heads: must be at least 1, not 0");
  contains(complaint(head + "\"num_attention_heads\": 5,\n" + tail), ":4: num_attention_heads:");
  contains(complaint(head + "\"num_attention_heads\": \"four\",\n" + tail), "expected an integer");
  contains(complaint(head + tail), "key 'num_attention_heads' is missing");
  contains(complaint("{\"model_type\": \"lama\"}"), "did you mean 'llama'?");
  contains(complaint("{\"model_type\": \"kimi_liner\"}"), "did you mean 'kimi_linear'?");
  contains(complaint(head), "not valid JSON");
  contains(complaint("{\n\"model_type\": \"kimi_linear\",\n\"num_hidden_layers\": 2, \"hidden_size\": 64,\n"
                     "\"vocab_size\": 8, \"model_max_length\": 16, \"hidden_act\": \"silu\",\n"
                     "\"num_attention_heads\": 2, \"kv_lora_rnk\": 8}"),
           "config.json:1: key 'kv_lora_rank' is missing ('kv_lora_rnk' is there: is it misspelt?)");
}

TEST_CASE("what the kinds of layers cannot be is refused") {
  const std::string kimi = "kimi_linear_48b_a3b", linear = "linear_attn_config.";
  contains(complaint_about(kimi, linear + "kda_layers", "[1, 2, 3]"),
           "linear_attn_config: layer 5 is in neither kda_layers nor full_attn_layers");
  contains(complaint_about(kimi, linear + "full_attn_layers", "[4, 8, 9, 12, 16, 20, 24, 27]"),
           "linear_attn_config.full_attn_layers[2]: layer 9 is listed a second time");
  contains(complaint_about(kimi, linear + "full_attn_layers", "[0]"), "must be at least 1, not 0");
  contains(complaint_about(kimi, linear + "full_attn_layers", "4"), "expected a list");
  contains(complaint_about(kimi, "linear_attn_config", "true"), "expected a map");
  contains(complaint_about(kimi, "moe_router_activation_func", "sigmoyd"), "did you mean 'sigmoid'?");
  contains(complaint_about(kimi, "num_experts_per_token", "257"),
           "num_experts_per_token: 257 of 256 experts cannot be chosen");
  contains(complaint_about("deepseek_v3", "n_group", "7"), "256 experts do not divide into 7 groups");
  contains(complaint_about("deepseek_v3", "topk_group", "9"), "must be at most 8, not 9");
  contains(complaint_about("deepseek_v3", "n_group", "256"), "cannot be chosen from 4 groups of 1");
  contains(complaint_about("deepseek_v3", "attention_bias", "true"), "biases is not supported");
  contains(complaint_about("deepseek_v3", "topk_method", "greedyy"), "did you mean 'greedy'?");
  contains(complaint_about("qwen3_30b_a3b", "mlp_only_layers", "[x]"), "mlp_only_layers[0]: expected an int");
  contains(complaint_about("mistral_7b", "sliding_window", "0"), "must be at least 1, not 0");

  contains(own_complaint("name: a\nbase: llama_8b\n"), "of_this_test.yaml:2: base: expected a model's file");
  contains(own_complaint("name: a\nbase: llama3_8b_1m_moba.yaml\n"), "has a base of its own");
  contains(own_complaint("name: a\nbase: llama3_8b\nheads: 4\n"), ":3: heads: unknown key");
  contains(own_complaint("name: a\nbase: llama3_8b\nlayers: 33\n"), "must be at most 32, not 33");
  contains(own_complaint("name: a\nbase: kimi_linear_48b_a3b\nattention: mlaa\n"),
           ":3: attention: 'mlaa' is none of kda, mla");
  contains(own_complaint("name: a\nbase: llama3_8b\nmoba: {block: 8, topk: 2, last_ful: 3}\n"),
           "did you mean 'last_full'?");
  contains(
      own_complaint("name: a\nbase: llama3_8b\nmoba: {block: 8, topk: 2, first_full: 20, last_full: 20}"),
      "exceed the 32 layers");
  contains(own_complaint("name: a\nbase: llama3_8b\nmoba: {block: 8, topk: 2, full_tokens: 4}"),
           "moba.full_tokens: expected a list");
  contains(own_complaint("name: a\nbase: llama3_8b\nmoba: {block: 8, topk: 2, full_tokens: [4]}"),
           "expected [from, to]");
  contains(own_complaint("name: a\nbase: llama3_8b\nmoba: {block: 8, topk: 2, full_tokens: [8K, 4K]}"),
           "no token lies in [8192, 4096)");
  contains(own_complaint("name: a\nbase: deepseek_v3\nmoba: {block: 8, topk: 2}\n"),
           "moba: layer 0 is MLA: blocks can be chosen of dense attention only");
  contains(own_complaint("name: a\nbase: bert_large\nmoba: {block: 8, topk: 2}\n"), "only a causal model");
}

/// Reads `text`; a refusal must be one line that names the file. True if it was read.
bool read_or_refused(const std::string& text) {
  try {
    const Architecture m = read_architecture(config::Document::parse(text, "mutant/config.json"));
    REQUIRE(m.layer_count() > 0);
    REQUIRE(m.parameters() > 0);  // no overflow
    REQUIRE(m.active_parameters() > 0);
    REQUIRE(m.active_parameters() <= m.parameters());
    REQUIRE(m.kv_bytes_per_token() >= 0);
    REQUIRE(m.state_bytes_per_sequence() >= 0);
    return true;
  } catch (const config::InputError& e) {
    const std::string what = e.what();
    REQUIRE(what.starts_with("mutant/config.json:"));
    REQUIRE(what.find('\n') == std::string::npos);
    return false;
  }
}

TEST_CASE("truncated and mutated config.json files give an architecture or an honest error") {
  std::mt19937_64 random{2510};
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>{0, n - 1}(random);
  };
  const std::vector<std::string> values{"0",       "-1",    "1",      "16777216", "9223372036854775807",
                                        "1e99",    "1e512", "null",   "true",     "[]",
                                        "{}",      "\"\"",  "[1, 2]", "\"silu\"", "0.5",
                                        "[[[[]]]]"};
  int read = 0, refused = 0;
  for (const char* name :
       {"kimi_linear_48b_a3b", "deepseek_v3", "qwen3_30b_a3b", "llama3_8b", "bert_large"}) {
    std::ostringstream file;
    file << std::ifstream{config_file(name)}.rdbuf();
    const std::string text = file.str();
    INFO(name);
    REQUIRE(read_or_refused(text));
    for (int i = 0; i < 12; ++i) REQUIRE(!read_or_refused(text.substr(0, below(text.size() - 3))));
    for (int i = 0; i < 60; ++i) {
      std::string mutant = text;
      if (i % 3 == 0) {  // a byte
        mutant[below(mutant.size())] = static_cast<char>(below(256));
      } else if (i % 3 == 1) {  // a value
        std::vector<std::size_t> colons;
        for (std::size_t at = 0; at < text.size(); ++at) {
          if (text[at] == ':') colons.push_back(at);
        }
        const std::size_t from = colons[below(colons.size())] + 1;
        const std::size_t to = std::min(text.find_first_of(",}[{\n", from), text.size());
        mutant.replace(from, to - from, values[below(values.size())]);
      } else {  // a line
        const std::size_t from = text.find('\n', below(text.size() - 2));
        const std::size_t to = text.find('\n', from + 1);
        if (to != std::string::npos) mutant.erase(from, to - from);
      }
      INFO(mutant);
      ++(read_or_refused(mutant) ? read : refused);
    }
  }
  CHECK(read > 20);
  CHECK(refused > 100);
}

TEST_CASE("the largest numbers that a config.json may hold do not overflow") {
  config::Document largest = config::Document::read(config_file("kimi_linear_48b_a3b"));
  for (const auto& [key, value] : {std::pair{"hidden_size", 1 << 18},
                                   {"intermediate_size", 1 << 20},
                                   {"moe_intermediate_size", 1 << 20},
                                   {"num_experts", 1 << 12},
                                   {"num_shared_experts", 1 << 12},
                                   {"num_attention_heads", 1 << 12},
                                   {"kv_lora_rank", 1 << 20},
                                   {"q_lora_rank", 1 << 20},
                                   {"qk_nope_head_dim", 1 << 12},
                                   {"qk_rope_head_dim", 1 << 12},
                                   {"v_head_dim", 1 << 12},
                                   {"vocab_size", 1 << 24},
                                   {"num_hidden_layers", 1 << 10}})
    largest.set(key, std::to_string(value));
  largest.set("linear_attn_config", "null");
  const Architecture m = read_architecture(largest);
  const double expected = 1023.0 * 2 * 4096 * 3 * std::ldexp(1.0, 38);
  CHECK(static_cast<double>(m.parameters()) > expected);
  CHECK(static_cast<double>(m.parameters()) < 1.1 * expected);
}

}  // namespace
}  // namespace tessera::models
