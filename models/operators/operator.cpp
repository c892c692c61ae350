#include "models/operators/operator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace tessera::models {

namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

constexpr std::int64_t kStatsBytes = 8;  // row maximum and sum of exponentials, fp32

double product(std::initializer_list<std::int64_t> factors) {
  double p = 1;
  for (const std::int64_t f : factors) p *= static_cast<double>(f);
  return p;
}

/// A call through a paged cache reads q and the new k and v rows, and the cache, which it also extends; and
/// tables: a place per new row, an entry per page, and per sequence its lengths and its part of the schedule.
template <class A>
std::vector<Operand> paged_operands(const A& a, std::int64_t new_rows, std::int64_t context) {
  const std::int64_t row = a.head_dim * bytes_of(a.dtype);
  const std::int64_t q = a.batch * new_rows * a.heads * row, kv_new = a.batch * new_rows * a.kv_heads * row,
                     cache = a.batch * context * a.kv_heads * row;
  const std::int64_t pages = (context + kPageRows - 1) / kPageRows;
  const std::int64_t tables = 4 * a.batch * (new_rows + pages + kSequenceWords);
  return {{"q", q, false},           {"k_new", kv_new, false},  {"v_new", kv_new, false},
          {"k_cache", cache, false}, {"v_cache", cache, false}, {"tables", tables, false},
          {"out", q, true}};
}

/// FNV-1a over the positions.
std::uint64_t hash_of(const Positions& positions) {
  if (!positions) return 0;
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const std::int32_t p : *positions) {
    for (unsigned byte = 0; byte < 4; ++byte) {
      h ^= static_cast<std::uint32_t>(p) >> (8 * byte) & 0xffU;
      h *= 0x100000001b3ULL;
    }
  }
  return h;
}

void require_positive(std::string_view kind, std::string_view name, std::int64_t value) {
  if (value <= 0)
    throw std::invalid_argument{fmt::format("{}: {} must be positive, not {}", kind, name, value)};
}

void check_heads(std::string_view kind, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
  require_positive(kind, "heads", heads);
  require_positive(kind, "kv_heads", kv_heads);
  require_positive(kind, "head_dim", head_dim);
  if (heads % kv_heads != 0) {
    throw std::invalid_argument{
        fmt::format("{}: heads ({}) must be a multiple of kv_heads ({})", kind, heads, kv_heads)};
  }
}

void check_positions(std::string_view name, const Positions& positions, std::int64_t rows) {
  if (!positions) return;
  if (static_cast<std::int64_t>(positions->size()) != rows) {
    throw std::invalid_argument{
        fmt::format("attention_prefill: {} positions for {} rows in {}", positions->size(), rows, name)};
  }
  if (std::adjacent_find(positions->begin(), positions->end(), std::greater_equal<>{}) != positions->end()) {
    throw std::invalid_argument{fmt::format("attention_prefill: {} must be strictly increasing", name)};
  }
}

}  // namespace

int bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::fp32:
      return 4;
    case Dtype::bf16:
    case Dtype::fp16:
      return 2;
    case Dtype::fp8:
      return 1;
  }
  return 0;
}

std::string_view name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::fp32:
      return "fp32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::fp16:
      return "fp16";
    case Dtype::fp8:
      return "fp8";
  }
  return "";
}

std::int64_t Attention::visible(std::int64_t q) const {
  if (!causal) return kv_rows;
  if (!q_positions && !kv_positions) return std::clamp<std::int64_t>(q + 1 + kv_rows - q_rows, 0, kv_rows);
  const std::int64_t position = q_positions ? (*q_positions)[static_cast<std::size_t>(q)] : q;
  if (!kv_positions) return std::clamp<std::int64_t>(position + 1, 0, kv_rows);
  return std::upper_bound(kv_positions->begin(), kv_positions->end(), position) - kv_positions->begin();
}

std::int64_t Attention::visible_pairs() const {
  if (!causal) return q_rows * kv_rows;
  if (!q_positions && !kv_positions && kv_rows >= q_rows)
    return q_rows * (kv_rows - q_rows) + q_rows * (q_rows + 1) / 2;
  std::int64_t pairs = 0;
  for (std::int64_t q = 0; q < q_rows; ++q) pairs += visible(q);
  return pairs;
}

std::string_view kind_of(const Operator& op) {
  return std::visit(
      Overloaded{[](const Gemm&) { return "gemm"; }, [](const Attention&) { return "attention_prefill"; },
                 [](const AttentionDecode&) { return "attention_decode"; },
                 [](const Merge&) { return "merge"; }, [](const Norm&) { return "norm"; },
                 [](const Rope&) { return "rope"; }, [](const Activation&) { return "activation"; },
                 [](const Softmax&) { return "softmax"; }, [](const Copy&) { return "memcpy"; },
                 [](const Embedding&) { return "embedding"; }},
      op);
}

