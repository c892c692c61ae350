// Kimi Delta Attention and its short convolutions.

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/linear_attention/kda.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

constexpr std::int64_t kDim = cuda::kKdaDim;
constexpr const char* kUnlike =
    "plain fp32 kernels of Tessera's own; the tile programs stand for FLA's Triton kernels";

enum : std::size_t { kQ, kK, kV, kGate, kALog, kDtBias, kBeta, kState, kOut, kScratch };

std::vector<Operand> kda_operands(std::int64_t batch, std::int64_t seq, std::int64_t heads) {
  const std::int64_t all = batch * seq * heads * kDim;
  return {normal("q", Element::bf16, all),
          normal("k", Element::bf16, all),
          normal("v", Element::bf16, all),
          normal("gate", Element::bf16, all),
          uniform("a_log", Element::f32, heads, 2, -4),  // states that last from 15 to some hundred tokens
          normal("dt_bias", Element::f32, heads * kDim, 0.5F),
          uniform("beta", Element::bf16, batch * seq * heads),
          normal("state", Element::f32, batch * heads * kDim * kDim, 0.1F),
          output("out", Element::bf16, all)};
}

cuda::KdaCall call_of(const Call& c, std::int64_t batch, std::int64_t seq, std::int64_t heads) {
  return {.q = c.at[kQ],
          .k = c.at[kK],
          .v = c.at[kV],
          .gate = c.at[kGate],
          .a_log = as<float>(c.at[kALog]),
          .dt_bias = as<float>(c.at[kDtBias]),
          .beta = c.at[kBeta],
          .state = as<float>(c.at[kState]),
          .out = c.at[kOut],
          .batch = batch,
          .seq = seq,
          .heads = heads};
}

/// The recurrence of one sequence and head, token by token: outputs at some tokens and the last state.
std::vector<ExpectedRow> recurrence(const Inputs& in, std::int64_t seq, std::int64_t heads,
                                    std::int64_t sequence, std::int64_t head,
                                    const std::vector<std::int64_t>& tokens) {
  const auto n = static_cast<std::size_t>(kDim);
  std::vector<double> s(n * n), q(n), k(n), d(n);
  const std::int64_t state = (sequence * heads + head) * kDim * kDim;
  for (std::size_t i = 0; i < n * n; ++i) s[i] = in(kState, state + static_cast<std::int64_t>(i));
  std::vector<ExpectedRow> rows;
  const double a = -std::exp(in(kALog, head));
  for (std::int64_t t = 0; t < seq; ++t) {
    const std::int64_t row = (sequence * seq + t) * heads + head, at = row * kDim;
    double q2 = static_cast<double>(cuda::kKdaLengthEpsilon), k2 = q2;
    for (std::size_t i = 0; i < n; ++i) {
      const auto x = static_cast<std::int64_t>(i);
      q[i] = in(kQ, at + x);
      k[i] = in(kK, at + x);
      q2 += q[i] * q[i];
      k2 += k[i] * k[i];
      d[i] = 0;
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto x = static_cast<std::int64_t>(i);
      q[i] /= std::sqrt(q2);
      k[i] /= std::sqrt(k2);
      const double decay =
          std::exp(a * std::log1p(std::exp(in(kGate, at + x) + in(kDtBias, head * kDim + x))));
      for (std::size_t j = 0; j < n; ++j) {
        s[i * n + j] *= decay;
        d[j] += s[i * n + j] * k[i];
      }
    }
    const double beta = in(kBeta, row);
    for (std::size_t j = 0; j < n; ++j) d[j] = beta * (in(kV, at + static_cast<std::int64_t>(j)) - d[j]);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) s[i * n + j] += k[i] * d[j];
    if (!std::binary_search(tokens.begin(), tokens.end(), t)) continue;
    ExpectedRow out{kOut, at, std::vector<double>(n, 0)};
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        out.values[j] += q[i] * s[i * n + j] / std::sqrt(static_cast<double>(kDim));
    rows.push_back(std::move(out));
  }
  rows.push_back({kState, state, s});
  return rows;
}

