// MoBA, and its parts.

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "kernels/block_sparse/moba.hpp"
#include "kernels/block_sparse/sorted_index.hpp"
#include "validate/measure/attend.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

struct Shape {
  std::int64_t batch, seq, heads, kv_heads, dim, block, topk;
  std::int64_t blocks() const { return (seq + block - 1) / block; }
  std::int64_t kv_head(std::int64_t head) const { return head / (heads / kv_heads); }
};

Shape shape_of(const Arguments& a, const char* rows, bool with_heads, bool with_topk) {
  const std::int64_t kv_heads = a.integer("kv_heads");
  const Shape s{
      a.integer("batch"),    a.integer(rows),    with_heads ? a.integer("heads") : kv_heads, kv_heads,
      a.integer("head_dim"), a.integer("block"), with_topk ? a.integer("topk") : 1};
  if ((s.dim != 64 && s.dim != 128) || s.block % 64 != 0 || s.topk > cuda::kMobaMostTopk)
    throw NotMeasured{"MoBA: heads of 64 or 128, blocks a multiple of 64, topk at most 16"};
  if (s.seq * s.topk > std::int64_t{1} << 30) throw NotMeasured{"MoBA: more than 2^30 entries of a head"};
  return s;
}

/// Means of a key head's blocks, worked out when first asked for.
class Means {
 public:
  Means(const Shape& s, const Inputs& in, std::size_t k) : s_{s}, in_{in}, k_{k} {}
  const std::vector<double>& of(std::int64_t batch, std::int64_t kv_head) {
    std::vector<double>& means = means_[{batch, kv_head}];
    if (!means.empty()) return means;
    means.assign(static_cast<std::size_t>(s_.blocks() * s_.dim), 0);
    for (std::int64_t row = 0; row < s_.seq; ++row) {
      const std::int64_t b = row / s_.block, rows = std::min(s_.block, s_.seq - b * s_.block);
      for (std::int64_t d = 0; d < s_.dim; ++d)
        means[static_cast<std::size_t>(b * s_.dim + d)] +=
            in_(k_, ((batch * s_.seq + row) * s_.kv_heads + kv_head) * s_.dim + d) /
            static_cast<double>(rows);
    }
    return means;
  }

 private:
  const Shape& s_;
  const Inputs& in_;
  std::size_t k_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<double>> means_;
};

/// The own block, then the best earlier ones by their score.
std::vector<std::int64_t> chosen(const Shape& s, const std::vector<double>& means,
                                 const std::vector<double>& q, std::int64_t row) {
  const std::int64_t own = row / s.block;
  std::vector<std::pair<double, std::int64_t>> scores;
  for (std::int64_t b = 0; b < own; ++b) {
    double score = 0;
    for (std::int64_t d = 0; d < s.dim; ++d)
      score += q[static_cast<std::size_t>(d)] * means[static_cast<std::size_t>(b * s.dim + d)];
    scores.emplace_back(-score, b);
  }
  std::sort(scores.begin(), scores.end());
  std::vector<std::int64_t> blocks{own};
  for (std::size_t i = 0; i < scores.size() && static_cast<std::int64_t>(i) + 1 < s.topk; ++i)
    blocks.push_back(scores[i].second);
  return blocks;
}

std::vector<double> query(const Shape& s, const Inputs& in, std::int64_t r) {
  std::vector<double> q;
  for (std::int64_t d = 0; d < s.dim; ++d) q.push_back(in(0, r * s.dim + d));
  return q;
}

/// Of `selected`, as gate_topk leaves it.
std::shared_ptr<const ChoiceOutput> choices_of(const Shape& s, std::size_t selected) {
  return std::make_shared<const ChoiceOutput>(ChoiceOutput{.operand = selected,
                                                           .tokens = s.seq,
                                                           .topk = s.topk,
                                                           .sequences = s.batch,
                                                           .heads = s.heads,
                                                           .block = s.block});
}

