// Products and dense attention.

#include <cmath>
#include <stdexcept>

#include "kernels/attention_decode/split_kv.hpp"
#include "kernels/attention_prefill/cudnn_attention.hpp"
#include "kernels/attention_prefill/flash_hopper.hpp"
#include "kernels/attention_prefill/flash_mma.hpp"
#include "kernels/cuda/tiles.hpp"
#include "kernels/gemm/lt.hpp"
#include "validate/measure/attend.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

constexpr const char* kNoPaged = "kv_cache=paged: only plain calls are measured";

Workload gemm(std::int64_t batches, std::int64_t m, std::int64_t n, std::int64_t k,
              const models::Operator& op) {
  Workload w{.implementation = "cuBLASLt"};
  set_cost(w, op);
  if (n % 8 != 0 || k % 8 != 0) throw NotMeasured{"gemm: n and k must be multiples of 8"};
  w.operands = {normal("a", Element::bf16, batches * m * k),
                normal("weights", Element::bf16, batches * n * k),
                output("c", Element::bf16, batches * m * n),
                output("workspace", Element::i32, cuda::kLtWorkspaceBytes / 4)};
  const auto lt = std::make_shared<cuda::LtGemm>(cuda::LtShape{batches, m, n, k});
  w.stages = {{"gemm", [lt](const Call& c) { lt->run(c.at[0], c.at[1], c.at[2], c.at[3], c.stream); }}};
  w.emulable = false;
  w.note = [lt] { return lt->algorithm(); };
  w.expect = [=](const Inputs& in, std::size_t limit) {
    std::vector<Expected> all;
    for (const std::int64_t i : spread(batches * m * n, limit)) {
      const std::int64_t batch = i / (m * n), row = i / n % m, column = i % n;
      double sum = 0;
      for (std::int64_t d = 0; d < k; ++d)
        sum += in(0, (batch * m + row) * k + d) * in(1, (batch * n + column) * k + d);
      all.push_back({2, i, sum});
    }
    return all;
  };
  return w;
}

struct AttentionShape {
  std::int64_t batch, q_rows, kv_rows, heads, kv_heads, qk_dim, v_dim;
  bool causal, partial;
  std::vector<std::int32_t> q_positions = {}, kv_positions = {};  // empty: the last query at the last key
};

/// Operands 0 to 3: q, k, v, out; then, of partial attention, max and expsum; then the positions. Without a
/// stage.
Workload attention_operands(const AttentionShape& s) {
  Workload w;
  const std::int64_t queries = s.batch * s.q_rows * s.heads, kv = s.batch * s.kv_rows * s.kv_heads;
  w.operands = query_key_value_out(queries * s.qk_dim, kv * s.qk_dim, kv * s.v_dim, queries * s.v_dim);
  if (s.partial) {
    w.operands.push_back(output("max", Element::f32, queries));
    w.operands.push_back(output("expsum", Element::f32, queries));
  }
  const bool placed = !s.q_positions.empty();
  if (placed) {
    w.operands.push_back(listed("q_positions", s.q_positions));
    w.operands.push_back(listed("kv_positions", s.kv_positions));
  }
  const double scale = 1 / std::sqrt(static_cast<double>(s.qk_dim));
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(s.batch * s.q_rows * s.heads, s.v_dim, limit, [&](std::int64_t r) {
      const std::int64_t head = r % s.heads, row = r / s.heads % s.q_rows, batch = r / s.heads / s.q_rows,
                         kv_head = head / (s.heads / s.kv_heads);
      const std::int64_t position =
          placed ? s.q_positions[static_cast<std::size_t>(row)] : row + s.kv_rows - s.q_rows;
      std::vector<std::int64_t> keys;
      for (std::int64_t key = 0; key < s.kv_rows; ++key) {
        const std::int64_t at = placed ? s.kv_positions[static_cast<std::size_t>(key)] : key;
        if (!s.causal || at <= position) keys.push_back(key);
      }
      const auto of_kv = [&](std::int64_t key) { return (batch * s.kv_rows + key) * s.kv_heads + kv_head; };
      const Attended a = attend(
          keys, s.qk_dim, s.v_dim, scale, [&](std::int64_t d) { return in(0, r * s.qk_dim + d); },
          [&](std::int64_t key, std::int64_t d) { return in(1, of_kv(key) * s.qk_dim + d); },
          [&](std::int64_t key, std::int64_t d) { return in(2, of_kv(key) * s.v_dim + d); });
      std::vector<ExpectedRow> rows{{3, r * s.v_dim, a.out}};
      if (s.partial) {
        if (a.expsum > 0) rows.push_back({4, r, {a.max}});
        rows.push_back({5, r, {a.expsum}});
      }
      return rows;
    });
  };
  return w;
}