/// Whole heads: all of a few, or one of many.
auto expect_recurrence(std::int64_t batch, std::int64_t seq, std::int64_t heads) {
  return [=](const Inputs& in, std::size_t limit) {
    const bool all = batch * seq * heads * kDim <= static_cast<std::int64_t>(limit);
    const std::vector<std::int64_t> tokens = spread(seq, all ? static_cast<std::size_t>(seq) : 16);
    std::vector<Expected> expected;
    for (const std::int64_t which :
         spread(batch * heads, all ? static_cast<std::size_t>(batch * heads) : 1)) {
      for (const ExpectedRow& row : recurrence(in, seq, heads, which / heads, which % heads, tokens)) {
        const auto count = static_cast<std::int64_t>(row.values.size());
        for (const std::int64_t i : spread(count, all ? row.values.size() : 16))
          expected.push_back({row.operand, row.first + i, row.values[static_cast<std::size_t>(i)]});
      }
    }
    return expected;
  };
}

void require_dim(const Arguments& a, const char* kind) {
  if (a.integer("k_dim") != kDim || a.integer("v_dim") != kDim)
    throw NotMeasured{std::string{kind} + ": heads of 128 are measured"};
}

Workload prefill(const Arguments& a, const Target&) {
  const std::int64_t batch = a.integer("batch"), seq = a.integer("seq"), heads = a.integer("heads");
  require_dim(a, "kda_prefill");
  if ((!a.is("chunk", "auto") && a.integer("chunk") != cuda::kKdaChunk) || !a.truth("initial_state"))
    throw NotMeasured{"kda_prefill: chunks of 64 that go on from a state are measured"};
  Workload w{.implementation = "Tessera KDA, chunks (fp32)", .unlike = kUnlike};
  set_cost(w, models::LinearAttention{.rule = models::kKda, .batch = batch, .seq = seq, .heads = heads});
  w.operands = kda_operands(batch, seq, heads);
  const std::int64_t all = batch * seq * heads * kDim,
                     chunks = batch * cuda::KdaCall{.seq = seq}.chunks() * heads;
  for (const char* name : {"q_unit", "k_unit"}) w.operands.push_back(output(name, Element::bf16, all));
  for (const char* name : {"decay", "u", "w"}) w.operands.push_back(output(name, Element::f32, all));
  w.operands.push_back(output("scores", Element::f32, chunks * cuda::kKdaChunk * cuda::kKdaChunk));
  w.operands.push_back(output("states", Element::f32, chunks * kDim * kDim));
  w.tolerance = {.bf16 = 0.06, .f32 = 0.06};  // q and k of length 1 are rounded to bf16 before the scores
  const auto call = [=](const Call& c) {
    cuda::KdaCall k = call_of(c, batch, seq, heads);
    k.q_unit = c.at[kScratch];
    k.k_unit = c.at[kScratch + 1];
    k.decay = as<float>(c.at[kScratch + 2]);
    k.u = as<float>(c.at[kScratch + 3]);
    k.w = as<float>(c.at[kScratch + 4]);
    k.scores = as<float>(c.at[kScratch + 5]);
    k.states = as<float>(c.at[kScratch + 6]);
    return k;
  };
  w.stages = {{"l2norm", [=](const Call& c) { cuda::launch_kda_unit_length(call(c), c.stream); }},
              {"decay", [=](const Call& c) { cuda::launch_kda_decay(call(c), c.stream); }},
              {"intra_chunk", [=](const Call& c) { cuda::launch_kda_intra(call(c), c.stream); }},
              {"state_pass", [=](const Call& c) { cuda::launch_kda_state_pass(call(c), c.stream); }},
              {"output", [=](const Call& c) { cuda::launch_kda_output(call(c), c.stream); }}};
  w.expect = expect_recurrence(batch, seq, heads);
  return w;
}

