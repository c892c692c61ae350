#include "models/architecture/architecture.hpp"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>

#include "configs/reader/document.hpp"

namespace tessera::models {
namespace {

Architecture published(const char* name) {
  return read_architecture(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/models" / name /
                           "config.json");
}

/// What reading this text as config.json says.
std::string complaint(const std::string& text) {
  const auto file = std::filesystem::temp_directory_path() / "tessera_architecture_test.json";
  std::ofstream{file} << text;
  try {
    (void)read_architecture(file);
  } catch (const config::InputError& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("parameter counts equal the published ones") {
  CHECK(published("llama3_8b").parameters() == 8'030'261'248);
  CHECK(published("llama2_7b").parameters() == 6'738'415'616);
  CHECK(published("mistral_7b").parameters() == 7'241'732'096);
  CHECK(published("qwen2_7b").parameters() == 7'615'616'512);
  CHECK(published("qwen3_8b").parameters() == 8'190'735'360);
  CHECK(published("bert_large").parameters() == 335'141'888);
}

TEST_CASE("KV cache bytes per token") {
  CHECK(published("llama3_8b").kv_bytes_per_token() == 32 * 2 * 8 * 128 * 2);
  CHECK(published("llama2_7b").kv_bytes_per_token() == 32 * 2 * 32 * 128 * 2);
}

TEST_CASE("families differ as they should") {
  const Architecture bert = published("bert_large");
  CHECK(!bert.causal);
  CHECK(bert.post_norm);
  CHECK(!bert.gated_mlp);
  CHECK(bert.norm == NormKind::layer);
  CHECK(published("qwen2_7b").qkv_bias);
  CHECK(published("qwen3_8b").qk_norm);
  CHECK(published("llama3_8b").head_dim == 128);
}

TEST_CASE("bad architectures are refused at file, line and key") {
  const std::string head =
      "{\n\"model_type\": \"llama\", \"hidden_act\": \"silu\",\n\"num_hidden_layers\": 2, \"hidden_size\": "
      "64,\n";
  const std::string tail = "\"intermediate_size\": 4, \"vocab_size\": 8, \"max_position_embeddings\": 16}";
  CHECK(complaint(head + "\"num_attention_heads\": 4,\n" + tail).empty());
  CHECK(complaint(head + "\"num_attention_heads\": 0,\n" + tail)
            .find(":4: num_attention_heads: must be at least 1, not 0") != std::string::npos);
  CHECK(complaint(head + "\"num_attention_heads\": 5,\n" + tail).find(":4: num_attention_heads:") !=
        std::string::npos);
  CHECK(complaint(head + "\"num_attention_heads\": \"four\",\n" + tail).find("expected an integer") !=
        std::string::npos);
  CHECK(complaint(head + tail).find("key 'num_attention_heads' is missing") != std::string::npos);
  CHECK(complaint("{\"model_type\": \"lama\"}").find("did you mean 'llama'?") != std::string::npos);
  CHECK(complaint(head).find("not valid JSON") != std::string::npos);
}

}  // namespace
}  // namespace tessera::models