/// By Tessera's own kernels.
Workload attention(const AttentionShape& s, bool hopper) {
  Workload w = attention_operands(s);
  w.implementation = hopper ? "Tessera flash (TMA, wgmma)" : "Tessera flash (mma.sync)";
  const bool placed = !s.q_positions.empty();
  const double scale = 1 / std::sqrt(static_cast<double>(s.qk_dim));
  w.stages = {{"attention", [=](const Call& c) {
                 const cuda::FlashCall call{.q = c.at[0],
                                            .k = c.at[1],
                                            .v = c.at[2],
                                            .out = c.at[3],
                                            .max = s.partial ? as<float>(c.at[4]) : nullptr,
                                            .expsum = s.partial ? as<float>(c.at[5]) : nullptr,
                                            .q_positions = placed ? as<std::int32_t>(c.at[6]) : nullptr,
                                            .kv_positions = placed ? as<std::int32_t>(c.at[7]) : nullptr,
                                            .batch = s.batch,
                                            .q_rows = s.q_rows,
                                            .kv_rows = s.kv_rows,
                                            .heads = s.heads,
                                            .kv_heads = s.kv_heads,
                                            .causal = s.causal,
                                            .scale = static_cast<float>(scale)};
                 if (hopper)
                   cuda::launch_flash_hopper(call, s.qk_dim, c.stream);
                 else
                   cuda::launch_flash_mma(call, s.qk_dim, s.v_dim, c.stream);
               }}};
  return w;
}

/// By cuDNN's.
Workload library_attention(const AttentionShape& s) {
  Workload w = attention_operands(s);
  w.implementation = "cuDNN";
  w.unlike = "cuDNN's own kernel; the tile programs stand for FlashAttention's";
  w.operands.push_back(output("workspace", Element::i32, cuda::kCudnnWorkspaceBytes / 4));
  const auto cudnn = std::make_shared<cuda::CudnnAttention>(
      cuda::CudnnShape{s.batch, s.q_rows, s.heads, s.kv_heads, s.qk_dim, s.causal});
  w.stages = {{"attention", [cudnn](const Call& c) {
                 cudnn->run(c.at[0], c.at[1], c.at[2], c.at[3], c.at[4], c.stream);
               }}};
  w.emulable = false;
  w.note = [cudnn] { return cudnn->algorithm(); };
  return w;
}

/// Clusters of 3 positions with gaps of 5, beginning at `first`: an AttnNode's rows.
std::vector<std::int32_t> clusters(std::int64_t rows, std::int32_t first) {
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < rows; ++i)
    positions.push_back(first + static_cast<std::int32_t>(i / 3 * 8 + i % 3));
  return positions;
}

void require_flash(std::int64_t qk_dim, std::int64_t v_dim) {
  if (!cuda::has_flash_mma(qk_dim, v_dim)) throw NotMeasured{"attention: heads of 64 or 128"};
}

/// algorithm=fa3 is the Hopper kernel, fa2 mma.sync: as the tile programs have it.
bool takes_hopper(const Arguments& a, const Target& target, std::int64_t head_dim) {
  if (a.choice("algorithm", {"fa3", "fa2"}) == "fa2") return false;
  if (target.compute_capability != 90)
    throw NotMeasured{"algorithm=fa3: the kernel is for compute capability 9.0; algorithm=fa2 runs here"};
  if (!cuda::has_flash_hopper(head_dim)) throw NotMeasured{"algorithm=fa3: heads of 64 or 128"};
  return true;
}

Workload prefill(const Arguments& a, const Target& target) {
  if (a.choice("kv_cache", {"plain", "paged"}) == "paged") throw NotMeasured{kNoPaged};
  const std::int64_t seq = a.integer("seq"), dim = a.integer("head_dim");
  const AttentionShape s{a.integer("batch"), seq,  seq, a.integer("heads"), a.integer("kv_heads"), dim, dim,
                         a.truth("causal"),  false};
  require_flash(dim, dim);
  const bool library = a.choice("algorithm", {"fa3", "fa2", "cudnn"}) == "cudnn";
  const bool hopper = !library && takes_hopper(a, target, dim);
  Workload w = library ? library_attention(s) : attention(s, hopper);
  set_cost(w, models::Attention{.batch = s.batch,
                                .q_rows = seq,
                                .kv_rows = seq,
                                .heads = s.heads,
                                .kv_heads = s.kv_heads,
                                .head_dim = dim,
                                .causal = s.causal,
                                .flash_version = hopper ? 3 : 2});
  return w;
}

