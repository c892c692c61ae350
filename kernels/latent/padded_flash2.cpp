#include "kernels/latent/padded_flash2.hpp"

#include <utility>

#include "kernels/attention_prefill/flash2.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

// PyTorch's copy between tensors of different strides goes element by element: two offsets of two dimensions
// each, by multiplications for divisions, 26 integer operations (as in experts/experts.cpp); bounds, 2.
constexpr std::uint64_t kStridedCopyOps = 26 + 2;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
std::uint64_t aligned(std::uint64_t address) { return (address + 4095) / 4096 * 4096; }

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_padded_flash2(const models::LatentAttention& a,
                                                              const GpuSpec& gpu,
                                                              const Addresses& addresses) {
  const models::Attention scores = a.scores();
  const std::uint64_t e = u(models::bytes_of(a.dtype)), wide = u(scores.head_dim) * e, value = u(a.value) * e;
  const std::int64_t q_rows = a.batch * a.q_rows * a.heads, kv_rows = a.batch * a.kv_rows * a.heads;
  const bool padded = value != wide;
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  Addresses at = addresses;
  if (!padded) {
    kernels.push_back(std::make_unique<Flash2>(scores, gpu, at));
    return kernels;
  }
  const auto add_stream = [&](StreamWork work) {
    kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
  };
  const std::uint64_t values = addresses.workspace, result = aligned(values + u(kv_rows) * wide);
  // constant_pad_nd fills all of the new tensor, then copies into a part of it.
  add_stream({.name = "pad values: zeros",
              .rows = 1,
              .out = {{values, u(kv_rows) * wide, u(kv_rows) * wide}},
              .between_written = u(kv_rows) * wide,
              .between = true});
  add_stream(
      {.name = "pad values: copy",
       .rows = kv_rows,
       .in = {{addresses.operands.at(2), value, value}},
       .out = {{values, value, wide}},
       .per_row = {.fma = 0, .integer = kStridedCopyOps * u(a.value), .mufu = 0, .convert = 0, .shuffle = 0},
       .between_written = u(kv_rows) * value,
       .operand_bytes = static_cast<std::int64_t>(u(kv_rows) * value)});
  at.operands.at(2) = values;
  at.operands.at(3) = result;
  kernels.push_back(std::make_unique<Flash2>(
      scores, gpu, at,
      FlashBetween{.operand_bytes = static_cast<std::int64_t>((u(q_rows) + u(kv_rows)) * wide),
                   .read = u(kv_rows) * wide,
                   .written = u(q_rows) * wide}));
  add_stream(
      {.name = "cut result",
       .rows = q_rows,
       .in = {{result, value, wide}},
       .out = {{addresses.operands.at(3), value, value}},
       .per_row = {.fma = 0, .integer = kStridedCopyOps * u(a.value), .mufu = 0, .convert = 0, .shuffle = 0},
       .between_read = u(q_rows) * value,
       .between = true});
  return kernels;
}

}  // namespace tessera::kernels
