#include "kernels/linear_attention/short_conv.hpp"

#include <fmt/format.h>

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

constexpr std::uint32_t kBlockTokens = 8, kBlockChannels = 256;
// From a token's loaded channels to its stored ones: products rounded to bf16 and summed tap by tap, SiLU
// with an IEEE division, and addresses in 64 bits, all in one chain of dependent instructions.
constexpr std::uint64_t kTokenDepth = 160;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }

std::uint64_t blocks_of_sequence(const models::CausalConv1d& op) {
  return (u(op.seq) + kBlockTokens - 1) / kBlockTokens;
}
std::uint64_t channel_blocks(std::uint64_t channels) {
  return (channels + kBlockChannels - 1) / kBlockChannels;
}

tile::Vector token_work(const models::CausalConv1d& op, std::uint64_t channels) {
  const std::uint64_t taps = u(op.taps);
  return {.fma = channels * (taps + 10),
          .integer = channels * 4,
          .mufu = 2 * channels,
          .convert = channels * (taps + 1) / 2,
          .shuffle = 0};
}

ShortCtaLaunch conv_launch(const models::CausalConv1d& op) {
  const std::uint64_t e = u(models::bytes_of(op.dtype)), x = u(op.batch * op.seq * op.channels) * e,
                      state = u(op.batch * op.channels * (op.taps - 1)) * e;
  return {.name = "causal conv1d",
          .ctas = u(op.batch) * blocks_of_sequence(op) * channel_blocks(u(op.channels)),
          .registers_per_thread = 40,
          .load_bytes = x + x * u(op.taps - 1) / kBlockTokens,
          .store_bytes = x + state,
          .key = fmt::format("short conv {} {} {}", op.seq, op.channels, op.taps)};
}

ShortCtaLaunch update_launch(const models::CausalConv1d& op) {
  const std::uint64_t e = u(models::bytes_of(op.dtype)), all = u(op.convs * op.channels),
                      x = u(op.batch * op.seq) * all * e;
  return {.name = "causal conv1d update",
          .ctas = u(op.batch * op.seq) * channel_blocks(all),
          .registers_per_thread = 40,
          .load_bytes = x * u(op.taps + 1),
          .store_bytes = x * u(op.taps),
          .key = fmt::format("short conv update {} {} {}", op.seq, all, op.taps)};
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
    // Where the sequence lies, then which state is its own.
    co_await tile::load({x, 1, 8, 0});
    co_await tile::load_wait();
    co_await tile::load({x, 1, 4, 0});
    co_await tile::load_wait();
    if (block > 0) {
      co_await tile::load(rows(x, first - before, before));
    } else {
      // Whether there is a state; the last inputs become the next one.
      co_await tile::load({x, 1, 1, 0});
      co_await tile::load_wait();
      co_await tile::load(rows(x, seq - std::min(before, seq), std::min(before, seq)));
      co_await tile::load_wait();
      co_await tile::chain(60);
      co_await tile::store(
          {state + sequence * before * pitch + offset, static_cast<std::uint32_t>(before), wide * e, pitch});
    }
    co_await tile::load({weight + (stream_ * channels + channel) * u(op_.taps) * e, 1,
                         wide * static_cast<std::uint32_t>(op_.taps) * e, 0});
    for (std::uint32_t t = 0; t < tokens; ++t) {
      co_await tile::load(rows(x, first + t, 1));
      co_await tile::load_wait();
      co_await tile::compute(token_work(op_, wide), kTokenDepth);
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
    co_await tile::chain(60);  // tl.debug_barrier
    co_await tile::store(box(state_out, slot * before, before));
    co_await tile::load(
        {weight + channel * u(op_.taps) * e, 1, wide * static_cast<std::uint32_t>(op_.taps) * e, 0});
    co_await tile::load(box(x, row, 1));
    co_await tile::load_wait();
    co_await tile::compute(token_work(op_, wide), kTokenDepth);
    co_await tile::store(box(out, row, 1));
  }
}

}  // namespace tessera::kernels
