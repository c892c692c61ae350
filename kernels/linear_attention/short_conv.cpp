#include "kernels/linear_attention/short_conv.hpp"

#include <bit>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kBlockTokens = 8, kBlockChannels = 256;
// Of two channels each: four weights, three inputs, a sum; four pointers of 64 bits, as many indices and
// masks.
constexpr std::uint32_t kRegisters = 2 * (4 + 3 + 1) + 2 * 4 + 8;
// Of a thread, which has two channels side by side: a pointer of 64 bits to an access (a multiplication on
// the FP32 pipe, an addition and its carry), its bound and its unpacking or selection.
constexpr std::uint64_t kPointerFma = 1, kPointerInteger = 4;
/// From a token's loaded channels to the next token's address: the last tap's unpacking, product, rounding,
/// unpacking and addition; SiLU; rounding and bound; the address; the branch.
constexpr std::uint64_t kTokenDepth =
    Chains::alu(5) + Chains::exponential() + Chains::alu(1) + Chains::division() + Chains::alu(2 + 4 + 3);

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

std::uint64_t blocks_of_sequence(const models::CausalConv1d& op) {
  return (u(op.seq) + kBlockTokens - 1) / kBlockTokens;
}
std::uint64_t channel_blocks(std::uint64_t channels) {
  return (channels + kBlockChannels - 1) / kBlockChannels;
}

/// A token's products and SiLU, counted in the machine code that follows from Triton's: a tap unpacks its
/// input, multiplies, rounds the product to bf16, unpacks it and adds; e^-x takes four operations and a MUFU,
/// the division six and a MUFU. `accesses` to memory of each channel come to it.
tile::Vector token_work(const models::CausalConv1d& op, std::uint64_t channels, std::uint64_t half_accesses) {
  const std::uint64_t taps = u(op.taps);
  return {.fma = channels * (2 * taps + 8) + channels * half_accesses * kPointerFma / 2,
          .integer = channels * (2 * taps + 5) + channels * half_accesses * kPointerInteger / 2,
          .mufu = 2 * channels,
          .convert = channels * (taps + 1),
          .shuffle = 0};
}

// In halves, as two channels share one: the input and the output, and twice as much for the loop.
constexpr std::uint64_t kTokenAccesses = 2 + 2;
/// The kept inputs one by one, then as a tile of a power of two of rows, the new input as such a tile, that
/// tile stored, the input and the output: two channels at a time. The weights' taps lie side by side, so that
/// every channel loads each of its own.
std::uint64_t update_accesses(const models::CausalConv1d& op) {
  const std::uint64_t tile_rows = std::bit_ceil(u(op.taps - 1));
  return u(op.taps - 1) + 3 * tile_rows + 2 + 2 * u(op.taps);
}

ShortCtaLaunch conv_launch(const models::CausalConv1d& op) {
  const std::uint64_t e = u(models::bytes_of(op.dtype)), x = u(op.batch * op.seq * op.channels) * e,
                      state = u(op.batch * op.channels * (op.taps - 1)) * e;
  return {.name = "causal conv1d",
          .ctas = u(op.batch) * blocks_of_sequence(op) * channel_blocks(u(op.channels)),
          .registers_per_thread = kRegisters,
          .load_bytes = x + x * u(op.taps - 1) / kBlockTokens,
          .store_bytes = x + state};
}

ShortCtaLaunch update_launch(const models::CausalConv1d& op) {
  const std::uint64_t e = u(models::bytes_of(op.dtype)), all = u(op.convs * op.channels),
                      x = u(op.batch * op.seq) * all * e;
  return {.name = "causal conv1d update",
          .ctas = u(op.batch * op.seq) * channel_blocks(all),
          .registers_per_thread = kRegisters,
          .load_bytes = x * u(op.taps + 1),
          .store_bytes = x * u(op.taps)};
}

}  // namespace

ShortConv::ShortConv(const models::CausalConv1d& op, std::uint32_t stream, const GpuSpec& gpu,
                     const Addresses& addresses)
    : ShortCtas{conv_launch(op), gpu}, op_{op}, stream_{stream}, at_{addresses} {}

