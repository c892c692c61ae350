#include "validate/read.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

#include "tests/validate/complaint.hpp"
#include "validate/shapes.hpp"

namespace tessera::validate {
namespace {

namespace fs = std::filesystem;

const fs::path kData = fs::path{TESSERA_SOURCE_DIR} / "tests/validate/data";

/// Stands for the command line's parser: GEMMs only.
Measurement parse_gemm(const std::string& kind,
                       const std::vector<std::pair<std::string, std::string>>& arguments) {
  if (kind == "all_reduce") throw std::domain_error{"not yet"};
  if (kind != "gemm" || arguments.size() != 3) throw std::invalid_argument{"expected a gemm"};
  std::vector<std::int64_t> sizes;
  for (const auto& argument : arguments) sizes.push_back(std::atoll(argument.second.c_str()));
  return gemm_row(sizes[0], sizes[1], sizes[2], models::Dtype::bf16);
}

Measurements read(const std::string& text, const char* name = "f.csv") {
  Measurements all;
  read_text(text, name, parse_gemm, all);
  return all;
}

TEST_CASE("aiconfigurator: GEMMs, in milliseconds, with weights used in turn") {
  const Measurements all = read("m,n,k,latency\n16,32,64,0.0025\n");
  REQUIRE(all.rows.size() == 1);
  const Measurement& row = all.rows[0];
  CHECK(row.kind == "gemm");
  CHECK(row.line == 2);
  CHECK(shape_text(row) == "m=16 n=32 k=64");
  CHECK(row.measured_us == 2.5);
  CHECK(row.conditions.timing == Timing::replay);
  CHECK(row.conditions.weights_in_turn == 5 * 32 * 64 * 2);
  CHECK((row.conditions.replays_before == 3 && row.conditions.replays_timed == 6));
  const auto& gemm = std::get<models::Gemm>(row.op);
  CHECK((gemm.m == 16 && gemm.n == 32 && gemm.k == 64));
  CHECK(read("m,n,k,latency_us\n16,32,64,2.5\n").rows[0].measured_us == 2.5);
}

TEST_CASE("aiconfigurator: a decode step reads its own row too") {
  const Measurements all = read(
      "kernel_source,batch_size,num_heads,num_key_value_heads,head_dim,step,latency\nfa3,2,8,4,64,3,0.009\n");
  REQUIRE(all.rows.size() == 1);
  const auto& decode = std::get<models::AttentionDecode>(all.rows[0].op);
  CHECK(decode.context == 4);
  CHECK((decode.batch == 2 && decode.heads == 8 && decode.kv_heads == 4 && decode.head_dim == 64));
  CHECK(all.rows[0].conditions.weights_in_turn == 0);
  CHECK(all.rows[0].conditions.replays_timed == 20);
}

TEST_CASE("aiconfigurator: prefill is causal FlashAttention-3; other kernels are counted as left out") {
  const Measurements all = read(
      "kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,latency\n"
      "fa3,2,100,8,4,64,0.5\ntriton,1,100,8,4,64,0.5\ntriton,1,200,8,4,64,0.5\n");
  REQUIRE(all.rows.size() == 1);
  const auto& attention = std::get<models::Attention>(all.rows[0].op);
  CHECK((attention.causal && attention.q_rows == 100 && attention.kv_rows == 100 &&
         attention.flash_version == 3));
  REQUIRE(all.skipped.size() == 1);
  CHECK(all.skipped[0].count == 2);
  CHECK(all.skipped[0].reason == "kernel triton is not simulated");
}

TEST_CASE("aiconfigurator: a mixture of experts is the fullest node's, of the whole batch") {
  const std::string header =
      "num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,distribution,latency\n";
  const Measurements all =
      read(header + "64,128,96,4,32,1,8,balanced,0.02\n64,128,96,4,32,3,1,power_law_1.2,0.03\n");
  REQUIRE(all.rows.size() == 2);
  const auto& first = std::get<models::Moe>(all.rows[0].op);
  CHECK((first.tokens == 64 && first.experts == 4 && first.all_experts == 32 && first.intermediate == 96));
  CHECK(first.rows() == 64 * 4 / 8);
  CHECK(all.rows[0].conditions.weights_in_turn == 0);
  const auto& second = std::get<models::Moe>(all.rows[1].op);
  CHECK((second.experts == 32 && second.intermediate == 32 && second.rows() == 64 * 4));
  CHECK(all.rows[1].conditions.weights_in_turn == 32 * 3 * 128 * 32 * 2);
  // Skewed loads: a graph of five draws, timed once.
  CHECK((all.rows[0].conditions.replays_timed == 6 && all.rows[0].conditions.calls_in_replay == 1));
  CHECK((all.rows[1].conditions.replays_timed == 1 && all.rows[1].conditions.calls_in_replay == 5));
  CHECK(all.rows[1].measured_us == 30);
  CHECK_THROWS_AS(read(header + "64,128,96,4,32,1,5,balanced,0.02\n"), config::InputError);
  CHECK_THROWS_AS(read(header + "64,128,96,4,32,1,8,zipf,0.02\n"), config::InputError);
  // Found by fuzz_measurements: rows that would take minutes, or all memory.
  CHECK(read(header + "16777216,81,96,4,32,3,1,power_law_1.2,0.03\n").rows.size() == 1);
  CHECK_THROWS_AS(read(header + "28888881,81,96,4,32,3,1,uniform,0.03\n"), config::InputError);
  CHECK_THROWS_AS(read(header + "64,128,96,4,2000000000,1,8,balanced,0.02\n"), config::InputError);
}

TEST_CASE("aiconfigurator: the columns of upstream's own files") {
  const std::string header =
      "framework,op_name,kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,beam_width,attn_"
      "dtype,"
      "kv_cache_dtype,step,window_size,latency\n";
  const Measurements all =
      read(header + "SGLang,context_attention,flash_attention,1,64,4,4,128,1,bfloat16,bfloat16,0,0,0.01\n" +
           "SGLang,generation_attention,flash_attention,1,1,4,4,128,1,bfloat16,bfloat16,63,0,0.01\n" +
           "SGLang,context_attention,flash_attention,1,64,4,4,128,1,bfloat16,fp8,0,0,0.01\n" +
           "SGLang,context_attention,flash_attention,1,64,4,4,128,1,bfloat16,bfloat16,0,128,0.01\n");
  REQUIRE(all.rows.size() == 2);
  CHECK(all.rows[0].kind == "attention_prefill");
  CHECK(std::get<models::AttentionDecode>(all.rows[1].op).context == 64);
  REQUIRE(all.skipped.size() == 2);
  CHECK(all.skipped[0].reason == "kv_cache_dtype fp8 is not simulated");
  CHECK(all.skipped[1].reason == "sliding windows are not simulated");
}

TEST_CASE("aiconfigurator: latent attention is absorbed in both phases, the new rows written to a cache") {
  const Measurements prefill = read("num_heads,batch_size,isl,tp_size,latency\n8,2,512,16,0.045\n");
  REQUIRE(prefill.rows.size() == 1);
  CHECK(prefill.rows[0].kind == "mla_prefill");
  CHECK(shape_text(prefill.rows[0]) == "batch=2 seq=512 heads=8 form=absorbed kv_cache=paged");
  CHECK(prefill.rows[0].measured_us == 45);
  const auto& p = std::get<models::LatentDecode>(prefill.rows[0].op);
  CHECK((p.batch == 2 && p.q_rows == 512 && p.context == 512 && p.heads == 8 && p.causal && p.paged));
  const Measurements decode = read("num_heads,batch_size,tp_size,step,latency\n16,4,8,2047,0.0192\n");
  REQUIRE(decode.rows.size() == 1);
  CHECK(decode.rows[0].kind == "mla_decode");
  const auto& d = std::get<models::LatentDecode>(decode.rows[0].op);
  CHECK((d.batch == 4 && d.q_rows == 1 && d.context == 2048 && d.heads == 16 && d.paged));
  CHECK((d.latent == 512 && d.rope == 64));
}

TEST_CASE("aiconfigurator: upstream's files of latent attention name the phase, dtype and kernel") {
  const Measurements all = read(
      "op_name,kernel_source,mla_dtype,kv_cache_dtype,num_heads,batch_size,isl,tp_size,step,latency\n"
      "mla_context,flash_attention,float16,float16,16,1,64,8,0,0.01\n"
      "mla_generation,flash_attention,float16,float16,16,1,1,8,63,0.01\n"
      "mla_generation,flash_attention,float16,fp8,16,1,1,8,63,0.01\n"
      "mla_generation,trtllm_mla,float16,float16,16,1,1,8,63,0.01\n");
  REQUIRE(all.rows.size() == 2);
  CHECK(all.rows[0].kind == "mla_prefill");
  CHECK(std::get<models::LatentDecode>(all.rows[1].op).context == 64);
  REQUIRE(all.skipped.size() == 2);
  CHECK(all.skipped[0].reason == "kv_cache_dtype fp8 is not simulated");
  CHECK(all.skipped[1].reason == "kernel trtllm_mla is not simulated");
}

TEST_CASE("kinds that cannot be run yet are counted, not read") {
  const std::pair<const char*, const char*> layouts[]{
      {"nccl", "op_name,nccl_dtype,num_gpus,message_size,latency\n"},
      {"deepep", "hidden_size,num_token,num_topk,num_experts,combine_avg_t_us\n"}};
  for (const auto& [kind, header] : layouts) {
    std::string row = header;
    for (char& c : row) c = c == ',' || c == '\n' ? c : '1';
    const Measurements all = read(header + row + row);
    CHECK(all.rows.empty());
    REQUIRE(all.skipped.size() == 1);
    CHECK(all.skipped[0].kind == kind);
    CHECK(all.skipped[0].count == 2);
  }
}

TEST_CASE("rows of linear attention become its operators") {
  const std::string header =
      "kernel_source,phase,batch_size,seq_len,num_tokens,num_k_heads,num_v_heads,latency\n";
  const Measurements all = read(header + "chunk_kda,context,2,64,128,12,12,0.05\n" +
                                "causal_conv1d_fn_qkv3,context,1,32,32,12,12,0.012\n" +
                                "causal_conv1d_update,verify,4,8,32,24,24,0.0046\n" +
                                "kda_fused_decode,generation,4,1,4,12,12,0.0065\n" +
                                "fused_sigmoid_gating_delta_rule_update,verify,1,2,2,12,12,0.0075\n" +
                                "another_kernel,context,1,1,1,12,12,0.1\n");
  REQUIRE(all.rows.size() == 5);
  const auto& prefill = std::get<models::LinearAttention>(all.rows[0].op);
  CHECK(prefill.batch == 2);
  CHECK(prefill.seq == 64);
  CHECK(prefill.heads == 12);
  CHECK(all.rows[0].measured_us == 50);
  CHECK(std::get<models::CausalConv1d>(all.rows[1].op).channels == 12 * 128);
  CHECK(std::get<models::CausalConv1d>(all.rows[2].op).update);
  CHECK(std::get<models::LinearDecode>(all.rows[3].op).form == models::DecodeForm::fused);
  const auto& verify = std::get<models::LinearDecode>(all.rows[4].op);
  CHECK(verify.form == models::DecodeForm::verify);
  CHECK(verify.tokens == 2);
  REQUIRE(all.skipped.size() == 1);
  CHECK(all.skipped[0].reason == "kernel another_kernel is not simulated");
  CHECK_THROWS(read(header + "chunk_kda,context,2,64,128,6,12,0.05\n"));
}

const std::string kMlpHeader =
    "time_stats.emb.median,time_stats.input_layernorm.median,time_stats.attn_pre_proj.median,"
    "time_stats.attn_rope.median,time_stats.attn_post_proj.median,time_stats.mlp_up_proj.median,"
    "time_stats.mlp_act.median,time_stats.mlp_down_proj.median,time_stats.add.median,n_head,n_kv_head,n_embd,"
    "n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,num_tensor_parallel_workers\n";

TEST_CASE("vidur: mlp.csv holds a layer's operators") {
  const Measurements all =
      read(kMlpHeader + "0.1,0.1,1.711,0.138,0.571,3.016,0.248,,0.05,32,8,4096,11008,32768,True,512,2\n");
  REQUIRE(all.rows.size() == 5);
  std::vector<std::string> texts;
  for (const Measurement& row : all.rows) {
    texts.push_back(row.kind + " " + shape_text(row));
    CHECK(row.conditions.timing == Timing::device);
    CHECK(row.line == 2);
  }
  CHECK(texts == std::vector<std::string>{"gemm m=512 n=3072 k=4096 dtype=fp16",
                                          "gemm m=512 n=4096 k=2048 dtype=fp16",
                                          "gemm m=512 n=11008 k=4096 dtype=fp16",
                                          "rope rows=512 heads=16 kv_heads=4 head_dim=128 dtype=fp16",
                                          "activation rows=512 width=5504 type=swiglu dtype=fp16"});
  CHECK(all.rows[0].measured_us == 1711);
  // qkv, output, up and gate, down: what a layer's share of weights weighs.
  CHECK(all.rows[0].conditions.weights_in_turn == 2 * 4096 * (3072 + 2048 + 11008 + 5504));
  std::size_t skipped = 0;
  for (const Skipped& s : all.skipped) skipped += s.count;
  CHECK(skipped == 4);  // emb, layernorm, add, and mlp_down_proj that was not timed
}

TEST_CASE("vidur: attention.csv holds chunks of prefill and decode batches") {
  const Measurements all = read(
      "time_stats.attn_prefill.median,time_stats.attn_decode.median,n_embd,n_q_head,n_kv_head,block_size,"
      "num_tensor_parallel_workers,max_model_len,batch_size,prefill_chunk_size,kv_cache_size,is_prefill,"
      "attention_backend\n"
      "0.5,,4096,32,8,16,2,4096,1,512,1024,True,AttentionBackend.FLASHINFER\n"
      ",0.125,4096,32,8,16,2,4096,4,0,1024,False,AttentionBackend.FLASHINFER\n");
  REQUIRE(all.rows.size() == 2);
  CHECK(shape_text(all.rows[0]) ==
        "batch=1 q_rows=512 kv_rows=1536 heads=16 kv_heads=4 head_dim=128 algorithm=fa2 dtype=fp16");
  CHECK(shape_text(all.rows[1]) == "batch=4 context=1025 heads=16 kv_heads=4 head_dim=128 dtype=fp16");
  CHECK(all.rows[1].measured_us == 125);
}

TEST_CASE(
    "JSON lines: rows that were not measured, or with kernels of our own, are left out with the reason") {
  const Measurements all = read(
      R"({"kind":"gemm","args":{"m":8,"n":16,"k":32},"skipped":"does not fit"}
{"kind":"gemm","args":{"m":8,"n":16,"k":32},"failed":"check"}
{"kind":"gemm","args":{"m":8,"n":16,"k":32},"unlike":"plain","latency_us":{"median":2.5}}
{"kind":"gemm","args":{"m":8,"n":16,"k":32},"latency_us":{"median":2.5},"stages":[{"name":"a","median_us":2}]})",
      "f.jsonl");
  REQUIRE(all.rows.size() == 1);
  REQUIRE(all.rows[0].stages.size() == 1);
  CHECK(all.rows[0].stages[0].name == "a");
  CHECK(all.rows[0].stages[0].us == 2);
  REQUIRE(all.skipped.size() == 3);
  CHECK(all.skipped[0].reason == "skipped: does not fit");
  CHECK(all.skipped[2].reason == "unlike: plain");
}

TEST_CASE("JSON lines: our own") {
  const Measurements all = read(
      R"({"kind":"gemm","args":{"m":8,"n":16,"k":"32"},"latency_us":{"median":2.5},"timing":"device"}

{"kind":"all_reduce","args":{},"latency_us":{"median":1}})",
      "f.jsonl");
  REQUIRE(all.rows.size() == 1);
  CHECK(all.rows[0].conditions.timing == Timing::device);
  REQUIRE(all.skipped.size() == 1);
  CHECK(all.skipped[0].reason == "not yet");
}