Workload partial(const Arguments& a, const Target& target) {
  const std::int64_t dim = a.integer("head_dim");
  AttentionShape s{a.integer("batch"),
                   a.integer("q_rows"),
                   a.integer("kv_rows"),
                   a.integer("heads"),
                   a.integer("kv_heads"),
                   dim,
                   dim,
                   a.truth("causal"),
                   true};
  require_flash(dim, dim);
  if (a.choice("positions", {"last", "clusters"}) == "clusters") {
    s.q_positions = clusters(s.q_rows, 3);
    s.kv_positions = clusters(s.kv_rows, 6);
  }
  const bool hopper = takes_hopper(a, target, dim);
  if (hopper && !s.q_positions.empty())
    throw NotMeasured{"positions=clusters: algorithm=fa2 takes index sets"};
  Workload w = attention(s, hopper);
  set_cost(w, models::Attention{.batch = s.batch,
                                .q_rows = s.q_rows,
                                .kv_rows = s.kv_rows,
                                .heads = s.heads,
                                .kv_heads = s.kv_heads,
                                .head_dim = dim,
                                .causal = s.causal,
                                .partial = true,
                                .flash_version = hopper ? 3 : 2});
  return w;
}

Workload decode(const Arguments& a, const Target& target) {
  if (a.choice("kv_cache", {"plain", "paged"}) == "paged") throw NotMeasured{kNoPaged};
  const std::int64_t batch = a.integer("batch"), context = a.integer("context"), heads = a.integer("heads"),
                     kv_heads = a.integer("kv_heads"), dim = a.integer("head_dim");
  if (dim != 64 && dim != 128) throw NotMeasured{"attention_decode: heads of 64 or 128"};
  Workload w{.implementation = "Tessera split-KV (mma.sync)"};
  set_cost(w, models::AttentionDecode{
                  .batch = batch, .context = context, .heads = heads, .kv_heads = kv_heads, .head_dim = dim});
  const std::int64_t tiles = cuda::tiles_of(context, cuda::kDecodeKeys),
                     splits = cuda::decode_splits(batch * kv_heads, tiles, target.sms), rows = batch * heads;
  w.operands = {normal("q", Element::bf16, rows * dim),
                normal("k", Element::bf16, batch * context * kv_heads * dim),
                normal("v", Element::bf16, batch * context * kv_heads * dim)};
  add_split_outputs(w, splits, rows, dim);
  const auto call = [=](const Call& c) {
    return with_split_outputs(cuda::DecodeCall{.q = c.at[0],
                                               .k = c.at[1],
                                               .v = c.at[2],
                                               .batch = batch,
                                               .context = context,
                                               .heads = heads,
                                               .kv_heads = kv_heads,
                                               .head_dim = dim,
                                               .splits = splits},
                              c);
  };
  w.stages = {{"split_kv", [=](const Call& c) { cuda::launch_split_kv(call(c), c.stream); }}};
  if (splits > 1)
    w.stages.push_back({"combine", [=](const Call& c) { cuda::launch_combine(call(c), c.stream); }});
  w.expect = [=](const Inputs& in, std::size_t limit) {
    const std::vector<std::int64_t> keys = first_keys(context);
    return expect_rows(rows, dim, limit, [&](std::int64_t r) {
      const std::int64_t kv_head = r % heads / (heads / kv_heads), sequence = r / heads;
      const auto at = [&](std::int64_t key) {
        return ((sequence * context + key) * kv_heads + kv_head) * dim;
      };
      return std::vector<ExpectedRow>{
          {3, r * dim,
           attend(
               keys, dim, dim, 1 / std::sqrt(static_cast<double>(dim)),
               [&](std::int64_t d) { return in(0, r * dim + d); },
               [&](std::int64_t key, std::int64_t d) { return in(1, at(key) + d); },
               [&](std::int64_t key, std::int64_t d) { return in(2, at(key) + d); })
               .out}};
    });
  };
  return w;
}

