#include "kernels/linear_attention/state_pass.hpp"

#include <fmt/format.h>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kStateColumns = 32, kOutputColumns = 64, kKeyColumns = 64;

ShortCtaLaunch output_launch(const ChunkedCall& c, std::uint32_t slices) {
  const std::uint64_t k = c.head_tokens() * c.k_dim() * c.element(),
                      v = c.head_tokens() * c.v_dim() * c.element(),
                      states = c.head_chunks() * c.k_dim() * c.v_dim() * c.element(),
                      sums = c.head_tokens() * c.sums_per_token() * 4,
                      scores = c.vector_decay() ? c.head_tokens() * c.chunk() * c.element() : k;
  const std::uint64_t shared = k + sums + scores;  // by the slices
  return {.name = "chunk output",
          .ctas = c.head_chunks() * slices,
          .registers_per_thread = 128,
          .shared_bytes = std::int64_t{2} * c.chunk() * kKeyColumns * (2 * c.element() + 4),
          .load_bytes = shared * slices + states + v,
          .store_bytes = v,
          .reads = shared + states + v,
          .writes = v};
}

}  // namespace

std::int64_t state_registers(const ChunkedCall& c, std::uint32_t columns) {
  constexpr std::int64_t kThreads = 128, kPointers = 2 * 8;
  const std::int64_t state = std::int64_t{c.k_dim()} * columns / kThreads,
                     d = std::int64_t{c.chunk()} * columns / kThreads;
  return state + state / 2 + 2 * d + 2 * kPointers;
}

std::int64_t state_pass_shared_bytes(const ChunkedCall& c, std::uint32_t columns) {
  // W, K and U come in stages; the state and D are operands too.
  const std::int64_t e = c.element(), keys = std::int64_t{c.chunk()} * c.k_dim() * e,
                     stage = keys * (c.op.rule.delta ? 2 : 1) + std::int64_t{c.chunk()} * columns * e;
  // How many buffers the compiled kernel has is not published. With a decay of each channel three, which
  // leave one CTA to an SM, make calls of one chunk a sequence take as long as measured on an H200 (with two
  // they are a quarter too fast); otherwise two make them as long as published of an H20.
  const std::int64_t buffers = c.vector_decay() && c.k_dim() <= 128 ? 3 : 2;
  return stage * buffers + std::int64_t{c.k_dim() + c.chunk()} * columns * e;
}

StatePass::StatePass(const ChunkedCall& call, const GpuSpec& gpu)
    : call_{call},
      columns_{std::min(call.v_dim(), kStateColumns)},
      trips_{static_cast<std::uint32_t>(call.chunks_of_sequence())},
      wgmma_{gpu.sm.has_tma},
      chains_{gpu.sm} {
  const std::uint64_t slices = (call.v_dim() + columns_ - 1) / columns_;
  ctas_ = slices * call.heads() * static_cast<std::uint64_t>(call.op.batch);
  shape_.name = fmt::format("chunk state pass, {} columns", columns_);
  shape_.grid = static_cast<std::uint32_t>(ctas_);
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = std::int64_t{128} * state_registers(call, columns_);
  shape_.shared_bytes = state_pass_shared_bytes(call, columns_);
  shape_.trips = ctas_ * (trips_ - 1);
  shape_.even_trips = shape_.trips;
}

tile::Outline StatePass::outline() const {
  const std::uint64_t slices = ctas_ / call_.heads() / static_cast<std::uint64_t>(call_.op.batch);
  const std::uint64_t k = call_.head_tokens() * call_.k_dim() * call_.element(),
                      v = call_.head_tokens() * call_.v_dim() * call_.element(),
                      state = call_.heads() * static_cast<std::uint64_t>(call_.op.batch) * call_.k_dim() *
                              call_.v_dim() * 4,
                      states = call_.head_chunks() * call_.k_dim() * call_.v_dim() * call_.element();
  const std::uint64_t keys = k * (call_.op.rule.delta ? 2 : 1), first = call_.op.initial_state ? state : 0,
                      out = states + state + (call_.op.rule.delta ? v : 0);
  return {.pieces = {{ctas_, trips_}},
          .load_bytes = keys * slices + v + first,
          .store_bytes = out,
          .operand_bytes = 0,
          .between_read = keys + v + first,
          .between_written = out};
}

std::unique_ptr<tile::Kernel> StatePass::excerpt(std::uint32_t ctas, std::uint32_t,
                                                 std::uint32_t trips) const {
  auto e = std::make_unique<StatePass>(*this);
  e->trips_ = trips;
  e->call_.op.seq = std::int64_t{trips} * call_.op.chunk;
  e->shape_.grid = ctas;
  return e;
}