Workload decode(const Arguments& a, const Target&) {
  const std::int64_t batch = a.integer("batch"), tokens = a.integer("tokens"), heads = a.integer("heads");
  require_dim(a, "kda_decode");
  if (a.choice("form", {"packed", "fused", "verify"}) != "packed")
    throw NotMeasured{"kda_decode: form=packed is measured"};
  Workload w{.implementation = "Tessera KDA, recurrent"};
  set_cost(w, models::LinearDecode{.rule = models::kKda, .batch = batch, .heads = heads, .tokens = tokens});
  w.operands = kda_operands(batch, tokens, heads);
  w.stages = {{"kda_decode",
               [=](const Call& c) { cuda::launch_kda_decode(call_of(c, batch, tokens, heads), c.stream); }}};
  w.expect = expect_recurrence(batch, tokens, heads);
  return w;
}

Workload conv(const Arguments& a, const Target&) {
  const std::int64_t batch = a.integer("batch"), seq = a.integer("seq"),
                     one = a.integer("heads") * a.integer("head_dim"), convs = a.integer("convs"),
                     channels = one * convs;
  const bool update = a.choice("mode", {"prefill", "update"}) == "update";
  if (a.integer("taps") != cuda::kConvTaps || channels % 8 != 0)
    throw NotMeasured{"causal_conv1d: four taps, and a multiple of 8 channels, are measured"};
  Workload w{.implementation = "Tessera causal_conv1d"};
  set_cost(
      w, models::CausalConv1d{.batch = batch, .seq = seq, .channels = one, .convs = convs, .update = update});
  // In the decode form every token is a sequence of its own.
  const std::int64_t sequences = update ? batch * seq : batch, length = update ? 1 : seq;
  w.operands = {normal("x", Element::bf16, batch * seq * channels),
                normal("weight", Element::bf16, channels * 4, 0.5F),
                output("out", Element::bf16, batch * seq * channels),
                update ? normal("state", Element::bf16, sequences * channels * 3)
                       : output("state", Element::bf16, sequences * channels * 3)};
  w.stages = {{"causal_conv1d", [=](const Call& c) {
                 cuda::launch_causal_conv1d({.x = c.at[0],
                                             .weight = c.at[1],
                                             .out = c.at[2],
                                             .state = c.at[3],
                                             .batch = sequences,
                                             .seq = length,
                                             .channels = channels,
                                             .from_state = update},
                                            c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    const auto input = [&](std::int64_t sequence, std::int64_t token, std::int64_t channel) {
      if (token >= 0) return in(0, (sequence * length + token) * channels + channel);
      return update ? in(3, (sequence * channels + channel) * 3 + 3 + token) : 0.0;
    };
    std::vector<Expected> all;
    for (const std::int64_t i : spread(batch * seq * channels, limit)) {
      const std::int64_t channel = i % channels, token = i / channels % length,
                         sequence = i / channels / length;
      double sum = 0;
      for (std::int64_t tap = 0; tap < 4; ++tap)
        sum += in(1, channel * 4 + tap) * input(sequence, token - 3 + tap, channel);
      all.push_back({2, i, sum / (1 + std::exp(-sum))});
    }
    for (const std::int64_t i : spread(sequences * channels * 3, limit / 4))
      all.push_back({3, i, input(i / 3 / channels, length - 3 + i % 3, i / 3 % channels)});
    return all;
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> linear_kinds() {
  return {
      {"kda_prefill",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"k_dim", "128"},
        {"v_dim", "k_dim"},
        {"chunk", "auto"},
        {"initial_state", "true"}},
       prefill,
       {"batch=2 seq=70 heads=1", "seq=131 heads=1", "seq=1 heads=2", "seq=64 heads=1"}},
      {"kda_decode",
       {{"batch", "1"}, {"heads"}, {"tokens", "1"}, {"k_dim", "128"}, {"v_dim", "k_dim"}, {"form", "packed"}},
       decode,
       {"batch=2 heads=3"}},
      {"causal_conv1d",
       {{"batch", "1"},
        {"seq"},
        {"heads"},
        {"head_dim", "128"},
        {"convs", "3"},
        {"taps", "4"},
        {"mode", "prefill"}},
       conv,
       {"batch=2 seq=1,2,37 heads=1 head_dim=40 mode=prefill",
        "batch=3 seq=1 heads=2 head_dim=24 mode=update"},
       {"mode"}},
  };
}

}  // namespace tessera::measure