TEST_CASE("bad rows are errors that name file, line, column and what was expected") {
  const auto complain = [](const std::string& text) { return complaint([&] { (void)read(text); }); };
  CHECK(complain("m,n,k,latency\n1,2,3,4\n1,x,3,4\n") ==
        "f.csv:3: n: expected a whole number from 1 to 2^31, not 'x'");
  CHECK(complain("m,n,k,latency\n1,2,3,0\n") == "f.csv:2: latency: expected a time above 0");
  CHECK(complain("m,n,k,latency\n2000000000,2000000000,2000000000,1\n").find("too large") !=
        std::string::npos);
  CHECK(complain("batch_size,isl,num_heads,num_key_value_heads,head_dim,latency\n1,8,6,4,64,1\n")
            .rfind("f.csv:2: ", 0) == 0);
  CHECK(complain("alpha,beta\n1,2\n").rfind("f.csv:1: the columns are of no known layout", 0) == 0);
  CHECK(complain(kMlpHeader + ",,,,,,,,,32,32,4096,11008,32768,True,512,3\n") ==
        "f.csv:2: n_expanded_embd: 11008 does not divide into 3");
  CHECK(complain("{\"kind\": \"gemm\"}") == "f.csv:1: args: expected an object, such as {\"m\": 512}");
  CHECK(complain("{}").rfind("f.csv:1: kind: expected", 0) == 0);
  CHECK(complain("\n{\"kind\": ").rfind("f.csv:2: not valid JSON", 0) == 0);
  CHECK(complain(R"({"kind":"gemm","args":{"m":1,"n":1,"k":1},"latency_us":3})")
            .rfind("f.csv:1: latency_us", 0) == 0);
  CHECK(complain(R"({"kind":"gem","args":{},"latency_us":{"median":3}})") == "f.csv:1: expected a gemm");
  CHECK(complain(R"({"kind":"gemm","args":{"m":1,"n":1,"k":1},"latency_us":{"median":1e999}})") ==
        "f.csv:1: a number is out of range");
  CHECK(complain("{\"a\":" + std::string(100000, '[')).find("nested too deeply") != std::string::npos);
  CHECK(complaint([] { (void)read_measurements({"no/such"}, parse_gemm); }) == "no/such: no such file");
}