double flops_of(const Operator& op) {
  return std::visit(
      Overloaded{
          [](const Gemm& g) {
            return 2 * product({g.m, g.n, g.k});
          },
          [](const Attention& a) {
            return 4 * product({a.batch, a.heads, a.head_dim, a.visible_pairs()});
          },
          [](const AttentionDecode& a) {
            return 4 * product({a.batch, a.heads, a.head_dim, a.context});
          },
          // Per element and part: one FMA. Per row, head and part: the weight's exponential and two FMAs.
          [](const Merge& m) {
            return product({m.rows, m.heads, m.parts}) * (2 * static_cast<double>(m.head_dim) + 5);
          },
          // rms: square-sum FMA, two products; layer: sum, centred square-sum, difference, FMA; residual: a
          // sum.
          [](const Norm& n) {
            return product({n.rows, n.width}) * ((n.kind == NormKind::rms ? 4 : 6) + (n.residual ? 1 : 0));
          },
          [](const Rope& r) {
            return 3 * product({r.rows, r.heads + r.kv_heads, r.head_dim});
          },
          // swiglu: negate, exp, add, reciprocal, two products; gelu (tanh): four FMAs, tanh, two products.
          [](const Activation& a) {
            return product({a.rows, a.width}) * (a.kind == ActivationKind::swiglu ? 6 : 11);
          },
          [](const Softmax& s) {
            return 5 * product({s.rows, s.width});
          },
          [](const Copy&) { return 0.0; }, [](const Embedding&) { return 0.0; }},
      op);
}

std::vector<Operand> operands_of(const Operator& op) {
  return std::visit(
      Overloaded{
          [](const Gemm& g) {
            const std::int64_t e = bytes_of(g.dtype);
            return std::vector<Operand>{
                {"a", g.m * g.k * e, false}, {"weights", g.n * g.k * e, false}, {"out", g.m * g.n * e, true}};
          },
          [](const Attention& a) {
            if (a.paged) return paged_operands(a, a.q_rows, a.kv_rows);
            const std::int64_t e = bytes_of(a.dtype);
            const std::int64_t q = a.batch * a.q_rows * a.heads * a.head_dim * e;
            const std::int64_t kv = a.batch * a.kv_rows * a.kv_heads * a.head_dim * e;
            std::vector<Operand> o{{"q", q, false}, {"k", kv, false}, {"v", kv, false}, {"out", q, true}};
            if (a.partial) o.push_back({"max_expsum", a.batch * a.q_rows * a.heads * kStatsBytes, true});
            return o;
          },
          [](const AttentionDecode& a) {
            if (a.paged) return paged_operands(a, 1, a.context);
            const std::int64_t e = bytes_of(a.dtype);
            const std::int64_t q = a.batch * a.heads * a.head_dim * e;
            const std::int64_t kv = a.batch * a.context * a.kv_heads * a.head_dim * e;
            std::vector<Operand> o{{"q", q, false}, {"k", kv, false}, {"v", kv, false}, {"out", q, true}};
            if (a.partial) o.push_back({"max_expsum", a.batch * a.heads * kStatsBytes, true});
            return o;
          },
          [](const Merge& m) {
            const std::int64_t out = m.rows * m.heads * m.head_dim * bytes_of(m.dtype);
            return std::vector<Operand>{{"parts", m.parts * out, false},
                                        {"max_expsum", m.parts * m.rows * m.heads * kStatsBytes, false},
                                        {"out", out, true}};
          },
          [](const Norm& n) {
            const std::int64_t row = n.width * bytes_of(n.dtype);
            std::vector<Operand> o{{"in", n.rows * row, false}};
            if (n.residual) o.push_back({"residual", n.rows * row, false});
            o.push_back({"weight", row, false});
            o.push_back({"out", n.rows * row, true});
            if (n.residual) o.push_back({"sum", n.rows * row, true});
            return o;
          },
          [](const Rope& r) {
            const std::int64_t q = r.rows * r.heads * r.head_dim * bytes_of(r.dtype);
            const std::int64_t k = r.rows * r.kv_heads * r.head_dim * bytes_of(r.dtype);
            return std::vector<Operand>{
                {"q", q, false}, {"k", k, false}, {"q_out", q, true}, {"k_out", k, true}};
          },
          [](const Activation& a) {
            const std::int64_t out = a.rows * a.width * bytes_of(a.dtype);
            return std::vector<Operand>{{"in", a.kind == ActivationKind::swiglu ? 2 * out : out, false},
                                        {"out", out, true}};
          },
          [](const Softmax& s) {
            const std::int64_t bytes = s.rows * s.width * bytes_of(s.dtype);
            return std::vector<Operand>{{"in", bytes, false}, {"out", bytes, true}};
          },
          [](const Copy& c) {
            return std::vector<Operand>{{"source", c.bytes, false}, {"destination", c.bytes, true}};
          },
          [](const Embedding& e) {
            const std::int64_t bytes = e.rows * e.width * bytes_of(e.dtype);
            return std::vector<Operand>{{"table", bytes, false}, {"out", bytes, true}};
          }},
      op);
}

