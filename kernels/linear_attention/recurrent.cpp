#include "kernels/linear_attention/recurrent.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kSliceColumns = 32;
// A slice of the state is 128 values a thread, and so is the slice that follows from it.
constexpr std::uint32_t kMostRegisters = 255;
/// The gate: bias, e^A, sigmoid, bound, exponential. The lengths of q and k: a thread's squares, their sum
/// over the lanes, root, division.
constexpr std::uint64_t kGateDepth = Chains::alu(3) + Chains::sigmoid() + Chains::exponential();
constexpr std::uint64_t kNormDepth =
    Chains::alu(4) + Chains::lane_sum(32) + kMufuLatency + Chains::alu(5) + Chains::division();
/// A product of the state: a thread's four values of a column, then over the lanes.
constexpr std::uint64_t kSumDepth = Chains::alu(4) + Chains::lane_sum(32);

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

std::uint64_t slices(const models::LinearDecode& op) {
  return (u(op.v_dim) + kSliceColumns - 1) / kSliceColumns;
}
std::uint64_t warp_ctas(const models::LinearDecode& op) { return u(op.batch * op.heads) * slices(op); }

ShortCtaLaunch step_launch(const models::LinearDecode& op, std::uint32_t warps) {
  const std::uint64_t e = u(models::bytes_of(op.dtype)), state = u(op.batch) * u(models::state_bytes(op));
  const std::uint64_t tokens = u(op.batch * op.tokens * op.heads);
  const std::uint64_t inputs = tokens * (3 * u(op.k_dim) * slices(op) + u(op.v_dim)) * e;
  const bool verify = op.form == models::DecodeForm::verify;
  const std::uint64_t out = state * (verify ? u(op.tokens) : 1) + tokens * u(op.v_dim) * e;
  return {.name = verify ? "recurrent verify" : "recurrent decode",
          .ctas = (warp_ctas(op) + warps - 1) / warps,
          .warps = warps,
          .registers_per_thread = kMostRegisters,
          .load_bytes = state + inputs,
          .store_bytes = out};
}

DecodeAddresses place(const models::LinearDecode& op, const Addresses& addresses) {
  DecodeAddresses at;
  const std::vector<models::Operand> operands = models::operands(op);
  for (std::size_t i = 0; i < operands.size(); ++i) {
    for (const auto& [role, to] : {std::pair{"q", &at.q},
                                   {"k", &at.k},
                                   {"v", &at.v},
                                   {"decay", &at.decay},
                                   {"strength", &at.strength},
                                   {"state", &at.state},
                                   {"out", &at.out},
                                   {"state_out", &at.state_out},
                                   {"states", &at.states},
                                   {"conv_weights", &at.conv_weights},
                                   {"conv_state", &at.conv_state},
                                   {"conv_state_out", &at.conv_state_out},
                                   {"gate", &at.gate}})
      if (operands[i].role == role) *to = addresses.operands.at(i);
  }
  return at;
}

}  // namespace

RecurrentStep::RecurrentStep(const models::LinearDecode& op, const GpuSpec& gpu, const Addresses& addresses)
    : ShortCtas{step_launch(op, side_by_side(warp_ctas(op), gpu)), gpu},
      op_{op},
      at_{place(op, addresses)},
      warps_{side_by_side(warp_ctas(op), gpu)},
      warp_exchange_{Chains{gpu.sm}.warp_exchange()} {}

