// Norms, rotation, activation, copies.

#include <cmath>
#include <stdexcept>

#include "kernels/stream/rows.hpp"
#include "validate/measure/kinds.hpp"
#include "validate/measure/operands.hpp"

namespace tessera::measure {

namespace {

void require_eights(const char* kind, std::int64_t width) {
  if (width % 8 != 0) throw NotMeasured{std::string{kind} + ": the width must be a multiple of 8"};
}
void require_row(const char* kind, std::int64_t width) {
  require_eights(kind, width);
  if (width > 16384) throw NotMeasured{std::string{kind} + ": the width must be at most 16384"};
}

Workload norm(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), width = a.integer("width");
  const bool layer = a.choice("type", {"rms", "layer"}) == "layer", residual = a.truth("residual");
  require_row("norm", width);
  Workload w{.implementation = "Tessera norm"};
  set_cost(w, models::Norm{.rows = rows,
                           .width = width,
                           .kind = layer ? models::NormKind::layer : models::NormKind::rms,
                           .residual = residual});
  const std::int64_t added = residual ? rows * width : 0;
  w.operands = {normal("in", Element::bf16, rows * width, 2, 0.5F), normal("residual", Element::bf16, added),
                uniform("weight", Element::bf16, width, 1, 0.5F), output("out", Element::bf16, rows * width),
                output("sum", Element::bf16, added)};
  w.stages = {{"norm", [=](const Call& c) {
                 cuda::launch_norm({.in = c.at[0],
                                    .residual = residual ? c.at[1] : nullptr,
                                    .weight = c.at[2],
                                    .out = c.at[3],
                                    .sum = residual ? c.at[4] : nullptr,
                                    .rows = rows,
                                    .width = width,
                                    .layer = layer},
                                   c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(rows, width, limit, [&](std::int64_t r) {
      std::vector<double> x;
      double mean = 0, power = 0;
      for (std::int64_t i = r * width; i < (r + 1) * width; ++i) {
        // The sum is written, and normalised as written.
        x.push_back(residual ? rounded(in(0, i) + in(1, i), Element::bf16) : in(0, i));
        mean += layer ? x.back() / static_cast<double>(width) : 0;
      }
      for (const double v : x) power += (v - mean) * (v - mean) / static_cast<double>(width);
      std::vector<double> y;
      for (std::size_t i = 0; i < x.size(); ++i)
        y.push_back((x[i] - mean) / std::sqrt(power + static_cast<double>(cuda::kNormEpsilon)) *
                    in(2, static_cast<std::int64_t>(i)));
      std::vector<ExpectedRow> both{{3, r * width, y}};
      if (residual) both.push_back({4, r * width, x});
      return both;
    });
  };
  return w;
}

Workload rope(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), heads = a.integer("heads"), kv_heads = a.integer("kv_heads"),
                     dim = a.integer("head_dim");
  if (dim % 2 != 0) throw NotMeasured{"rope: head_dim must be even"};
  Workload w{.implementation = "Tessera rope"};
  set_cost(w, models::Rope{.rows = rows, .heads = heads, .kv_heads = kv_heads, .head_dim = dim});
  w.operands = {normal("q", Element::bf16, rows * heads * dim),
                normal("k", Element::bf16, rows * kv_heads * dim)};
  w.stages = {{"rope", [=](const Call& c) {
                 cuda::launch_rope({.q = c.at[0],
                                    .k = c.at[1],
                                    .rows = rows,
                                    .heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_dim = dim},
                                   c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(rows * (heads + kv_heads), dim, limit, [&](std::int64_t r) {
      const std::int64_t row = r / (heads + kv_heads), head = r % (heads + kv_heads);
      const std::size_t operand = head < heads ? 0 : 1;
      const std::int64_t first =
          operand == 0 ? (row * heads + head) * dim : (row * kv_heads + head - heads) * dim;
      ExpectedRow out{operand, first, std::vector<double>(static_cast<std::size_t>(dim))};
      for (std::int64_t i = 0; i < dim / 2; ++i) {
        const double angle = static_cast<double>(row) *
                             std::pow(10000.0, -2 * static_cast<double>(i) / static_cast<double>(dim));
        const double x = in(operand, first + i), y = in(operand, first + i + dim / 2);
        out.values[static_cast<std::size_t>(i)] = x * std::cos(angle) - y * std::sin(angle);
        out.values[static_cast<std::size_t>(i + dim / 2)] = y * std::cos(angle) + x * std::sin(angle);
      }
      return std::vector<ExpectedRow>{out};
    });
  };
  return w;
}

Workload activation(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), width = a.integer("width");
  const bool swiglu = a.choice("type", {"swiglu", "gelu"}) == "swiglu";
  require_eights("activation", width);
  Workload w{.implementation = "Tessera activation"};
  set_cost(
      w, models::Activation{.rows = rows,
                            .width = width,
                            .kind = swiglu ? models::ActivationKind::swiglu : models::ActivationKind::gelu});
  w.operands = {normal("in", Element::bf16, rows * width * (swiglu ? 2 : 1)),
                output("out", Element::bf16, rows * width)};
  w.stages = {{"activation", [=](const Call& c) {
                 cuda::launch_activation(c.at[0], c.at[1], rows, width, swiglu, c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    std::vector<Expected> all;
    for (const std::int64_t i : spread(rows * width, limit)) {
      const std::int64_t row = i / width, column = i % width;
      const double x = in(0, row * width * (swiglu ? 2 : 1) + column);
      all.push_back({1, i,
                     swiglu ? x / (1 + std::exp(-x)) * in(0, row * width * 2 + width + column)
                            : 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)))});
    }
    return all;
  };
  return w;
}

Workload softmax(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), width = a.integer("width");
  require_row("softmax", width);
  Workload w{.implementation = "Tessera softmax"};
  set_cost(w, models::Softmax{.rows = rows, .width = width});
  w.operands = {normal("in", Element::bf16, rows * width), output("out", Element::bf16, rows * width)};
  w.stages = {
      {"softmax", [=](const Call& c) { cuda::launch_softmax(c.at[0], c.at[1], rows, width, c.stream); }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    return expect_rows(rows, width, limit, [&](std::int64_t r) {
      std::vector<double> x;
      double most = -1e300, sum = 0;
      for (std::int64_t i = 0; i < width; ++i) {
        x.push_back(in(0, r * width + i));
        most = std::max(most, x.back());
      }
      for (double& v : x) sum += v = std::exp(v - most);
      for (double& v : x) v /= sum;
      return std::vector<ExpectedRow>{{1, r * width, x}};
    });
  };
  return w;
}

Workload sum(const Arguments& a, const Target&) {
  const std::int64_t rows = a.integer("rows"), inputs = a.integer("inputs"), width = a.integer("width");
  require_eights("sum", width);
  if (inputs % rows != 0) throw NotMeasured{"sum: inputs must be a multiple of rows"};
  Workload w{.implementation = "Tessera sum"};
  set_cost(w, models::Sum{.rows = rows, .inputs = inputs, .width = width});
  w.operands = {normal("in", Element::bf16, inputs * width), output("out", Element::bf16, rows * width)};
  w.stages = {
      {"sum", [=](const Call& c) { cuda::launch_sum(c.at[0], c.at[1], rows, inputs, width, c.stream); }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    std::vector<Expected> all;
    for (const std::int64_t i : spread(rows * width, limit)) {
      double value = 0;
      for (std::int64_t p = 0; p < inputs / rows; ++p) value += in(0, p * rows * width + i);
      all.push_back({1, i, value});
    }
    return all;
  };
  return w;
}

Workload copy(const Arguments& a, const Target&) {
  const std::int64_t bytes = a.integer("bytes");
  if (bytes % 4 != 0) throw NotMeasured{"memcpy: bytes must be a multiple of 4"};
  Workload w{.implementation = "cudaMemcpyAsync"};
  set_cost(w, models::Copy{.bytes = bytes});
  w.operands = {normal("source", Element::f32, bytes / 4), output("destination", Element::f32, bytes / 4)};
  w.tolerance.f32 = 0;
  w.stages = {{"copy", [=](const Call& c) { cuda::launch_copy(c.at[0], c.at[1], bytes, c.stream); }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    std::vector<Expected> all;
    for (const std::int64_t i : spread(bytes / 4, limit)) all.push_back({1, i, in(0, i)});
    return all;
  };
  return w;
}

Workload embedding(const Arguments& a, const Target&) {
  constexpr std::int64_t kTableRowsForEach = 4;
  const std::int64_t rows = a.integer("rows"), width = a.integer("width"), table = rows * kTableRowsForEach;
  require_eights("embedding", width);
  Workload w{.implementation = "Tessera embedding"};
  set_cost(w, models::Embedding{.rows = rows, .width = width});
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r * 7919 % table));
  w.operands = {normal("table", Element::bf16, table * width), listed("ids", ids),
                output("out", Element::bf16, rows * width)};
  w.tolerance.bf16 = 0;
  w.stages = {{"embedding", [=](const Call& c) {
                 cuda::launch_embedding(c.at[0], as<std::int32_t>(c.at[1]), c.at[2], rows, width, c.stream);
               }}};
  w.expect = [=](const Inputs& in, std::size_t limit) {
    std::vector<Expected> all;
    for (const std::int64_t i : spread(rows * width, limit))
      all.push_back({2, i, in(0, static_cast<std::int64_t>(in(1, i / width)) * width + i % width)});
    return all;
  };
  return w;
}

}  // namespace

std::vector<MeasuredKind> per_token_kinds() {
  return {
      {"norm",
       {{"rows"}, {"width"}, {"type", "rms"}, {"residual", "false"}},
       norm,
       {"rows=3 width=1032 type=rms,layer residual=true,false", "rows=1 width=8 type=rms,layer",
        "rows=2 width=12288"},
       {"type"}},
      {"rope",
       {{"rows"}, {"heads"}, {"kv_heads", "heads"}, {"head_dim", "128"}},
       rope,
       {"rows=5 heads=3 kv_heads=1 head_dim=48"}},
      {"activation",
       {{"rows"}, {"width"}, {"type", "swiglu"}},
       activation,
       {"rows=3 width=72 type=swiglu,gelu", "rows=1 width=8 type=swiglu,gelu"},
       {"type"}},
      {"softmax",
       {{"rows"}, {"width"}},
       softmax,
       {"rows=3 width=136", "rows=1 width=8", "rows=2 width=12288"}},
      {"sum", {{"rows"}, {"inputs"}, {"width"}}, sum, {"rows=3 inputs=12 width=40"}},
      {"memcpy", {{"bytes"}}, copy, {"bytes=1020"}},
      {"embedding", {{"rows"}, {"width"}}, embedding, {"rows=5 width=72"}},
  };
}

}  // namespace tessera::measure