std::int64_t min_bytes_of(const Operator& op) {
  std::int64_t bytes = 0;
  for (const Operand& o : operands_of(op)) bytes += o.bytes;
  return bytes;
}

std::string signature_of(const Operator& op) {
  const auto heads = [](const auto& a) { return fmt::format("h{}/{}x{}", a.heads, a.kv_heads, a.head_dim); };
  return std::visit(
      Overloaded{
          [](const Gemm& g) { return fmt::format("gemm {}x{}x{} {}", g.m, g.n, g.k, name_of(g.dtype)); },
          [&](const Attention& a) {
            std::string s =
                fmt::format("attention_prefill b{} q{} kv{} {} {}{}{} fa{} {}", a.batch, a.q_rows, a.kv_rows,
                            heads(a), a.causal ? "causal" : "full", a.partial ? " partial" : "",
                            a.paged ? " paged" : "", a.flash_version, name_of(a.dtype));
            if (a.causal && (a.q_positions || a.kv_positions)) {
              s += fmt::format(" at {:016x}/{:016x}", hash_of(a.q_positions), hash_of(a.kv_positions));
            }
            return s;
          },
          [&](const AttentionDecode& a) {
            return fmt::format("attention_decode b{} c{} {}{}{} {}", a.batch, a.context, heads(a),
                               a.partial ? " partial" : "", a.paged ? " paged" : "", name_of(a.dtype));
          },
          [](const Merge& m) {
            return fmt::format("merge {}x{}x{} parts {} {}", m.rows, m.heads, m.head_dim, m.parts,
                               name_of(m.dtype));
          },
          [](const Norm& n) {
            return fmt::format("norm {}x{} {}{} {}", n.rows, n.width,
                               n.kind == NormKind::rms ? "rms" : "layer", n.residual ? " residual" : "",
                               name_of(n.dtype));
          },
          [&](const Rope& r) { return fmt::format("rope {} {} {}", r.rows, heads(r), name_of(r.dtype)); },
          [](const Activation& a) {
            return fmt::format("activation {}x{} {} {}", a.rows, a.width,
                               a.kind == ActivationKind::swiglu ? "swiglu" : "gelu", name_of(a.dtype));
          },
          [](const Softmax& s) { return fmt::format("softmax {}x{} {}", s.rows, s.width, name_of(s.dtype)); },
          [](const Copy& c) { return fmt::format("memcpy {}", c.bytes); },
          [](const Embedding& e) {
            return fmt::format("embedding {}x{} {}", e.rows, e.width, name_of(e.dtype));
          }},
      op);
}

void check(const Operator& op) {
  const std::string_view kind = kind_of(op);
  const auto positive = [&](std::string_view name, std::int64_t value) {
    require_positive(kind, name, value);
  };
  std::visit(Overloaded{[&](const Gemm& g) {
                          positive("m", g.m);
                          positive("n", g.n);
                          positive("k", g.k);
                        },
                        [&](const Attention& a) {
                          positive("batch", a.batch);
                          positive("q_rows", a.q_rows);
                          positive("kv_rows", a.kv_rows);
                          check_heads(kind, a.heads, a.kv_heads, a.head_dim);
                          check_positions("q_positions", a.q_positions, a.q_rows);
                          check_positions("kv_positions", a.kv_positions, a.kv_rows);
                          if (a.paged && (!a.causal || a.partial || a.flash_version != 3 || a.q_positions ||
                                          a.kv_positions)) {
                            throw std::invalid_argument{
                                fmt::format("{}: a paged call is causal, whole and FlashAttention-3", kind)};
                          }
                          if (a.causal && !a.q_positions && !a.kv_positions && a.q_rows > a.kv_rows) {
                            throw std::invalid_argument{
                                fmt::format("{}: {} causal q rows need at least as many kv rows, not {}",
                                            kind, a.q_rows, a.kv_rows)};
                          }
                        },
                        [&](const AttentionDecode& a) {
                          positive("batch", a.batch);
                          positive("context", a.context);
                          if (a.paged && a.partial)
                            throw std::invalid_argument{fmt::format("{}: a paged call is not partial", kind)};
                          check_heads(kind, a.heads, a.kv_heads, a.head_dim);
                        },
                        [&](const Merge& m) {
                          positive("rows", m.rows);
                          positive("heads", m.heads);
                          positive("head_dim", m.head_dim);
                          positive("parts", m.parts);
                        },
                        [&](const Norm& n) {
                          positive("rows", n.rows);
                          positive("width", n.width);
                        },
                        [&](const Rope& r) {
                          positive("rows", r.rows);
                          check_heads(kind, r.heads, r.kv_heads, r.head_dim);
                        },
                        [&](const Activation& a) {
                          positive("rows", a.rows);
                          positive("width", a.width);
                        },
                        [&](const Softmax& s) {
                          positive("rows", s.rows);
                          positive("width", s.width);
                        },
                        [&](const Copy& c) { positive("bytes", c.bytes); },
                        [&](const Embedding& e) {
                          positive("rows", e.rows);
                          positive("width", e.width);
                        }},
             op);
}

}  // namespace tessera::models
