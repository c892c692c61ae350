// Multi-head latent attention.

#include <cmath>
#include <stdexcept>

#include "kernels/attention_prefill/flash_mma.hpp"
#include "kernels/cuda/tiles.hpp"
#include "kernels/latent/mla_decode.hpp"
#include "validate/measure/attend.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

/// Scores are scaled by the naive form's width.
const double kScale = 1 / std::sqrt(192.0);

Workload decode(const Arguments& a, const Target& target) {
  const std::int64_t batch = a.integer("batch"), context = a.integer("context"), heads = a.integer("heads");
  if (a.integer("q_rows") != 1 || a.truth("partial") || a.text("kv_cache") != "plain" ||
      a.integer("latent") != cuda::kMlaLatent || a.integer("rope") != cuda::kMlaRope)
    throw NotMeasured{"mla_decode: one query row, latent 512 and rope 64, plain and whole, is measured"};
  Workload w{.implementation = "Tessera MLA decode (mma.sync)",
             .unlike = "an mma.sync kernel; the tile program stands for FlashMLA's wgmma kernel"};
  set_cost(w, models::LatentDecode{.batch = batch, .context = context, .heads = heads});
  const std::int64_t tiles = cuda::tiles_of(context, cuda::kMlaKeys),
                     splits = cuda::decode_splits(batch * cuda::tiles_of(heads, 64), tiles, target.sms / 2),
                     rows = batch * heads, width = cuda::kMlaLatent + cuda::kMlaRope;
  w.operands = {normal("q_latent", Element::bf16, rows * cuda::kMlaLatent, 0.3F),
                normal("q_rope", Element::bf16, rows * cuda::kMlaRope),
                normal("cache", Element::bf16, batch * context * width)};
  add_split_outputs(w, splits, rows, cuda::kMlaLatent);
  const auto call = [=](const Call& c) {
    return with_split_outputs(cuda::MlaDecodeCall{.q_latent = c.at[0],
                                                  .q_rope = c.at[1],
                                                  .cache = c.at[2],
                                                  .batch = batch,
                                                  .context = context,
                                                  .heads = heads,
                                                  .splits = splits,
                                                  .scale = static_cast<float>(kScale)},
                              c);
  };
  w.stages = {{"mla_decode", [=](const Call& c) { cuda::launch_mla_decode(call(c), c.stream); }},
              {"combine", [=](const Call& c) { cuda::launch_mla_combine(call(c), c.stream); }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    const std::vector<std::int64_t> keys = first_keys(context);
    return expect_rows(rows, cuda::kMlaLatent, limit, [&](std::int64_t r) {
      const auto cached = [&](std::int64_t key, std::int64_t d) {
        return in(2, (r / heads * context + key) * width + d);
      };
      return std::vector<ExpectedRow>{{3, r * cuda::kMlaLatent,
                                       attend(
                                           keys, width, cuda::kMlaLatent, kScale,
                                           [&](std::int64_t d) {
                                             return d < cuda::kMlaLatent
                                                        ? in(0, r * cuda::kMlaLatent + d)
                                                        : in(1, r * cuda::kMlaRope + d - cuda::kMlaLatent);
                                           },
                                           cached, cached)
                                           .out}};
    });
  };
  return w;
}

Workload prefill(const Arguments& a, const Target&) {
  const std::int64_t batch = a.integer("batch"), seq = a.integer("seq"), heads = a.integer("heads");
  const bool causal = a.truth("causal");
  if (a.text("form") != "naive" || a.text("kv_cache") != "plain" || a.integer("nope") != 128 ||
      a.integer("rope") != 64 || a.integer("value") != 128)
    throw NotMeasured{"mla_prefill: form=naive with nope 128, rope 64, value 128 is measured"};
  Workload w{.implementation = "Tessera flash (mma.sync)",
             .unlike = "an mma.sync kernel; the tile program stands for FlashAttention-3's"};
  set_cost(w, models::LatentAttention{.batch = batch,
                                      .q_rows = seq,
                                      .kv_rows = seq,
                                      .heads = heads,
                                      .nope = 128,
                                      .rope = 64,
                                      .value = 128,
                                      .causal = causal});
  const std::int64_t rows = batch * seq * heads;
  w.operands = query_key_value_out(rows * 192, rows * 192, rows * 128, rows * 128);
  w.stages = {{"attention", [=](const Call& c) {
                 cuda::launch_flash_mma({.q = c.at[0],
                                         .k = c.at[1],
                                         .v = c.at[2],
                                         .out = c.at[3],
                                         .batch = batch,
                                         .q_rows = seq,
                                         .kv_rows = seq,
                                         .heads = heads,
                                         .kv_heads = heads,
                                         .causal = causal,
                                         .scale = static_cast<float>(kScale)},
                                        192, 128, c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(rows, 128, limit, [&](std::int64_t r) {
      const std::int64_t head = r % heads, row = r / heads % seq, sequence = r / heads / seq;
      const std::vector<std::int64_t> keys = first_keys(causal ? row + 1 : seq);
      const auto at = [&](std::int64_t key) { return (sequence * seq + key) * heads + head; };
      return std::vector<ExpectedRow>{
          {3, r * 128,
           attend(
               keys, 192, 128, kScale, [&](std::int64_t d) { return in(0, r * 192 + d); },
               [&](std::int64_t key, std::int64_t d) { return in(1, at(key) * 192 + d); },
               [&](std::int64_t key, std::int64_t d) { return in(2, at(key) * 128 + d); })
               .out}};
    });
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> latent_kinds() {
  return {
      {"mla_decode",
       {{"batch", "1"},
        {"context"},
        {"heads"},
        {"q_rows", "1"},
        {"causal", "true"},
        {"partial", "false"},
        {"kv_cache", "plain"},
        {"latent", "512"},
        {"rope", "64"}},
       decode,
       {"batch=2 context=77 heads=5", "context=40 heads=66", "context=1 heads=1"}},
      {"mla_prefill",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"causal", "true"},
        {"form", "naive"},
        {"kv_cache", "plain"},
        {"nope", "128"},
        {"rope", "64"},
        {"value", "128"},
        {"latent", "512"}},
       prefill,
       {"seq=130 heads=2 causal=true,false", "seq=1 heads=1", "batch=2 seq=65 heads=1"}},
  };
}

}  // namespace tessera::measure
