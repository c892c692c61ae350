#include "kernels/linear_attention/segments.hpp"

#include "kernels/linear_attention/state_pass.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kColumns = 32, kKeyColumns = 64;  // BLOCK_SIZE and BV; rows of the state in a product
constexpr std::uint32_t kTf32 = 2;                        // a product in tf32 takes twice as long as in bf16

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

std::uint32_t slices(std::int64_t v_dim) {
  return (static_cast<std::uint32_t>(v_dim) + kColumns - 1) / kColumns;
}

ShortCtaLaunch scan_launch(const models::StateScan& op) {
  const std::uint64_t each = u(op.batch * op.heads), slice_count = slices(op.v_dim);
  const std::uint64_t p = u(op.k_dim * op.k_dim) * 4, s = u(op.k_dim * op.v_dim) * 4;
  const std::uint64_t products = u(op.initial_state ? op.maps : op.maps - 1);
  return {.name = "merge of state maps",
          .ctas = each * slice_count,
          .registers_per_thread = 168,
          .shared_bytes = op.k_dim * (op.k_dim + kColumns) * 4,
          .load_bytes = each * (products * p * slice_count + u(op.maps + (op.initial_state ? 1 : 0)) * s),
          .store_bytes = each * s};
}

}  // namespace

MapPass::MapPass(const ChunkedCall& call, std::uint64_t map, const GpuSpec& gpu)
    : call_{call},
      map_{map},
      trips_{static_cast<std::uint32_t>(call.chunks_of_sequence())},
      wgmma_{gpu.sm.has_tma},
      chains_{gpu.sm} {
  ctas_ = blocks() * call.heads() * u(call.op.batch);
  shape_.name = "segment map";
  shape_.grid = static_cast<std::uint32_t>(ctas_);
  shape_.roles = {{"warps", 4}};
  shape_.registers_per_cta = std::int64_t{128} * state_registers(call, kColumns);
  // Two stages of W and K, and P's factor in fp32 on its way from one product to the other.
  shape_.shared_bytes = std::int64_t{4} * call.chunk() * call.k_dim() * call.element();
  shape_.trips = ctas_ * (trips_ - 1);
  shape_.even_trips = shape_.trips;
}

std::uint32_t MapPass::blocks_of(std::uint32_t width) const { return (width + kColumns - 1) / kColumns; }

tile::Outline MapPass::outline() const {
  const std::uint64_t of_head = call_.head_tokens() * call_.element(), keys = 2 * of_head * call_.k_dim(),
                      values = of_head * call_.v_dim();
  const std::uint64_t map =
      u(call_.op.batch * models::map_bytes(call_.op.heads, call_.op.k_dim, call_.op.v_dim));
  return {.pieces = {{ctas_, trips_}},
          .load_bytes = keys * blocks() + values,
          .store_bytes = map,
          .operand_bytes = 0,
          .between_read = keys + values,
          .between_written = 0};
}

std::unique_ptr<tile::Kernel> MapPass::excerpt(std::uint32_t ctas, std::uint32_t, std::uint32_t trips) const {
  auto e = std::make_unique<MapPass>(*this);
  e->trips_ = trips;
  e->call_.op.seq = std::int64_t{trips} * call_.op.chunk;
  e->shape_.grid = ctas;
  return e;
}

std::uint32_t MapPass::rows_of(std::uint32_t chunk) const {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(call_.chunk(), u(call_.op.seq) - std::uint64_t{chunk} * call_.chunk()));
}

Box MapPass::rows(std::uint64_t base, std::uint64_t sequence, std::uint64_t head, std::uint32_t chunk,
                  std::uint32_t width, std::uint32_t column, std::uint32_t columns) const {
  return head_box(call_, base, sequence * u(call_.op.seq) + std::uint64_t{chunk} * call_.chunk(),
                  rows_of(chunk), head, width, column, columns, call_.element());
}

Box MapPass::last_sums(std::uint64_t sequence, std::uint64_t head, std::uint32_t chunk) const {
  const std::uint32_t n = call_.sums_per_token();
  return head_box(call_, call_.sums,
                  sequence * u(call_.op.seq) + std::uint64_t{chunk} * call_.chunk() + rows_of(chunk) - 1, 1,
                  head, n, 0, n, 4);
}

