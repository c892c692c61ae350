#pragma once
// Operators of every family, drawn at random from shapes that share what a cost model may remember and shapes
// that must not.

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <random>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "models/operators/expert_load.hpp"
#include "models/operators/operator.hpp"

namespace tessera::models::testing {

/// Draws operators. Lengths are mostly such that trips are many, few or none, with and without a tail.
class Draw {
 public:
  explicit Draw(unsigned seed) : random_{seed} {}

  std::int64_t of(std::initializer_list<std::int64_t> values) {
    return values.begin()[random_() % values.size()];
  }
  bool yes() { return random_() % 2 == 0; }
  std::int64_t length() { return of({1, 5, 8, 63, 64, 65, 128, 200, 700, 1024, 3000, 20'000}); }
  std::int64_t short_length() { return of({1, 5, 64, 65, 128, 200, 700, 1024}); }
  Dtype dtype() {
    return std::array{Dtype::bf16, Dtype::bf16, Dtype::fp16, Dtype::fp32, Dtype::fp8}[random_() % 5];
  }
  /// Of `rows` rows: none, or every second or third one.
  Positions positions(std::int64_t rows) {
    const std::int64_t step = of({0, 2, 3});
    if (step == 0) return nullptr;
    std::vector<std::int32_t> at;
    for (std::int64_t i = 0; i < rows; ++i) at.push_back(static_cast<std::int32_t>(i * step));
    return std::make_shared<const std::vector<std::int32_t>>(std::move(at));
  }
  Recurrence rule() { return kRecurrences[random_() % kRecurrences.size()]; }

  Operator operator()(std::size_t family);

 private:
  std::mt19937 random_;
};

template <class Op>
constexpr std::size_t kFamily = [] {
  std::size_t at = 0;
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((std::is_same_v<std::variant_alternative_t<I, Operator>, Op> ? void(at = I) : void()), ...);
  }
  (std::make_index_sequence<std::variant_size_v<Operator>>{});
  return at;
}();

inline Operator Draw::operator()(std::size_t family) {
  const std::int64_t kv = of({1, 2, 8}), heads = kv * of({1, 2, 4, 16}),
                     width = of({64, 128, 256, 1000, 4096});
  const std::int64_t dim = of({64, 128, 256}), rows = length();
  switch (family) {
    case kFamily<Gemm>:
      return Gemm{rows, of({8, 72, 1000, 4096}), of({32, 512, 520, 7168}), dtype()};
    case kFamily<BatchedGemm>:
      return BatchedGemm{of({1, 2, 16, 64}), short_length(), of({128, 512, 1000}), of({64, 128, 512}),
                         dtype()};
    case kFamily<Attention>: {
      const std::int64_t q = short_length();
      Attention a{.batch = of({1, 2, 5}),
                  .q_rows = q,
                  .kv_rows = q,
                  .heads = heads,
                  .kv_heads = kv,
                  .head_dim = dim,
                  .causal = yes(),
                  .dtype = dtype(),
                  .flash_version = static_cast<int>(of({2, 3, 3}))};
      if (yes()) a.kv_rows += of({1, 64, 1000});
      if (yes()) {
        a.paged = a.causal = true;
        a.flash_version = 3;
      } else if (yes()) {
        a.partial = true;
        if (yes()) a.q_positions = positions(a.q_rows);
      } else {
        a.first_release = yes();
      }
      return a;
    }
    case kFamily<AttentionDecode>: {
      AttentionDecode a{.batch = of({1, 3, 64}),
                        .context = rows,
                        .heads = heads,
                        .kv_heads = kv,
                        .head_dim = dim,
                        .dtype = dtype()};
      (yes() ? a.partial : a.paged) = yes();
      return a;
    }
    case kFamily<Merge>:
      return Merge{rows, of({1, 8, 32}), dim, of({1, 2, 3, 8}), dtype()};
    case kFamily<Norm>:
      return Norm{rows, width, yes() ? NormKind::rms : NormKind::layer, yes(), dtype()};
    case kFamily<Rope>:
      return Rope{rows, heads, kv, dim, dtype()};
    case kFamily<Activation>:
      return Activation{rows, width, yes() ? ActivationKind::swiglu : ActivationKind::gelu, dtype()};
    case kFamily<Softmax>:
      return Softmax{rows, width, dtype()};
    case kFamily<Sum>:
      return Sum{rows, rows * of({1, 2, 8}), width, dtype()};
    case kFamily<Copy>:
      return Copy{rows * of({1, 1000, 4096})};
    case kFamily<Embedding>:
      return Embedding{rows, width, dtype()};
    case kFamily<LinearAttention>:
      return LinearAttention{.rule = rule(),
                             .batch = of({1, 3}),
                             .seq = rows,
                             .heads = of({1, 4, 32}),
                             .k_dim = of({64, 128}),
                             .v_dim = of({64, 128, 256}),
                             .chunk = of({32, 64, 64}),
                             .initial_state = yes(),
                             .part = static_cast<SegmentPart>(of({0, 0, 1, 2})),
                             .dtype = dtype()};
    case kFamily<StateScan>:
      return StateScan{of({1, 3}),         of({1, 4, 32}),    of({64, 128}),
                       of({64, 128, 256}), of({1, 2, 7, 30}), yes()};
    case kFamily<LinearDecode>: {
      LinearDecode l{.rule = rule(),
                     .batch = of({1, 5, 64, 700}),
                     .heads = of({1, 4, 32}),
                     .k_dim = of({64, 128}),
                     .v_dim = of({64, 128, 256}),
                     .form = static_cast<DecodeForm>(of({0, 1, 2})),
                     .dtype = dtype()};
      if (l.form == DecodeForm::verify) l.tokens = of({1, 3, 8, 30});
      return l;
    }
    case kFamily<CausalConv1d>:
      return CausalConv1d{of({1, 3}), rows, of({64, 1024, 4096}), of({1, 3}), of({2, 4}), yes(), dtype()};
    case kFamily<LatentAttention>: {
      const std::int64_t q = short_length();
      LatentAttention a{.batch = of({1, 2, 5}),
                        .q_rows = q,
                        .kv_rows = q,
                        .heads = of({1, 8, 16}),
                        .causal = yes(),
                        .partial = yes(),
                        .dtype = dtype()};
      if (yes()) a.kv_rows += of({1, 64, 1000});
      if (yes()) a.nope = a.value = 64;
      if (of({0, 0, 1}) == 1) a.algorithm = LatentAlgorithm::flash2;
      return a;
    }
    case kFamily<LatentDecode>: {
      LatentDecode l{.batch = of({1, 2, 64}),
                     .context = rows,
                     .heads = of({1, 8, 16, 128}),
                     .causal = yes(),
                     .dtype = dtype()};
      if (yes()) l.q_rows = std::min<std::int64_t>(rows, of({1, 2, 4, 64}));
      (yes() ? l.partial : l.paged) = yes();
      if (l.q_rows == 1 && yes()) l.algorithm = LatentAlgorithm::triton;
      return l;
    }
    case kFamily<Moba>:
      return Moba{.batch = of({1, 2}),
                  .seq = of({64, 200, 1024, 3000}),
                  .heads = heads,
                  .kv_heads = kv,
                  .head_dim = of({64, 128}),
                  .block = of({64, 128, 512}),
                  .topk = of({1, 2, 4, 8}),
                  .variant = yes() ? MobaVariant::fused : MobaVariant::five_step,
                  .selection = {.kind = static_cast<SelectionKind>(of({0, 1, 2}))},
                  .dtype = dtype()};
    case kFamily<BlockPool>:
      return BlockPool{of({1, 2}), rows, kv, of({64, 128}), of({64, 128, 512}), positions(rows), dtype()};
    case kFamily<BlockGate>:
      return BlockGate{of({1, 2}),         rows,          heads,           kv,     of({64, 128}),
                       of({64, 128, 512}), of({1, 2, 8}), positions(rows), dtype()};
    case kFamily<BlockSparseAttention>: {
      const std::int64_t q = of({64, 200, 1024, 3000});
      return BlockSparseAttention{.batch = of({1, 2}),
                                  .q_rows = q,
                                  .kv_rows = q,
                                  .heads = heads,
                                  .kv_heads = kv,
                                  .head_dim = of({64, 128}),
                                  .block = of({64, 128, 512}),
                                  .topk = of({1, 2, 8}),
                                  .selection = {.kind = static_cast<SelectionKind>(of({0, 1, 2}))},
                                  .dtype = dtype()};
    }
    case kFamily<Router>: {
      const std::int64_t experts = of({8, 64, 256});
      return Router{rows, experts, of({1, 2, 8}), yes() ? RouterScore::softmax : RouterScore::sigmoid,
                    experts > 8 ? of({1, 8}) : 1};
    }
    case kFamily<Moe>: {
      const std::int64_t experts = of({8, 64}), nodes = of({1, 2}), tokens = short_length(),
                         topk = of({1, 2, 8});
      const LoadDistribution loads{.kind = static_cast<LoadKind>(of({0, 1, 2})), .exponent = 1.2};
      return Moe{.tokens = tokens,
                 .hidden = of({256, 512, 2048}),
                 .intermediate = of({64, 512, 1408}),
                 .experts = experts / nodes,
                 .all_experts = experts,
                 .topk = topk,
                 .loads = loads_of(expert_loads(loads, {tokens, experts, topk, nodes}), 0, experts / nodes),
                 .dtype = dtype(),
                 .gated = yes()};
    }
    case kFamily<NativeSparse>:
      return NativeSparse{.batch = of({1, 2}),
                          .seq = of({20, 64, 200, 1024, 3000}),
                          .heads = kv * 16,
                          .kv_heads = kv,
                          .head_dim = of({64, 128}),
                          .compressed = of({16, 32}),
                          .stride = 16,
                          .block = of({32, 64}),
                          .selected = of({4, 16}),
                          .window = of({64, 512}),
                          .dtype = dtype()};
    case kFamily<IndexedLatent>: {
      IndexedLatent l{.batch = of({1, 2, 64}),
                      .context = rows,
                      .heads = of({16, 64, 128}),
                      .index_heads = of({16, 64}),
                      .index_dim = of({64, 128}),
                      .selected = of({256, 2048}),
                      .dtype = dtype(),
                      .index_dtype = yes() ? Dtype::fp8 : Dtype::bf16};
      if (yes()) l.q_rows = std::min<std::int64_t>(rows, of({1, 2, 64, 700}));
      return l;
    }
    default:
      throw std::logic_error{"a family of operators that is not drawn: add it here"};
  }
}

}  // namespace tessera::models::testing
