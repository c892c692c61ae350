// The five steps of moba_efficient.py (MoonshotAI/MoBA, flash-attn 2.6.3), with GQA expanded, as the kernels
// that PyTorch launches. Left out: kernels over a few KB (cumulative lengths and the like), some twenty, and
// what the host computes.

#include <algorithm>
#include <numeric>

#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/block_sparse/block_sparse.hpp"
#include "kernels/block_sparse/torch_kernels.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

/// An array in the workspace.
struct Array {
  std::uint64_t address = 0;
  double element_bytes = 0;
};

class FiveStep {
 public:
  FiveStep(const models::Moba& op, const GpuSpec& gpu, const Addresses& at)
      : op_{op}, gpu_{gpu}, at_{at}, next_{at.workspace} {}

  std::vector<std::unique_ptr<tile::Kernel>> kernels() {
    const std::int64_t e = models::bytes_of(op_.dtype);
    const std::int64_t tokens = op_.batch * op_.seq, heads = op_.heads, d = op_.head_dim;
    const std::int64_t width = heads * d, elements = tokens * width;
    const auto n = static_cast<std::int64_t>(models::rows_per_block(op_.seq, op_.block).size());
    const std::int64_t filtered = op_.batch * (n - 1), past_rows = filtered * op_.block;
    const std::int64_t taken = std::min(op_.topk - 1, filtered);
    if (taken <= 0) {  // plain causal attention
      models::Attention whole{.batch = op_.batch,
                              .q_rows = op_.seq,
                              .kv_rows = op_.seq,
                              .heads = heads,
                              .kv_heads = op_.kv_heads,
                              .head_dim = d,
                              .causal = true,
                              .dtype = op_.dtype,
                              .flash_version = 2};
      kernels_.push_back(std::make_unique<Flash2>(whole, gpu_, at_));
      return std::move(kernels_);
    }
    const double b = static_cast<double>(e);

    // Key heads to query heads, then k and v side by side.
    const Array q{at_.operands[0], b};
    Array k{at_.operands[1], b}, v{at_.operands[2], b};
    if (op_.kv_heads != heads) {
      const double share = b * static_cast<double>(op_.kv_heads) / static_cast<double>(heads);
      const Array k_all = array(elements, b), v_all = array(elements, b);
      pass("repeat k", elements, {{k.address, share}}, {k_all});
      pass("repeat v", elements, {{v.address, share}}, {v_all});
      k = k_all;
      v = v_all;
    }
    const Array kv = array(elements, 2 * b), past_kv = array(past_rows * width, 2 * b);
    pass("stack k v", elements, {k, v}, {kv});
    move({.name = "index_select kv",
          .rows = u(past_rows),
          .row_bytes = static_cast<std::uint32_t>(2 * width * e),
          .element_bytes = static_cast<std::uint32_t>(e),
          .table_rows = u(tokens),
          .indices = index(past_rows, 4),
          .in = kv.address,
          .out = past_kv.address,
          .index_bytes = 4},
         elements * 2 * e, past_rows * width * 2 * e);

    // Block means; the gate in fp32.
    const Array means = array(filtered * width, 4), q32 = array(elements, 4),
                gate = array(filtered * tokens * heads, 4);
    pass("mean of blocks", past_rows * width, {past_kv},
         {{means.address, 4.0 / static_cast<double>(op_.block)}}, {.fma = 1});
    pass("q to fp32", elements, {q}, {q32});
    const std::int64_t scores = filtered * tokens * heads;
    kernels_.push_back(std::make_unique<SgemmKernel>(Sgemm{.m = u(filtered),
                                                           .n = u(tokens),
                                                           .k = static_cast<std::uint32_t>(d),
                                                           .batch = u(heads),
                                                           .a = means.address,
                                                           .b = q32.address,
                                                           .c = gate.address,
                                                           .between_read = u(elements * 4),
                                                           .between_written = u(scores * 4)},
                                                     gpu_));
    pass("q to bf16", elements, {q32}, {array(elements, b)});

    // Causal mask: [filtered, tokens], for all heads.
    const std::int64_t mask = filtered * tokens;
    const Array rows = array(mask, 4), early = array(mask, 1), beyond = array(mask, 1),
                either = array(mask, 1);
    pass("arange repeat", mask, {}, {rows});
    pass("row < block end", mask, {rows}, {early});
    pass("row >= sequence end", mask, {rows}, {beyond});
    pass("or", mask, {early, beyond}, {either});
    pass("masked_fill", scores, {gate, {either.address, 1.0 / static_cast<double>(heads)}}, {gate});

    // Top-k down the block dimension, as a mask.
    const Array values = array(taken * tokens * heads, 4), indices = array(taken * tokens * heads, 8);
    const Array infinite = array(scores, 1), open = array(scores, 1), chosen = array(scores, 1);
    kernels_.push_back(
        std::make_unique<StridedTopKKernel>(StridedTopK{.slices = u(tokens * heads),
                                                        .slice = static_cast<std::uint32_t>(filtered),
                                                        .k = static_cast<std::uint32_t>(taken),
                                                        .pitch = u(tokens * heads * 4),
                                                        .in = gate.address,
                                                        .values = values.address,
                                                        .indices = indices.address,
                                                        .between_read = u(scores * 4),
                                                        .between_written = u(taken * tokens * heads * 12)},
                                            gpu_));
    // isinf is two kernels: |x|, and whether it equals infinity.
    const Array absolute = array(scores, 4);
    pass("abs", scores, {gate}, {absolute});
    pass("== infinity", scores, {absolute}, {infinite});
    pass("not", scores, {infinite}, {open});
    pass("zeros", scores, {}, {chosen});
    kernels_.push_back(
        std::make_unique<MaskScatterKernel>(MaskScatter{.indices = u(taken * tokens * heads),
                                                        .rows = static_cast<std::uint32_t>(filtered),
                                                        .pitch = u(tokens * heads),
                                                        .in = indices.address,
                                                        .out = chosen.address,
                                                        .between_read = u(taken * tokens * heads * 8),
                                                        .between_written = u(scores)},
                                            gpu_));
    pass("and", scores, {open, chosen}, {open});

    // Lists of queries by (block, head).
    std::int64_t pairs = 0;
    FlashVarlen past{.name = "flash2 varlen, selected",
                     .longest_q = op_.seq,
                     .head_dim = d,
                     .element_bytes = static_cast<std::uint32_t>(e)};
    std::vector<std::vector<models::BlockRows>> by_head;
    for (std::int64_t s = 0; s < op_.batch; ++s)
      for (std::int64_t h = 0; h < heads; ++h) by_head.push_back(models::block_rows(op_, s, h));
    for (std::int64_t s = 0; s < op_.batch; ++s) {
      for (std::int64_t i = 0; i + 1 < n; ++i) {
        for (std::int64_t h = 0; h < heads; ++h) {
          const std::int64_t routed = by_head[u(s * heads + h)][u(i)].routed;
          if (routed == 0) continue;  // cut off before the call
          past.sequences.push_back({.first_q = u(pairs),
                                    .first_kv = past.sequences.size() * u(op_.block),
                                    .q_rows = static_cast<std::uint32_t>(routed),
                                    .kv_rows = static_cast<std::uint32_t>(op_.block)});
          pairs += routed;
        }
      }
    }
    pass("count nonzero", scores, {open}, {});
    const Array flat = array(pairs, 8), pair = array(pairs, 16);
    pass("select nonzero", scores, {open},
         {{flat.address, 8.0 * static_cast<double>(pairs) / static_cast<double>(scores)}});
    pass("write indices", pairs, {flat}, {pair}, {.integer = 40});
    pass("sum", scores, {open}, {});
    Array q_by_head = q;
    if (heads > 1) {
      q_by_head = array(elements, b);
      pass("q by head", elements, {q}, {q_by_head});
    }
    const Array past_q = array(pairs * d, b);
    move({.name = "index_select q",
          .rows = u(pairs),
          .row_bytes = static_cast<std::uint32_t>(d * e),
          .element_bytes = static_cast<std::uint32_t>(e),
          .table_rows = u(tokens * heads),
          .indices = pair.address,
          .in = q_by_head.address,
          .out = past_q.address},
         // Rows of a block's list are spread over all later tokens: only what the L2 keeps is read once.
         pairs * (d * e + 8), pairs * d * e);
    const Array part = array(pairs, 8), whole = array(pairs, 8), place = array(pairs, 8);
    pass("index % rows", pairs, {pair}, {part}, {.integer = 40});
    pass("* heads", pairs, {part}, {part});
    pass("index // rows", pairs, {pair}, {whole}, {.integer = 40});
    pass("+", pairs, {part, whole}, {place});
    const Array by_block = array(past_rows * width, 2 * b);
    pass("kv by block", past_rows * width, {past_kv}, {by_block});

    // Both attentions.
    FlashVarlen self{.name = "flash2 varlen, own block",
                     .longest_q = op_.seq,
                     .heads = heads,
                     .kv_heads = heads,
                     .head_dim = d,
                     .causal = true,
                     .element_bytes = static_cast<std::uint32_t>(e)};
    for (std::int64_t s = 0, first = 0; s < op_.batch; ++s) {
      for (const std::int64_t rows_of_block : models::rows_per_block(op_.seq, op_.block)) {
        const auto size = static_cast<std::uint32_t>(rows_of_block);
        self.sequences.push_back({u(first), u(first), size, size});
        first += rows_of_block;
      }
    }
    const Array self_out = array(elements, b), self_lse = array(tokens * heads, 4);
    const Array past_out = array(pairs * d, b), past_lse = array(pairs, 4);
    self.q = q.address;
    self.k = k.address;
    self.v = v.address;
    self.out = self_out.address;
    self.lse = self_lse.address;
    self.between_written = u(elements * e);
    past.q = past_q.address;
    past.k = by_block.address;
    past.v = by_block.address + u(past_rows * width * e);
    past.out = past_out.address;
    past.lse = past_lse.address;
    past.between_read = u(pairs * d * e + past_rows * width * 2 * e);
    past.between_written = u(pairs * d * e);
    kernels_.push_back(std::make_unique<Flash2>(self, gpu_));
    if (!past.sequences.empty()) kernels_.push_back(std::make_unique<Flash2>(past, gpu_));

    // Merge, all in fp32.
    const Array sum = array(elements, 4), scaled = array(elements, 4), past_scaled = array(pairs * d, 4);
    const Array lse = array(tokens * heads, 4), past_weight = array(pairs, 4);
    const std::int64_t rows_and_heads = tokens * heads;
    pass("zeros", elements, {}, {sum});
    pass("index_reduce amax", pairs, {place, past_lse}, {{lse.address, 4}});
    pass("lse - max", rows_and_heads, {self_lse, lse}, {self_lse});
    pass("index_select max", pairs, {place, {lse.address, 4}}, {past_weight});
    pass("lse - max", pairs, {past_lse, past_weight}, {past_lse});
    pass("exp", rows_and_heads, {self_lse}, {lse}, {.mufu = 1});
    pass("exp", pairs, {past_lse}, {past_weight}, {.mufu = 1});
    pass("index_add exp", pairs, {place, past_weight}, {{lse.address, 4}});
    pass("log", rows_and_heads, {lse}, {lse}, {.mufu = 1});
    pass("factor", rows_and_heads, {self_lse, lse}, {self_lse}, {.mufu = 1});
    product("out * factor", rows_and_heads, self_out, self_lse, scaled);
    pass("+=", elements, {sum, scaled}, {sum}, {.fma = 1});
    pass("index_select lse", pairs, {place, {lse.address, 4}}, {past_weight});
    pass("factor", pairs, {past_lse, past_weight}, {past_weight}, {.mufu = 1});
    product("selected out * factor", pairs, past_out, past_weight, past_scaled);
    move({.name = "index_add out",
          .rows = u(pairs),
          .row_bytes = static_cast<std::uint32_t>(d * 4),
          .element_bytes = 4,
          .table_rows = u(rows_and_heads),
          .add = true,
          .indices = place.address,
          .in = past_scaled.address,
          .out = sum.address},
         pairs * (2 * d * 4 + 8), pairs * d * 4);
    pass("to bf16", elements, {sum}, {{at_.operands[3], b}});
    return std::move(kernels_);
  }