/// Operands: q, k, v, out, means, selected, entries, offsets, tiles, parts_out, max, expsum, state.
Workload moba(const Arguments& a, const Target&) {
  const Shape s = shape_of(a, "seq", true, true);
  const bool fused = a.choice("variant", {"fused", "five_step"}) == "fused";
  if (a.text("selection") != "uniform")
    throw NotMeasured{"moba_prefill: selection: what is measured chooses by its random keys: uniform"};
  Workload w;
  w.implementation = fused ? "Tessera MoBA, fused gather (mma.sync)" : "Tessera MoBA, five steps (mma.sync)";
  if (!fused)
    w.unlike =
        "five_step stands for moba_efficient's PyTorch kernels, with key heads expanded; these are Tessera's "
        "own";
  const bool sorted = a.choice("index", {"own", "cub"}) == "cub";
  if (sorted) {
    w.implementation += ", index by CUB";
    if (fused) w.unlike = "its index is by CUB's sort; the tile program stands for FlashMoBA's";
  }
  set_cost(w, models::Moba{.batch = s.batch,
                           .seq = s.seq,
                           .heads = s.heads,
                           .kv_heads = s.kv_heads,
                           .head_dim = s.dim,
                           .block = s.block,
                           .topk = s.topk,
                           .variant = fused ? models::MobaVariant::fused : models::MobaVariant::five_step});
  cuda::MobaCall shape{.batch = s.batch,
                       .seq = s.seq,
                       .heads = s.heads,
                       .kv_heads = s.kv_heads,
                       .head_dim = s.dim,
                       .block = s.block,
                       .topk = s.topk,
                       .segment = fused ? cuda::moba_fused_segment(s.seq) : s.seq};
  const std::int64_t rows = s.batch * s.seq * s.heads, parts = fused ? 1 : s.topk,
                     lists = s.batch * s.heads * shape.segments() * (s.blocks() + 1);
  const std::int64_t kv_elements = s.batch * s.seq * s.kv_heads * s.dim;
  w.operands = query_key_value_out(rows * s.dim, kv_elements, kv_elements, rows * s.dim);
  w.operands.insert(
      w.operands.end(),
      {output("means", Element::f32, s.batch * s.blocks() * s.kv_heads * s.dim),
       output("selected", Element::i32, rows * s.topk), output("entries", Element::i32, rows * s.topk),
       output("offsets", Element::i32, lists), output("tiles", Element::i32, lists),
       output("parts_out", Element::bf16, fused ? 0 : parts * rows * s.dim),
       output("max", Element::f32, parts * rows), output("expsum", Element::f32, parts * rows),
       output("state", Element::f32, fused ? rows * s.dim : 0)});
  const auto call = [shape](const Call& c) {
    cuda::MobaCall m = shape;
    m.q = c.at[0];
    m.k = c.at[1];
    m.v = c.at[2];
    m.out = c.at[3];
    m.means = as<float>(c.at[4]);
    m.selected = as<std::int32_t>(c.at[5]);
    m.entries = as<std::int32_t>(c.at[6]);
    m.offsets = as<std::int32_t>(c.at[7]);
    m.tiles = as<std::int32_t>(c.at[8]);
    m.parts_out = c.at[9];
    m.max = as<float>(c.at[10]);
    m.expsum = as<float>(c.at[11]);
    m.state = as<float>(c.at[12]);
    return m;
  };
  w.stages = {{"mean_pool", [=](const Call& c) { cuda::launch_mean_pool(call(c), c.stream); }},
              {"gate_topk", [=](const Call& c) { cuda::launch_gate_topk(call(c), c.stream); }},
              {"index_build", [=](const Call& c) { cuda::launch_index_build(call(c), c.stream); }}};
  if (sorted) {
    const std::int64_t items = cuda::index_items(shape);
    w.operands.insert(w.operands.end(),
                      {output("keys", Element::i32, 2 * items), output("queries", Element::i32, items),
                       output("list_of", Element::i32, lists), output("tile_counts", Element::i32, lists),
                       output("temporary", Element::i32, cuda::index_temporary_bytes(items) / 4)});
    w.stages.back().launch = [=](const Call& c) {
      cuda::launch_sorted_index(call(c),
                                {.keys = as<std::uint32_t>(c.at[13]),
                                 .queries = as<std::int32_t>(c.at[14]),
                                 .list_of = as<std::int32_t>(c.at[15]),
                                 .tile_counts = as<std::int32_t>(c.at[16]),
                                 .temporary = c.at[17]},
                                c.stream);
    };
  }
  if (fused) {
    w.stages.push_back(
        {"fused_gather", [=](const Call& c) { cuda::launch_fused_gather(call(c), c.stream); }});
  } else {
    w.stages.push_back(
        {"attention", [=](const Call& c) { cuda::launch_gathered_attention(call(c), c.stream); }});
    w.stages.push_back({"merge", [=](const Call& c) { cuda::launch_moba_merge(call(c), c.stream); }});
  }
  w.choices = choices_of(s, 5);
  w.expect = [=](const Inputs& in, std::size_t limit) {
    Means means{s, in, 1};
    return expect_rows(rows, s.dim, limit, [&](std::int64_t r) {
      const std::int64_t head = r % s.heads, row = r / s.heads % s.seq, batch = r / s.heads / s.seq,
                         kv_head = s.kv_head(head);
      const std::vector<double> q = query(s, in, r);
      std::vector<std::int64_t> keys;
      for (const std::int64_t b : chosen(s, means.of(batch, kv_head), q, row))
        for (std::int64_t key = b * s.block; key < std::min((b + 1) * s.block, row + 1); ++key)
          keys.push_back(key);
      const auto at = [&](std::int64_t key) {
        return ((batch * s.seq + key) * s.kv_heads + kv_head) * s.dim;
      };
      return std::vector<ExpectedRow>{
          {3, r * s.dim,
           attend(
               keys, s.dim, s.dim, 1 / std::sqrt(static_cast<double>(s.dim)),
               [&](std::int64_t d) { return q[static_cast<std::size_t>(d)]; },
               [&](std::int64_t key, std::int64_t d) { return in(1, at(key) + d); },
               [&](std::int64_t key, std::int64_t d) { return in(2, at(key) + d); })
               .out}};
    });
  };
  return w;
}

