#include "kernels/attention_paged/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/attention_decode/splits.hpp"
#include "kernels/attention_prefill/softmax_cost.hpp"

namespace tessera::kernels {

namespace {

constexpr std::int64_t kOneCtaSequences = 992;  // 32 warps of 31
constexpr std::int64_t kL2Share = 8 << 20;      // of K and V that the order of tiles is chosen for

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

void choose_splits(PagedSchedule& s, const PagedCall& call, std::int64_t sms) {
  s.overlapped = call.batch <= kOneCtaSequences;
  const std::int64_t query_tiles = ceil_div(call.new_rows * call.group(), s.tile_q);
  s.query_tiles = static_cast<std::uint32_t>(query_tiles);

  // The host knows lengths only as bounds: it decides as if there were one sequence (hopper/heuristics.h),
  // whose length is a whole number of pages.
  const std::int64_t longest = call.pages() * models::kPageRows;
  const std::int64_t most_kv_tiles = ceil_div(longest, s.tile_kv), tiles = call.kv_heads * query_tiles;
  if (static_cast<double>(tiles) < 0.8 * static_cast<double>(sms) && most_kv_tiles > 4) {
    s.most_splits = fewest_good_splits(tiles, sms, std::min<std::int64_t>({128, sms, most_kv_tiles}));
  }
  // On the GPU: as many key tiles per split as make the work 1.1 times what one wave of CTAs does.
  const std::int64_t kv_tiles = ceil_div(call.context, s.tile_kv);
  if (s.most_splits > 1 && s.overlapped) {
    const double work = static_cast<double>(call.batch * query_tiles * kv_tiles * call.kv_heads);
    const auto per_cta = static_cast<std::int64_t>(std::ceil(1.1 * work / static_cast<double>(sms)));
    s.splits =
        static_cast<std::uint32_t>(std::clamp<std::int64_t>(ceil_div(kv_tiles, per_cta), 1, s.most_splits));
  }
}

PagedSchedule schedule_of(const PagedCall& call, std::int64_t sms) {
  PagedSchedule s;
  // hopper/tile_size.h and heuristics.h, bf16, keys not through TMA. Few rows are left to one warpgroup.
  const bool few =
      call.new_rows * call.group() <= kWarpgroupRows && (call.head_dim == 64 || call.head_dim == 128);
  if (few) {
    s.tile_q = kWarpgroupRows, s.tile_kv = call.head_dim == 64 ? 192 : 128;
  } else if (call.head_dim <= 64) {
    s.tile_q = 192, s.tile_kv = call.causal ? 128 : 160, s.p_in_registers = call.causal;
  } else if (call.head_dim <= 96) {
    s.tile_q = 192, s.tile_kv = 128, s.p_in_registers = false;
  } else if (call.head_dim <= 128) {
    s.tile_q = 128, s.tile_kv = 128;
  } else if (call.head_dim <= 192) {
    s.tile_q = 128, s.tile_kv = 96;
  } else {
    s.tile_q = 128, s.tile_kv = 80;
  }
  s.longest_first = call.causal;
  choose_splits(s, call, sms);
  const std::int64_t kv_tiles = ceil_div(call.context, s.tile_kv);
  const std::int64_t tiles_in_l2 = kL2Share / (2 * s.tile_kv * call.head_dim * call.element_bytes);
  const std::int64_t head_tiles = ceil_div(kv_tiles, s.splits);
  s.heads_in_l2 = 16;
  while (s.heads_in_l2 > 1 && head_tiles * s.heads_in_l2 > tiles_in_l2) s.heads_in_l2 /= 2;
  s.heads_in_l2 = std::min(s.heads_in_l2, static_cast<std::uint32_t>(call.kv_heads));
  return s;
}

}  // namespace tessera::kernels