TEST_CASE("folders are read file by file, by name") {
  const Measurements all = read_measurements({kData / "gemm.csv", kData / "decode.csv"}, parse_gemm);
  REQUIRE(all.rows.size() == 5);
  CHECK(all.rows[0].file.filename() == "gemm.csv");
  CHECK(all.rows[4].file.filename() == "decode.csv");
  CHECK(complaint([] {
          (void)read_measurements({fs::path{TESSERA_SOURCE_DIR} / "configs"}, parse_gemm);
        }).find("no .csv, .jsonl or .sqlite file in it") != std::string::npos);
}

TEST_CASE("mutated measurement files never do worse than an input error") {
  std::vector<std::string> samples{
      kMlpHeader + "0.1,0.1,1.711,0.138,0.571,3.016,0.248,1.4,0.05,32,8,4096,11008,32768,True,512,2\n",
      "time_stats.attn_prefill.median,time_stats.attn_decode.median,n_embd,n_q_head,n_kv_head,"
      "num_tensor_parallel_workers,batch_size,prefill_chunk_size,kv_cache_size,is_prefill\n"
      "0.5,,4096,32,8,2,1,512,1024,True\n,0.1,4096,32,8,2,4,0,1024,False\n"};
  for (const char* file : {"gemm.csv", "prefill.csv", "decode.csv", "own.jsonl"}) {
    std::ifstream in{kData / file};
    samples.emplace_back(std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{});
    REQUIRE(samples.back().size() > 20);
  }
  std::mt19937_64 random{42};
  for (std::size_t i = 0; i < 6000; ++i) {
    std::string text = samples[i % samples.size()];
    for (std::uint64_t n = 1 + random() % 4; n > 0; --n) {
      const std::size_t at = random() % text.size();
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, 1 + random() % 5);
          break;
        case 2:
          text.insert(at, 1, "{}[]:,\"'-+.eE\n\r\t\0 9"[random() % 20]);
          break;
        case 3:
          text.insert(at, 1 + random() % 12, '9');
          break;
        default:
          text = text.substr(0, at);
          break;
      }
      if (text.empty()) text = "x";
    }
    (void)complaint([&] { (void)read(text); });
  }
  SUCCEED();
}

/// The measured data, which is no part of the repository.
fs::path measured_data() {
  const char* given = std::getenv("TESSERA_DATA");
  const fs::path data = given != nullptr ? fs::path{given} : fs::path{TESSERA_SOURCE_DIR} / "../shared/data";
  return data / "measured/h200";
}

TEST_CASE("every row of the measured H200 data is read or counted") {
  const fs::path data = measured_data();
  if (!fs::is_directory(data)) SKIP("no measured data in " << data << "; set TESSERA_DATA to have them read");
  std::size_t lines = 0;
  for (const fs::directory_entry& file : fs::directory_iterator{data}) {
    std::ifstream in{file.path()};
    std::string line;
    while (std::getline(in, line)) ++lines;
    --lines;  // the header
  }
  const Measurements all = read_measurements({data}, parse_gemm);
  std::size_t counted = all.rows.size();
  for (const Skipped& s : all.skipped) counted += s.count;
  CHECK(counted == lines);
  CHECK(all.rows.size() > 30000);
}

}  // namespace
}  // namespace tessera::validate