Program ShortConv::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), e = static_cast<std::uint32_t>(models::bytes_of(op_.dtype));
  const std::uint64_t channels = u(op_.channels), pitch = u(op_.convs) * channels * e, seq = u(op_.seq),
                      before = u(op_.taps - 1);
  const std::uint64_t x = at_.operands.at(0), weight = at_.operands.at(1), out = at_.operands.at(2),
                      state = at_.operands.at(3);
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    // The grid is (sequences, blocks of tokens, blocks of channels): sequences vary fastest.
    const std::uint64_t i = number(cta, n), sequence = i % u(op_.batch),
                        block = i / u(op_.batch) % blocks_of_sequence(op_),
                        channel = i / u(op_.batch) / blocks_of_sequence(op_) * kBlockChannels;
    const std::uint64_t first = block * kBlockTokens;
    const auto tokens = static_cast<std::uint32_t>(std::min<std::uint64_t>(kBlockTokens, seq - first));
    const auto wide = static_cast<std::uint32_t>(std::min<std::uint64_t>(kBlockChannels, channels - channel));
    const std::uint64_t offset = (stream_ * channels + channel) * e;
    const auto rows = [&](std::uint64_t base, std::uint64_t from, std::uint64_t number_of) {
      return Box{base + (sequence * seq + from) * pitch + offset, static_cast<std::uint32_t>(number_of),
                 wide * e, pitch};
    };
    // Where the sequence lies, then which state is its own, and in its first block whether there is one: of
    // tables that are in the L1 once a CTA has been here.
    for (const std::uint32_t bytes : {8U, 4U, 1U}) {
      if (bytes == 1 && block > 0) break;
      if (n > 0) {
        co_await tile::chain(chains().l1);
      } else {
        co_await tile::load({x, 1, bytes, 0});
        co_await tile::load_wait();
      }
    }
    // The last inputs become the next state; then they are in the L1.
    const std::uint64_t kept = block > 0 ? seq : seq - std::min(before, seq);
    if (block > 0) {
      co_await tile::load(rows(x, first - before, before));
    } else {
      co_await tile::load(rows(x, seq - std::min(before, seq), std::min(before, seq)));
      co_await tile::load_wait();
      co_await tile::chain(chains().barrier + Chains::alu(4));
      co_await tile::store(
          {state + sequence * before * pitch + offset, static_cast<std::uint32_t>(before), wide * e, pitch});
    }
    co_await tile::load({weight + (stream_ * channels + channel) * u(op_.taps) * e, 1,
                         wide * static_cast<std::uint32_t>(op_.taps) * e, 0});
    for (std::uint32_t t = 0; t < tokens; ++t) {
      if (first + t < kept) {
        co_await tile::load(rows(x, first + t, 1));
        co_await tile::load_wait();
      } else {
        co_await tile::load_wait();
        co_await tile::l1_load(wide * e);
      }
      co_await tile::compute(token_work(op_, wide, kTokenAccesses), kTokenDepth);
      co_await tile::store(rows(out, first + t, 1));
    }
  }
}

ShortConvUpdate::ShortConvUpdate(const models::CausalConv1d& op, const GpuSpec& gpu,
                                 const Addresses& addresses)
    : ShortCtas{update_launch(op), gpu}, op_{op}, at_{addresses} {}

Program ShortConvUpdate::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), e = static_cast<std::uint32_t>(models::bytes_of(op_.dtype));
  const std::uint64_t all = u(op_.convs * op_.channels), pitch = all * e, rows = u(op_.batch * op_.seq),
                      before = u(op_.taps - 1);
  const std::uint64_t x = at_.operands.at(0), weight = at_.operands.at(1), state = at_.operands.at(2),
                      out = at_.operands.at(3), state_out = at_.operands.at(4);
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n), row = i % rows, channel = i / rows * kBlockChannels,
                        slot = row / u(op_.seq);
    const auto wide = static_cast<std::uint32_t>(std::min<std::uint64_t>(kBlockChannels, all - channel));
    const auto box = [&](std::uint64_t base, std::uint64_t from, std::uint64_t number_of) {
      return Box{base + from * pitch + channel * e, static_cast<std::uint32_t>(number_of), wide * e, pitch};
    };
    co_await tile::load({state, 1, 4, 0});  // which state is the token's own
    co_await tile::load_wait();
    co_await tile::load(box(state, slot * before, before));
    co_await tile::load(box(state, slot * before + 1, before - 1));  // once more, shifted
    co_await tile::load(box(x, row, 1));
    co_await tile::load_wait();
    co_await tile::chain(chains().barrier + Chains::alu(4));  // tl.debug_barrier
    co_await tile::store(box(state_out, slot * before, before));
    co_await tile::load(
        {weight + channel * u(op_.taps) * e, 1, wide * static_cast<std::uint32_t>(op_.taps) * e, 0});
    co_await tile::load(box(x, row, 1));
    co_await tile::load_wait();
    co_await tile::compute(token_work(op_, wide, update_accesses(op_)), kTokenDepth);
    co_await tile::store(box(out, row, 1));
  }
}

}  // namespace tessera::kernels