 private:
  Array array(std::int64_t elements, double element_bytes) {
    const Array a{next_, element_bytes};
    next_ += (static_cast<std::uint64_t>(static_cast<double>(elements) * element_bytes) + 4095) / 4096 * 4096;
    return a;
  }
  std::uint64_t index(std::int64_t count, int bytes) { return array(count, bytes).address; }

  /// One elementwise kernel over `elements`, in chunks of 1024.
  void pass(const char* name, std::int64_t elements, const std::vector<Array>& in,
            const std::vector<Array>& out, tile::Vector each = {}) {
    if (elements <= 0) return;
    // Operands end where they end; the workspace may be read and written to the end of the chunk.
    const bool whole = std::ranges::all_of(out, [&](const Array& a) { return a.address >= at_.workspace; });
    const std::int64_t chunk = whole ? std::min<std::int64_t>(1024, elements) : std::gcd(1024, elements);
    StreamWork w{.name = name, .rows = (elements + chunk - 1) / chunk, .whole_rows = true, .sampled = true};
    const auto last = static_cast<double>(chunk);
    const auto add = [&](const std::vector<Array>& from, std::vector<RowStream>& to, std::uint64_t& bytes) {
      for (const Array& a : from) {
        const auto row = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(a.element_bytes * last));
        to.push_back({a.address, row, row});
        if (a.address >= at_.workspace) bytes += row * u(w.rows);
      }
    };
    add(in, w.in, w.between_read);
    add(out, w.out, w.between_written);
    const auto of = [&](std::uint64_t n) { return n * static_cast<std::uint64_t>(last); };
    w.per_row = {of(each.fma), of(each.integer + 1), of(each.mufu), of(1) / 2, 0};
    kernels_.push_back(std::make_unique<StreamKernel>(std::move(w), gpu_));
  }

  void product(const char* name, std::int64_t rows, const Array& in, const Array& factors, const Array& out) {
    if (rows <= 0) return;
    const std::uint64_t elements = u(rows * op_.head_dim), e = u(models::bytes_of(op_.dtype));
    kernels_.push_back(
        std::make_unique<CastProductKernel>(CastProduct{.name = name,
                                                        .rows = u(rows),
                                                        .width = static_cast<std::uint32_t>(op_.head_dim),
                                                        .element_bytes = static_cast<std::uint32_t>(e),
                                                        .in = in.address,
                                                        .factors = factors.address,
                                                        .out = out.address,
                                                        .between_read = elements * e + u(rows) * 4,
                                                        .between_written = elements * 4},
                                            gpu_));
  }

  void move(RowMove m, std::int64_t read_bytes, std::int64_t written_bytes) {
    if (m.rows == 0) return;
    m.between_read = u(read_bytes);
    m.between_written = u(written_bytes);
    kernels_.push_back(std::make_unique<RowMoveKernel>(m, gpu_));
  }

  const models::Moba& op_;
  const GpuSpec& gpu_;
  const Addresses& at_;
  std::uint64_t next_;
  std::vector<std::unique_ptr<tile::Kernel>> kernels_;
};

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_five_step(const models::Moba& op, const GpuSpec& gpu,
                                                          const Addresses& addresses) {
  return FiveStep{op, gpu, addresses}.kernels();
}

}  // namespace tessera::kernels