Program RecurrentStep::program(tile::Cta cta, std::uint32_t) const {
  const std::uint64_t v = at_.v, state = at_.state, out = at_.out, state_out = at_.state_out,
                      states = at_.states;
  const std::uint32_t count = trips(cta), e = static_cast<std::uint32_t>(models::bytes_of(op_.dtype)),
                      k_dim = static_cast<std::uint32_t>(op_.k_dim),
                      v_dim = static_cast<std::uint32_t>(op_.v_dim);
  const std::uint64_t per_head = slices(op_), heads = u(op_.heads), tokens = u(op_.tokens);
  const models::Recurrence& rule = op_.rule;
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    // The slices of a head lie side by side in memory: those that run side by side are runs of heads and
    // slices.
    const std::uint64_t first = number(cta, n) * warps_,
                        last = std::min<std::uint64_t>(first + warps_, warp_ctas(op_));
    const auto columns_from = [&](std::uint64_t slice) {
      return slice / per_head * v_dim + std::min<std::uint64_t>(slice % per_head * kSliceColumns, v_dim);
    };
    const std::uint64_t rows = columns_from(last) - columns_from(first);
    const auto state_rows = [&](std::uint64_t base, std::uint64_t row, std::uint64_t number_of) {
      return Box{base + row * k_dim * 4, static_cast<std::uint32_t>(number_of), k_dim * 4,
                 std::uint64_t{k_dim} * 4};
    };
    const std::uint64_t values = rows * k_dim;
    const std::uint64_t first_head = first / per_head, last_head = (last - 1) / per_head;
    const auto head_count = static_cast<std::uint32_t>(last_head - first_head + 1);
    const std::uint64_t sequence = first_head / heads;

    co_await tile::load({state, 1, 4, 0});  // which state
    co_await tile::load_wait();
    for (std::uint64_t row = columns_from(first); row < columns_from(last); row += kSliceColumns)
      co_await tile::load(
          state_rows(state, row, std::min<std::uint64_t>(kSliceColumns, columns_from(last) - row)));
    for (std::uint64_t t = 0; t < tokens; ++t) {
      const std::uint64_t token = sequence * tokens + t, head = first_head % heads;
      const auto inputs = [&](std::uint64_t base, std::uint32_t width) {
        return Box{base + (token * heads + head) * width * e, 1, head_count * width * e, 0};
      };
      co_await tile::load(inputs(at_.q, k_dim));
      co_await tile::load(inputs(at_.k, k_dim));
      co_await tile::load({v + ((token * heads) * v_dim + columns_from(first) - sequence * heads * v_dim) * e,
                           1, static_cast<std::uint32_t>(rows) * e, 0});
      if (rule.decay == models::Decay::vector)
        co_await tile::load(inputs(at_.decay, k_dim));
      else if (rule.decay == models::Decay::scalar)
        co_await tile::load(inputs(at_.decay, 1));
      if (rule.strength) co_await tile::load(inputs(at_.strength, 1));
      co_await tile::load_wait();
      // The gate (exponential, logarithm or sigmoid, exponential) and the lengths of q and k: sums over the
      // lanes.
      const std::uint64_t small = std::uint64_t{warps_} * k_dim;
      co_await tile::compute({.fma = 12 * small,
                              .integer = 4 * small,
                              .mufu = (rule.decay == models::Decay::vector ? 4 : 1) * small,
                              .shuffle = rule.normalised ? std::uint64_t{2} * 5 * 32 * warps_ : 0},
                             kGateDepth + (rule.normalised ? kNormDepth : 0));
      // Decay, S^T k, the update, S^T q: a product each; the sums over key channels cross the lanes.
      const std::uint64_t sums = rule.delta ? 2 : 1;
      // v comes to every lane, and what is put out to one each, through shared memory.
      co_await tile::compute(
          {.fma = (rule.delta ? 4 : 3) * values + 5 * sums * rows * 32, .shuffle = 5 * sums * rows * 32},
          kSumDepth * sums + 2 * warp_exchange_);
      co_await tile::store(
          {out + ((token * heads) * v_dim + columns_from(first) - sequence * heads * v_dim) * e, 1,
           static_cast<std::uint32_t>(rows) * e, 0});
      if (op_.form == models::DecodeForm::verify) {
        // Every 16 B have an address of their own, of a base that changes from token to token: the offset, a
        // 64-bit sum, and whether row and column are there.
        co_await tile::compute({.integer = values / 4 * 5});
        const std::uint64_t within = columns_from(first) - sequence * heads * v_dim;
        for (std::uint64_t row = 0; row < rows; row += kSliceColumns)
          co_await tile::store(state_rows(states, token * heads * v_dim + within + row,
                                          std::min<std::uint64_t>(kSliceColumns, rows - row)));
      }
    }
    if (op_.form != models::DecodeForm::verify)
      for (std::uint64_t row = columns_from(first); row < columns_from(last); row += kSliceColumns)
        co_await tile::store(
            state_rows(state_out, row, std::min<std::uint64_t>(kSliceColumns, columns_from(last) - row)));
  }
}

FusedDecode::FusedDecode(const models::LinearDecode& op, const GpuSpec& gpu, const Addresses& addresses)
    : op_{op}, at_{place(op, addresses)}, chains_{gpu.sm} {
  if (!gpu.sm.has_tma)
    throw std::invalid_argument{fmt::format("{}: form=fused needs a Hopper GPU", models::kind(op))};
  const auto chunks = static_cast<int>(slices(op));
  shape_.name = "fused decode";
  shape_.grid = static_cast<std::uint32_t>(op.batch * op.heads);
  shape_.roles = {{"warps", 8}};
  shape_.registers_per_cta = 256 * 128;
  shape_.shared_bytes = op.k_dim * op.v_dim * 4 + 4096;
  for (int i = 0; i < chunks; ++i) shape_.barriers.push_back({"state", 1, i});
}