Workload pool(const Arguments& a, const Target&) {
  const Shape s = shape_of(a, "kv_rows", false, false);
  Workload w{.implementation = "Tessera mean_pool"};
  set_cost(
      w,
      models::BlockPool{
          .batch = s.batch, .kv_rows = s.seq, .kv_heads = s.kv_heads, .head_dim = s.dim, .block = s.block});
  w.operands = {normal("k", Element::bf16, s.batch * s.seq * s.kv_heads * s.dim),
                output("means", Element::f32, s.batch * s.blocks() * s.kv_heads * s.dim)};
  w.stages = {{"mean_pool", [=](const Call& c) {
                 cuda::MobaCall m{.k = c.at[0],
                                  .batch = s.batch,
                                  .seq = s.seq,
                                  .heads = s.kv_heads,
                                  .kv_heads = s.kv_heads,
                                  .head_dim = s.dim,
                                  .block = s.block,
                                  .topk = 1};
                 m.means = as<float>(c.at[1]);
                 cuda::launch_mean_pool(m, c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(s.batch * s.blocks() * s.kv_heads, s.dim, limit, [&](std::int64_t r) {
      const std::int64_t head = r % s.kv_heads, b = r / s.kv_heads % s.blocks(),
                         batch = r / s.kv_heads / s.blocks();
      const std::int64_t end = std::min((b + 1) * s.block, s.seq);
      ExpectedRow row{1, r * s.dim, std::vector<double>(static_cast<std::size_t>(s.dim), 0)};
      for (std::int64_t key = b * s.block; key < end; ++key)
        for (std::int64_t d = 0; d < s.dim; ++d)
          row.values[static_cast<std::size_t>(d)] +=
              in(0, ((batch * s.seq + key) * s.kv_heads + head) * s.dim + d) /
              static_cast<double>(end - b * s.block);
      return std::vector<ExpectedRow>{row};
    });
  };
  return w;
}

Workload gate(const Arguments& a, const Target&) {
  const Shape s = shape_of(a, "q_rows", true, true);
  Workload w{.implementation = "Tessera gate_topk"};
  set_cost(w, models::BlockGate{.batch = s.batch,
                                .q_rows = s.seq,
                                .heads = s.heads,
                                .kv_heads = s.kv_heads,
                                .head_dim = s.dim,
                                .block = s.block,
                                .topk = s.topk});
  const std::int64_t rows = s.batch * s.seq * s.heads;
  w.operands = {normal("q", Element::bf16, rows * s.dim),
                normal("means", Element::f32, s.batch * s.blocks() * s.kv_heads * s.dim),
                output("selected", Element::i32, rows * s.topk)};
  w.stages = {{"gate_topk", [=](const Call& c) {
                 cuda::MobaCall m{.q = c.at[0],
                                  .batch = s.batch,
                                  .seq = s.seq,
                                  .heads = s.heads,
                                  .kv_heads = s.kv_heads,
                                  .head_dim = s.dim,
                                  .block = s.block,
                                  .topk = s.topk};
                 m.means = as<float>(c.at[1]);
                 m.selected = as<std::int32_t>(c.at[2]);
                 cuda::launch_gate_topk(m, c.stream);
               }}};
  w.choices = choices_of(s, 2);
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(rows, s.topk, limit, [&](std::int64_t r) {
      const std::int64_t head = r % s.heads, row = r / s.heads % s.seq, batch = r / s.heads / s.seq;
      std::vector<double> means;
      for (std::int64_t b = 0; b < s.blocks(); ++b)
        for (std::int64_t d = 0; d < s.dim; ++d)
          means.push_back(in(1, ((batch * s.blocks() + b) * s.kv_heads + s.kv_head(head)) * s.dim + d));
      ExpectedRow out{2, r * s.topk, std::vector<double>(static_cast<std::size_t>(s.topk), -1)};
      const std::vector<std::int64_t> blocks = chosen(s, means, query(s, in, r), row);
      std::copy(blocks.begin(), blocks.end(), out.values.begin());
      return std::vector<ExpectedRow>{out};
    });
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> block_sparse_kinds() {
  return {
      {"moba_prefill",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"block"},
        {"topk"},
        {"variant", "fused"},
        {"selection", "uniform"},
        {"index", "own"}},
       moba,
       {"batch=2 seq=300 heads=2 kv_heads=1 block=64 topk=3 variant=fused,five_step head_dim=64,128 "
        "index=own,cub",
        "seq=520 heads=1 block=128 topk=2 variant=fused,five_step head_dim=64,128",
        "seq=70 heads=1 block=64 topk=5 variant=fused,five_step head_dim=64,128 index=own,cub",
        "seq=1 heads=1 block=64 topk=1 variant=fused,five_step head_dim=64,128 index=own,cub"},
       {"variant", "head_dim", "index"}},
      {"block_pool",
       {{"batch", "1"}, {"kv_rows"}, {"kv_heads"}, {"head_dim", "128"}, {"block"}},
       pool,
       {"batch=2 kv_rows=300 kv_heads=3 block=128 head_dim=64,128",
        "kv_rows=1 kv_heads=1 block=64 head_dim=64,128"},
       {"head_dim"}},
      {"block_gate",
       {{"batch", "1"},
        {"q_rows"},
        {"heads"},
        {"kv_heads", "heads"},
        {"head_dim", "128"},
        {"block"},
        {"topk"}},
       gate,
       {"q_rows=1100 heads=1 block=64 topk=1,4,16 head_dim=64,128"},
       {"head_dim"}},
  };
}

}  // namespace tessera::measure