Workload merge(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), heads = a.integer("heads"), dim = a.integer("head_dim"),
                     parts = a.integer("parts"), all = rows * heads;
  Workload w{.implementation = "Tessera merge"};
  set_cost(w, models::Merge{.rows = rows, .heads = heads, .head_dim = dim, .parts = parts});
  w.operands = {normal("parts", Element::bf16, parts * all * dim),
                normal("max", Element::f32, parts * all, 2),
                uniform("expsum", Element::f32, parts * all, 10, 1), output("out", Element::bf16, all * dim)};
  w.stages = {{"merge", [=](const Call& c) {
                 cuda::launch_merge({.parts_out = c.at[0],
                                     .max = as<float>(c.at[1]),
                                     .expsum = as<float>(c.at[2]),
                                     .out = c.at[3],
                                     .rows = rows,
                                     .heads = heads,
                                     .head_dim = dim,
                                     .parts = parts},
                                    c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(all, dim, limit, [&](std::int64_t r) {
      double most = -1e300, sum = 0;
      for (std::int64_t p = 0; p < parts; ++p) most = std::max(most, in(1, p * all + r));
      ExpectedRow row{3, r * dim, std::vector<double>(static_cast<std::size_t>(dim), 0)};
      for (std::int64_t p = 0; p < parts; ++p) {
        const double weight = in(2, p * all + r) * std::exp(in(1, p * all + r) - most);
        sum += weight;
        for (std::int64_t d = 0; d < dim; ++d)
          row.values[static_cast<std::size_t>(d)] += weight * in(0, (p * all + r) * dim + d);
      }
      for (double& x : row.values) x /= sum;
      return std::vector<ExpectedRow>{row};
    });
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> dense_kinds() {
  return {
      {"gemm",
       {{"m"}, {"n"}, {"k"}},
       [](const Arguments& a, const Target&) {
         const std::int64_t m = a.integer("m"), n = a.integer("n"), k = a.integer("k");
         return gemm(1, m, n, k, models::Gemm{.m = m, .n = n, .k = k});
       },
       {"m=33 n=72 k=88", "m=1 n=136 k=264"}},
      {"batched_gemm",
       {{"batches"}, {"m"}, {"n"}, {"k"}},
       [](const Arguments& a, const Target&) {
         const std::int64_t b = a.integer("batches"), m = a.integer("m"), n = a.integer("n"),
                            k = a.integer("k");
         return gemm(b, m, n, k, models::BatchedGemm{.batches = b, .m = m, .n = n, .k = k});
       },
       {"batches=3 m=17 n=40 k=72"}},
      {"attention_prefill",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"},
        {"kv_cache", "plain"}},
       prefill,
       {"batch=2 seq=77 heads=2 kv_heads=1 algorithm=fa2,fa3 head_dim=64,128 causal=true,false",
        "seq=193 heads=1 algorithm=fa2,fa3 head_dim=64,128 causal=true,false",
        "seq=1 heads=3 kv_heads=1 algorithm=fa2,fa3 head_dim=64,128 causal=true,false",
        "seq=129 heads=1 algorithm=fa2,fa3 head_dim=64,128",
        "batch=2 seq=128 heads=4 kv_heads=2 algorithm=cudnn head_dim=64,128 causal=true,false",
        "seq=193 heads=2 algorithm=cudnn head_dim=64,128 causal=true,false"},
       {"algorithm", "head_dim", "causal"}},
      {"attention_partial",
       {{"batch", "1"},
        {"q_rows"},
        {"kv_rows", "q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"causal", "true"},
        {"algorithm", "fa3"},
        {"positions", "last"}},
       partial,
       {"q_rows=70 kv_rows=131 heads=2 algorithm=fa2,fa3 head_dim=64,128 causal=true,false",
        "q_rows=129 kv_rows=130 heads=1 algorithm=fa2,fa3 head_dim=64,128",
        "q_rows=1 kv_rows=65 heads=1 algorithm=fa2,fa3 head_dim=64,128 causal=false",
        "q_rows=70 kv_rows=75 heads=2 algorithm=fa2 positions=clusters head_dim=64,128"},
       {"algorithm", "head_dim"}},
      {"attention_decode",
       {{"batch", "1"},
        {"context"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"kv_cache", "plain"}},
       decode,
       {"batch=2 context=131 heads=6 kv_heads=2 head_dim=64,128",
        "context=5 heads=40 kv_heads=2 head_dim=64,128", "context=1 heads=1 head_dim=64,128",
        "batch=3 context=64 heads=2 kv_heads=1 head_dim=64,128"},
       {"head_dim"}},
      {"merge",
       {{"rows"}, {"heads"}, {"head_dim", "128"}, {"parts"}},
       merge,
       {"rows=5 heads=3 head_dim=64 parts=3", "rows=1 heads=1 head_dim=64 parts=1",
        "rows=3 heads=1 head_dim=40 parts=9"}},
  };
}

}  // namespace tessera::measure