tile::Outline FusedDecode::outline() const {
  std::uint64_t in = 0, out = 0;
  for (const models::Operand& o : models::operands(op_)) (o.written ? out : in) += u(o.bytes);
  return {.pieces = {{shape_.grid, 1}}, .load_bytes = in, .store_bytes = out};
}

std::unique_ptr<tile::Kernel> FusedDecode::excerpt(std::uint32_t ctas, std::uint32_t, std::uint32_t) const {
  auto e = std::make_unique<FusedDecode>(*this);
  e->shape_.grid = ctas;
  return e;
}

Program FusedDecode::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t e = static_cast<std::uint32_t>(models::bytes_of(op_.dtype)),
                      k_dim = static_cast<std::uint32_t>(op_.k_dim),
                      v_dim = static_cast<std::uint32_t>(op_.v_dim);
  const std::uint64_t heads = u(op_.heads), sequence = cta.index / heads, head = cta.index % heads;
  const std::uint64_t state = at_.state + std::uint64_t{cta.index} * v_dim * k_dim * 4,
                      state_out = at_.state_out + std::uint64_t{cta.index} * v_dim * k_dim * 4;
  const auto chunks = static_cast<std::uint32_t>(slices(op_));
  const auto row = [&](std::uint64_t base, std::uint32_t width) {
    return Box{base + std::uint64_t{cta.index} * width * e, 1, width * e, 0};
  };
  co_await tile::load({state, 1, 4, 0});  // which state
  co_await tile::load_wait();
  for (std::uint32_t i = 0; i < chunks; ++i) {
    const std::uint32_t rows = std::min(kSliceColumns, v_dim - i * kSliceColumns);
    co_await tile::expect(static_cast<std::uint8_t>(i), std::uint64_t{rows} * k_dim * 4);
    co_await tile::tma_load(Box{state + std::uint64_t{i} * kSliceColumns * k_dim * 4, 1, rows * k_dim * 4, 0},
                            static_cast<std::uint8_t>(i));
  }
  // The three convolutions: new inputs, those kept, the weights; the gates.
  const Box kept{at_.conv_state + (sequence * 9 * heads + head) * k_dim * e, 9, k_dim * e, heads * k_dim * e};
  const Box kept_out{at_.conv_state_out + (sequence * 9 * heads + head) * k_dim * e, 9, k_dim * e,
                     heads * k_dim * e};
  co_await tile::load(row(at_.q, k_dim));
  co_await tile::load(row(at_.k, k_dim));
  co_await tile::load(row(at_.v, v_dim));
  co_await tile::load(kept);
  co_await tile::load({at_.conv_weights + head * k_dim * 4, 12, k_dim * 4, heads * k_dim * 4});
  co_await tile::load(row(at_.decay, k_dim));
  co_await tile::load(row(at_.strength, 1));
  co_await tile::load_wait();
  const std::uint64_t small = std::uint64_t{3} * k_dim;
  co_await tile::compute({.fma = 12 * small, .integer = 4 * small, .mufu = 3 * small, .convert = small},
                         kGateDepth);
  co_await tile::store(kept_out);
  // The lengths of q and k over the whole CTA: two shuffled sums and two barriers.
  co_await tile::compute({.fma = 4 * small, .mufu = 4, .shuffle = std::uint64_t{2} * 5 * 256}, kNormDepth);
  co_await tile::chain(4 * chains_.exchange());
  for (std::uint32_t i = 0; i < chunks; ++i) {
    const std::uint32_t rows = std::min(kSliceColumns, v_dim - i * kSliceColumns);
    const std::uint64_t values = std::uint64_t{rows} * k_dim;
    co_await tile::wait(static_cast<std::uint8_t>(i), 0);
    co_await tile::shared_load(values * 4);
    co_await tile::compute(
        {.fma = 4 * values + 2 * 5 * rows * 32, .shuffle = std::uint64_t{2} * 5 * rows * 32}, 2 * kSumDepth);
    co_await tile::store(
        Box{state_out + std::uint64_t{i} * kSliceColumns * k_dim * 4, 1, rows * k_dim * 4, 0});
  }
  co_await tile::load(row(at_.gate, v_dim));
  co_await tile::load_wait();
  co_await tile::compute(
      {.fma = 12 * std::uint64_t{v_dim}, .mufu = 3 * std::uint64_t{v_dim}, .shuffle = 5 * 256},
      kNormDepth + Chains::sigmoid());
  co_await tile::chain(2 * chains_.exchange());
  co_await tile::store(row(at_.out, v_dim));
}

}  // namespace tessera::kernels