Program StatePass::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t chunk = call_.chunk(), k_dim = call_.k_dim(), v_dim = call_.v_dim(),
                      e = call_.element();
  const std::uint64_t slices = (v_dim + columns_ - 1) / columns_, index = cta.index % ctas_;
  const auto column = static_cast<std::uint32_t>(index % slices) * columns_;
  const std::uint32_t columns = std::min(columns_, v_dim - column);
  const std::uint64_t head = index / slices % call_.heads(), sequence = index / slices / call_.heads();
  const auto seq = static_cast<std::uint64_t>(call_.op.seq);
  const bool delta = call_.op.rule.delta;
  const std::uint64_t state_values = std::uint64_t{k_dim} * columns,
                      d_values = std::uint64_t{chunk} * columns;
  const auto rows_of = [&](std::uint32_t i) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(chunk, seq - std::uint64_t{i} * chunk));
  };
  const auto box = [&](std::uint64_t base, std::uint32_t i, std::uint32_t width, std::uint32_t from,
                       std::uint32_t n) {
    return head_box(call_, base, sequence * seq + std::uint64_t{i} * chunk, rows_of(i), head, width, from, n,
                    e);
  };
  // States are stored value channel by value channel: a slice is whole rows.
  const auto state_box = [&](std::uint64_t base, std::uint64_t number, std::uint32_t bytes) {
    return Box{base + ((number * call_.heads() + head) * v_dim + column) * k_dim * bytes, columns,
               k_dim * bytes, std::uint64_t{k_dim} * bytes};
  };
  const std::uint64_t keys = call_.op.rule.delta && call_.vector_decay() ? call_.kg : call_.k;

  if (co_await tile::item(trips_ - 1) != 0) co_return;
  co_await tile::load({call_.state, 1, 8, 0});  // which tokens, and which state
  co_await tile::load_wait();
  if (call_.op.initial_state) {
    co_await tile::load(state_box(call_.state, sequence, 4));
    co_await tile::load_wait();
    co_await tile::compute({.fma = state_values});
  }
  if (delta) co_await tile::load(box(call_.w, 0, k_dim, 0, k_dim));
  co_await tile::load(box(keys, 0, k_dim, 0, k_dim));
  co_await tile::load(box(delta ? call_.u : call_.v, 0, v_dim, column, columns));
  for (std::uint32_t i = 0; i < trips_; ++i) {
    // W, K and U of the next chunk are on their way: they stand for those of the chunk gone on with.
    if (i + 1 < trips_) i += static_cast<std::uint32_t>(co_await tile::trip(trips_ - 1 - i));
    // The state in bf16: to global memory, and to shared memory as the product's operand, each in its own
    // layout.
    co_await tile::compute({.convert = state_values / 2});
    co_await tile::shared_store(state_values * e);
    co_await tile::chain(chains_.exchange());
    co_await tile::shared_load(state_values * e);
    co_await tile::store(state_box(call_.states, sequence * call_.chunks_of_sequence() + i, e));
    co_await tile::load_wait(0);  // W, K and U of this chunk
    if (i + 1 < trips_) {
      if (delta) co_await tile::load(box(call_.w, i + 1, k_dim, 0, k_dim));
      co_await tile::load(box(keys, i + 1, k_dim, 0, k_dim));
      co_await tile::load(box(delta ? call_.u : call_.v, i + 1, v_dim, column, columns));
    }
    if (delta) {
      for (std::uint32_t from = 0; from < k_dim; from += kKeyColumns) {
        const std::uint32_t depth = std::min(kKeyColumns, k_dim - from);
        co_await tile::shared_store(std::uint64_t{depth} * columns * e);
        co_await tile::chain(chains_.exchange());
        if (wgmma_) {
          co_await tile::wgmma(chunk, columns, depth);
          co_await tile::wgmma_wait(0);
        } else {
          co_await tile::mma(chunk, columns, depth);
        }
      }
    }
    // D in the layout of U (or V).
    co_await tile::shared_store(d_values * 4);
    co_await tile::chain(chains_.exchange());
    co_await tile::shared_load(d_values * 4);
    co_await tile::compute({.fma = d_values, .integer = d_values / 2, .convert = d_values / 2});
    if (delta) co_await tile::store(box(call_.d, i, v_dim, column, columns));
    // The chunk's whole decay: another load that waits; then the state times it.
    if (call_.sums_per_token() > 0) {
      const std::uint64_t last = sequence * seq + std::uint64_t{i} * chunk + rows_of(i) - 1;
      co_await tile::load(
          head_box(call_, call_.sums, last, 1, head, call_.sums_per_token(), 0, call_.sums_per_token(), 4));
      if (!call_.vector_decay())
        co_await tile::load(head_box(call_, call_.sums, sequence * seq + std::uint64_t{i} * chunk, rows_of(i),
                                     head, 1, 0, 1, 4));
      co_await tile::load_wait();
      co_await tile::compute({.fma = state_values + (call_.vector_decay() ? 0 : d_values),
                              .mufu = k_dim + (call_.vector_decay() ? 0U : chunk)},
                             Chains::exponential() + Chains::alu(2));
    } else {
      co_await tile::compute({.fma = state_values + d_values});
    }
    co_await tile::shared_store(d_values * e);
    co_await tile::chain(chains_.exchange());
    // K^T D, 64 key channels at a time, each result turned round onto the state.
    for (std::uint32_t from = 0; from < k_dim; from += kKeyColumns) {
      const std::uint32_t height = std::min(kKeyColumns, k_dim - from);
      const std::uint64_t values = std::uint64_t{height} * columns;
      if (wgmma_) {
        co_await tile::wgmma(height, columns, chunk);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(height, columns, chunk);
      }
      co_await tile::shared_store(values * 4);
      co_await tile::chain(chains_.exchange());
      co_await tile::shared_load(values * 4);
      co_await tile::compute({.fma = values});
    }
  }
  co_await tile::store(state_box(call_.state_out, sequence, 4));
}