Box MapPass::map_box(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const {
  // Stored column by column.
  const std::uint64_t width = call_.k_dim() + call_.v_dim(), k_bytes = std::uint64_t{call_.k_dim()} * 4;
  const std::uint32_t end = column < call_.v_dim() ? call_.v_dim() : call_.v_dim() + call_.k_dim();
  return {map_ + ((sequence * call_.heads() + head) * width + column) * k_bytes,
          std::min(kColumns, end - column), static_cast<std::uint32_t>(k_bytes), k_bytes};
}

Program MapPass::program(tile::Cta cta, std::uint32_t) const {
  // Columns of P and of Q in turn, as long as there are both: an excerpt of few CTAs has both kinds too.
  const std::uint32_t of_p = blocks_of(call_.k_dim()), of_q = blocks_of(call_.v_dim());
  const std::uint64_t index = cta.index % ctas_;
  const auto block = static_cast<std::uint32_t>(index % blocks());
  const std::uint64_t head = index / blocks() % call_.heads(), sequence = index / blocks() / call_.heads();
  const std::uint32_t both = 2 * std::min(of_p, of_q), rest = block - std::min(block, both);
  const bool p = block < both ? block % 2 == 0 : of_p > of_q;
  const std::uint32_t number = block < both ? block / 2 : both / 2 + rest;
  return p ? columns_of_p(sequence, head, number * kColumns)
           : columns_of_q(sequence, head, number * kColumns);
}

Program MapPass::columns_of_p(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const {
  const std::uint32_t k_dim = call_.k_dim(), chunk = call_.chunk();
  const std::uint32_t columns = std::min(kColumns, k_dim - column);
  const std::uint64_t factor = std::uint64_t{k_dim} * k_dim, values = std::uint64_t{k_dim} * columns;
  const std::uint64_t keys = call_.vector_decay() ? call_.kg : call_.k;
  if (co_await tile::item(trips_ - 1) != 0) co_return;
  co_await tile::load({call_.w, 1, 8, 0});  // which tokens
  co_await tile::load_wait();
  co_await tile::load(rows(keys, sequence, head, 0, k_dim, 0, k_dim));
  co_await tile::load(rows(call_.w, sequence, head, 0, k_dim, 0, k_dim));
  for (std::uint32_t i = 0; i < trips_; ++i) {
    if (i + 1 < trips_) i += static_cast<std::uint32_t>(co_await tile::trip(trips_ - 1 - i));
    co_await tile::load_wait(0);
    if (i + 1 < trips_) {
      co_await tile::load(rows(keys, sequence, head, i + 1, k_dim, 0, k_dim));
      co_await tile::load(rows(call_.w, sequence, head, i + 1, k_dim, 0, k_dim));
    }
    // K^T W, all of it; then the decay on its diagonal less it, as the next product's operand.
    for (std::uint32_t from = 0; from < k_dim; from += kKeyColumns) {
      const std::uint32_t height = std::min(kKeyColumns, k_dim - from);
      if (wgmma_) {
        co_await tile::wgmma(height, k_dim, chunk);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(height, k_dim, chunk);
      }
    }
    co_await tile::load(last_sums(sequence, head, i));
    co_await tile::load_wait(0);
    co_await tile::compute({.fma = factor, .integer = factor, .mufu = k_dim},
                           Chains::exponential() + Chains::alu(2));
    co_await tile::shared_store(factor * 4);
    co_await tile::shared_store(values * 4);
    co_await tile::chain(chains_.exchange());
    for (std::uint32_t from = 0; from < k_dim; from += kKeyColumns) {
      const std::uint32_t height = std::min(kKeyColumns, k_dim - from);
      if (wgmma_) {
        co_await tile::wgmma(height, columns, kTf32 * k_dim);
        co_await tile::wgmma_wait(0);
      } else {
        co_await tile::mma(height, columns, kTf32 * k_dim);
      }
    }
  }
  co_await tile::store(map_box(sequence, head, call_.v_dim() + column));
}

Program MapPass::columns_of_q(std::uint64_t sequence, std::uint64_t head, std::uint32_t column) const {
  const std::uint32_t k_dim = call_.k_dim(), v_dim = call_.v_dim(), chunk = call_.chunk(),
                      e = call_.element();
  const std::uint32_t columns = std::min(kColumns, v_dim - column);
  const std::uint64_t state_values = std::uint64_t{k_dim} * columns,
                      d_values = std::uint64_t{chunk} * columns;
  const std::uint64_t keys = call_.vector_decay() ? call_.kg : call_.k;
  if (co_await tile::item(trips_ - 1) != 0) co_return;
  co_await tile::load({call_.w, 1, 8, 0});
  co_await tile::load_wait();
  co_await tile::load(rows(call_.w, sequence, head, 0, k_dim, 0, k_dim));
  co_await tile::load(rows(keys, sequence, head, 0, k_dim, 0, k_dim));
  co_await tile::load(rows(call_.u, sequence, head, 0, v_dim, column, columns));
  for (std::uint32_t i = 0; i < trips_; ++i) {
    if (i + 1 < trips_) i += static_cast<std::uint32_t>(co_await tile::trip(trips_ - 1 - i));
    co_await tile::load_wait(0);
    if (i + 1 < trips_) {
      co_await tile::load(rows(call_.w, sequence, head, i + 1, k_dim, 0, k_dim));
      co_await tile::load(rows(keys, sequence, head, i + 1, k_dim, 0, k_dim));
      co_await tile::load(rows(call_.u, sequence, head, i + 1, v_dim, column, columns));
    }
    co_await tile::compute({.convert = state_values / 2});
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
    // D in the layout of U; the state times the chunk's whole decay.
    co_await tile::shared_store(d_values * 4);
    co_await tile::chain(chains_.exchange());
    co_await tile::shared_load(d_values * 4);
    co_await tile::compute({.fma = d_values, .convert = d_values / 2});
    co_await tile::load(last_sums(sequence, head, i));
    co_await tile::load_wait(0);
    co_await tile::compute({.fma = state_values, .mufu = k_dim}, Chains::exponential() + Chains::alu(2));
    co_await tile::shared_store(d_values * e);
    co_await tile::chain(chains_.exchange());
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
  co_await tile::store(map_box(sequence, head, column));
}

ScanKernel::ScanKernel(const models::StateScan& op, const GpuSpec& gpu, const Addresses& addresses)
    : ShortCtas{scan_launch(op), gpu},
      op_{op},
      maps_{addresses.operands.at(0)},
      state_{addresses.operands.at(1)},
      out_{addresses.operands.back()} {}

Program ScanKernel::program(tile::Cta cta, std::uint32_t) const {
  const auto k_dim = static_cast<std::uint32_t>(op_.k_dim), v_dim = static_cast<std::uint32_t>(op_.v_dim);
  const std::uint64_t each = slices(op_.v_dim), heads = u(op_.heads), all = u(op_.batch) * heads,
                      column_bytes = std::uint64_t{k_dim} * 4;
  const std::uint32_t count = trips(cta);
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n), head = i / each;
    const auto column = static_cast<std::uint32_t>(i % each) * kColumns;
    const std::uint32_t columns = std::min(kColumns, v_dim - column);
    const auto state_box = [&](std::uint64_t base, std::uint64_t width, std::uint64_t from, std::uint64_t of,
                               std::uint32_t many) {
      return Box{base + (of * width + from) * column_bytes, many, static_cast<std::uint32_t>(column_bytes),
                 column_bytes};
    };
    const std::uint64_t width = std::uint64_t{k_dim} + v_dim, values = std::uint64_t{k_dim} * columns;
    if (op_.initial_state) {
      co_await tile::load(state_box(state_, v_dim, column, head, columns));
      co_await tile::load_wait(0);
    }
    for (std::int64_t m = 0; m < op_.maps; ++m) {
      const std::uint64_t map = u(m) * all + head;
      co_await tile::load(state_box(maps_, width, column, map, columns));
      if (m > 0 || op_.initial_state) {
        co_await tile::load(state_box(maps_, width, v_dim, map, k_dim));
        co_await tile::load_wait(0);
        co_await tile::shared_store((std::uint64_t{k_dim} * k_dim + values) * 4);
        co_await tile::chain(chains().exchange());
        co_await tile::mma(k_dim, columns, kTf32 * k_dim);
      }
      co_await tile::load_wait(0);
      co_await tile::compute({.fma = values});
    }
    co_await tile::store(state_box(out_, v_dim, column, head, columns));
  }
}

}  // namespace tessera::kernels
