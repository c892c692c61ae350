#include "kernels/attention_paged/call.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/attention_paged/paged_flash.hpp"
#include "kernels/attention_paged/small_kernels.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

namespace {

// Where SGLang cannot build its store_cache kernel, it assigns by index, first k, then v (memory_pool.py,
// _set_kv_buffer_impl), each after making the places 64-bit numbers. inferred: that it is so with heads of
// 192, where every measured call takes 6 to 9 us more than with 128 or 256, whatever else it does.
constexpr std::int64_t kIndexedHeadDim = 192;

StreamWork widen_places(const PagedCall& call, const PagedAddresses& at) {
  const auto places = static_cast<std::uint64_t>(call.batch * call.new_rows);
  StreamWork work{.name = "places to 64 bits", .rows = 1};
  work.in = {{at.places, places * 4, places * 4}};
  work.out = {{at.statistics, places * 8, places * 8}};
  return work;
}

StreamWork indexed_write(const PagedCall& call, std::uint64_t from, std::uint64_t to) {
  const auto row = static_cast<std::uint64_t>(call.kv_heads * call.head_dim * call.element_bytes);
  const std::uint64_t bytes = static_cast<std::uint64_t>(call.new_rows) * row;
  StreamWork work{.name = "indexed kv cache write", .rows = call.batch};
  work.in = {{from, bytes, bytes}};
  work.out = {{to + static_cast<std::uint64_t>(call.context - call.new_rows) * row, bytes,
               static_cast<std::uint64_t>(call.context) * row}};
  return work;
}

std::vector<std::unique_ptr<tile::Kernel>> kernels_of(const PagedCall& call, models::Dtype dtype,
                                                      const GpuSpec& gpu, const Addresses& addresses) {
  if (!gpu.sm.has_tma) {
    throw std::invalid_argument{"attention through a paged cache: FlashAttention-3 needs a Hopper GPU"};
  }
  if (dtype != models::Dtype::bf16 && dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("attention through a paged cache: dtype {} has no tile program; use bf16 or fp16",
                    models::name_of(dtype))};
  }
  if (call.head_dim > 256 || call.head_dim % 8 != 0) {
    throw std::invalid_argument{fmt::format(
        "attention through a paged cache: head_dim {} is not a multiple of 8 up to 256", call.head_dim)};
  }
  const auto& o = addresses.operands;
  const PagedSchedule schedule = schedule_of(call, gpu.sms());
  PagedAddresses at{.q = o.at(0),
                    .k_new = o.at(1),
                    .v_new = o.at(2),
                    .k_cache = o.at(3),
                    .v_cache = o.at(4),
                    .out = o.at(6)};
  const auto batch = static_cast<std::uint64_t>(call.batch);
  at.places = o.at(5);
  at.pages = at.places + batch * static_cast<std::uint64_t>(call.new_rows) * 4;
  at.lengths = at.pages + batch * static_cast<std::uint64_t>(call.pages()) * 4;
  at.schedule = at.lengths + batch * 16;
  at.statistics = addresses.workspace;
  const auto rows = static_cast<std::uint64_t>(call.batch * call.new_rows * call.heads);
  at.partials = (at.statistics + rows * schedule.splits * 4 + 4095) / 4096 * 4096;

  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  if (call.head_dim == kIndexedHeadDim) {
    for (const auto& [from, to] : {std::pair{at.k_new, at.k_cache}, {at.v_new, at.v_cache}}) {
      kernels.push_back(std::make_unique<StreamKernel>(widen_places(call, at), gpu));
      kernels.push_back(std::make_unique<StreamKernel>(indexed_write(call, from, to), gpu));
    }
  } else {
    kernels.push_back(std::make_unique<CacheWrite>(call, at));
  }
  kernels.push_back(std::make_unique<ScheduleKernel>(call, at));
  kernels.push_back(std::make_unique<PagedFlash>(call, schedule, gpu, at));
  if (schedule.splits > 1) {
    kernels.push_back(std::make_unique<StreamKernel>(combine_work(call, schedule.splits, at), gpu));
  } else if (schedule.most_splits > 1) {
    kernels.push_back(std::make_unique<NothingToCombine>(call, at));
  }
  return kernels;
}

/// A single row sees every key: for most head sizes the kernel without a mask is taken
/// (hopper/flash_api.cpp).
bool keeps_mask(bool causal, std::int64_t rows, std::int64_t head_dim) {
  return causal && (rows > 1 || (head_dim > 64 && head_dim <= 128));
}

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_paged_attention(const models::Attention& a,
                                                                const GpuSpec& gpu,
                                                                const Addresses& addresses) {
  const PagedCall call{.batch = a.batch,
                       .new_rows = a.q_rows,
                       .context = a.kv_rows,
                       .heads = a.heads,
                       .kv_heads = a.kv_heads,
                       .head_dim = a.head_dim,
                       .causal = keeps_mask(a.causal, a.q_rows, a.head_dim),
                       .element_bytes = models::bytes_of(a.dtype)};
  return kernels_of(call, a.dtype, gpu, addresses);
}

std::vector<std::unique_ptr<tile::Kernel>> make_paged_decode(const models::AttentionDecode& a,
                                                             const GpuSpec& gpu, const Addresses& addresses) {
  const PagedCall call{.batch = a.batch,
                       .new_rows = 1,
                       .context = a.context,
                       .heads = a.heads,
                       .kv_heads = a.kv_heads,
                       .head_dim = a.head_dim,
                       .causal = keeps_mask(true, 1, a.head_dim),
                       .element_bytes = models::bytes_of(a.dtype)};
  return kernels_of(call, a.dtype, gpu, addresses);
}

}  // namespace tessera::kernels