ChunkOutput::ChunkOutput(const ChunkedCall& call, const GpuSpec& gpu)
    : ShortCtas{output_launch(call, (call.v_dim() + kOutputColumns - 1) / kOutputColumns), gpu},
      call_{call},
      columns_{std::min(call.v_dim(), kOutputColumns)},
      slices_{(call.v_dim() + kOutputColumns - 1) / kOutputColumns},
      wgmma_{gpu.sm.has_tma} {}

Program ChunkOutput::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), chunk = call_.chunk(), k_dim = call_.k_dim(), v_dim = call_.v_dim(),
                      e = call_.element(), per_token = call_.sums_per_token();
  const bool own_scores = !call_.vector_decay();
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n);
    const HeadChunk at{call_, i / slices_};
    const auto column = static_cast<std::uint32_t>(i % slices_) * columns_;
    const std::uint32_t columns = std::min(columns_, v_dim - column);
    const auto box = [&](std::uint64_t base, std::uint32_t width, std::uint32_t from, std::uint32_t wide,
                         std::uint32_t bytes) {
      return head_box(call_, base, at.token, at.rows, at.head, width, from, wide, bytes);
    };
    co_await tile::load({call_.q, 1, 8, 0});  // which chunk of which sequence,
    co_await tile::load_wait();
    co_await tile::load({call_.q, 1, 8, 0});  // and where that begins and ends
    co_await tile::load_wait();
    // The loads of both k steps are on their way at once (num_stages).
    const std::uint32_t steps = (k_dim + kKeyColumns - 1) / kKeyColumns;
    const std::uint32_t loads = 2 + (per_token == k_dim ? 1 : 0) + (own_scores ? 1 : 0);
    for (std::uint32_t s = 0; s < steps; ++s) {
      const std::uint32_t from = s * kKeyColumns, wide = std::min(kKeyColumns, k_dim - from);
      co_await tile::load(box(call_.q, k_dim, from, wide, e));
      if (per_token == k_dim) co_await tile::load(box(call_.sums, k_dim, from, wide, 4));
      if (own_scores) co_await tile::load(box(call_.k, k_dim, from, wide, e));
      co_await tile::load(
          {call_.states + (((at.chunk * call_.heads() + at.head) * v_dim + column) * k_dim + from) * e,
           columns, wide * e, std::uint64_t{k_dim} * e});
    }
    for (std::uint32_t s = 0; s < steps; ++s) {
      const std::uint32_t wide = std::min(kKeyColumns, k_dim - s * kKeyColumns);
      const std::uint64_t values = std::uint64_t{chunk} * wide;
      co_await tile::load_wait((steps - 1 - s) * loads);
      co_await tile::compute(
          {.fma = 2 * values, .integer = values, .mufu = per_token == k_dim ? values : 0, .convert = values},
          Chains::exponential() + Chains::alu(4));
      co_await tile::shared_store(values * e);
      co_await tile::chain(chains().exchange());
      if (wgmma_) {
        co_await tile::wgmma(chunk, columns + (own_scores ? chunk : 0), wide);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(chunk, columns + (own_scores ? chunk : 0), wide);
      }
    }
    const std::uint64_t scores = std::uint64_t{chunk} * chunk, values = std::uint64_t{chunk} * columns;
    co_await tile::load(box(call_.op.rule.delta ? call_.d : call_.v, v_dim, column, columns, e));
    if (own_scores && per_token == 1)
      co_await tile::load(box(call_.sums, 1, 0, 1, 4));
    else if (!own_scores)
      co_await tile::load(box(call_.scores, chunk, 0, chunk, e));
    co_await tile::load_wait();
    // The mask; scores of its own also take the decay between their tokens.
    co_await tile::compute({.fma = own_scores ? 2 * scores : 0,
                            .integer = 2 * scores,
                            .mufu = own_scores ? scores : 0,
                            .convert = scores / 2});
    co_await tile::shared_store(scores * e);
    co_await tile::chain(chains().exchange());
    if (wgmma_) {
      co_await tile::wgmma(chunk, columns, chunk);
      co_await tile::wgmma_wait(0);
    } else {
      co_await tile::mma(chunk, columns, chunk);
    }
    co_await tile::compute({.convert = values / 2});
    co_await tile::shared_store(values * e);
    co_await tile::chain(chains().exchange());
    co_await tile::shared_load(values * e);
    co_await tile::store(box(call_.out, v_dim, column, columns, e));
  }
}

}  // namespace tessera::kernels
