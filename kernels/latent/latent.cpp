#include "kernels/latent/latent.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/attention_paged/small_kernels.hpp"
#include "kernels/attention_prefill/flash3.hpp"
#include "kernels/latent/cache_write.hpp"
#include "kernels/latent/latent_flash.hpp"

namespace tessera::kernels {

namespace {

void require_program(std::string_view kind, models::Dtype dtype, const GpuSpec& gpu) {
  if (!gpu.sm.has_tma)
    throw std::invalid_argument{fmt::format("{}: latent attention needs a Hopper GPU", kind)};
  if (dtype != models::Dtype::bf16 && dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("{}: dtype {} has no tile program; use bf16 or fp16", kind, models::name_of(dtype))};
  }
}

/// Fewer packed rows are not scheduled as causal: a single row sees every key (hopper/flash_api.cpp).
bool keeps_mask(const models::LatentDecode& a) { return a.causal && a.q_rows > 1; }

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_latent_attention(const models::LatentAttention& a,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses) {
  require_program(models::kind(a), a.dtype, gpu);
  const models::Attention scores = a.scores();
  for (const auto& [name, width] : {std::pair{"nope + rope", scores.head_dim}, {"value", a.value}}) {
    if (width > 256 || width % 8 != 0) {
      throw std::invalid_argument{
          fmt::format("{}: {} is {}, not a multiple of 8 up to 256", models::kind(a), name, width)};
    }
  }
  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  kernels.push_back(std::make_unique<Flash3>(scores, gpu, addresses, a.value));
  return kernels;
}

std::vector<std::unique_ptr<tile::Kernel>> make_latent_decode(const models::LatentDecode& a,
                                                              const GpuSpec& gpu,
                                                              const Addresses& addresses) {
  require_program(models::kind(a), a.dtype, gpu);
  if (a.latent > 512 || a.latent % 128 != 0 || a.rope > 64 || a.rope % 8 != 0) {
    throw std::invalid_argument{
        fmt::format("{}: latent must be a multiple of 128 up to 512, and rope of 8 up to 64, not {} and {}",
                    models::kind(a), a.latent, a.rope)};
  }
  const auto& o = addresses.operands;
  LatentCall call{.call = {.batch = a.batch,
                           .new_rows = a.q_rows,
                           .context = a.context,
                           .heads = a.heads,
                           .kv_heads = 1,
                           .head_dim = a.latent,
                           .causal = keeps_mask(a),
                           .element_bytes = models::bytes_of(a.dtype)},
                  .rope = static_cast<std::uint32_t>(a.rope),
                  .q_latent = o.at(0),
                  .q_rope = o.at(1),
                  .cache = o.at(2),
                  .out = o.at(3)};
  PagedSchedule schedule = latent_schedule_of(call.call, gpu.sms());
  const auto batch = static_cast<std::uint64_t>(a.batch),
             rows = static_cast<std::uint64_t>(a.batch * a.q_rows * a.heads),
             pages = static_cast<std::uint64_t>(call.call.pages());
  const auto aligned = [](std::uint64_t address) { return (address + 4095) / 4096 * 4096; };
  call.statistics = addresses.workspace;
  call.partials = aligned(call.statistics + rows * schedule.splits * 4);
  std::uint64_t places = 0;
  if (a.paged) {
    places = o.at(5);
    call.pages = places + batch * static_cast<std::uint64_t>(a.q_rows) * 4;
  } else {
    // Whoever calls has prepared the tables, once for all layers.
    schedule.overlapped = false;
    call.pages = aligned(call.partials + rows * schedule.splits * static_cast<std::uint64_t>(a.latent) * 4);
  }
  call.lengths = call.pages + batch * pages * 4;
  call.schedule = call.lengths + batch * 16;
  if (a.partial) call.max_expsum = o.at(4);

  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  const PagedAddresses at{.out = call.out,
                          .lengths = call.lengths,
                          .schedule = call.schedule,
                          .partials = call.partials,
                          .statistics = call.statistics};
  if (a.paged) {
    const auto row_bytes = static_cast<std::uint32_t>((a.latent + a.rope) * models::bytes_of(a.dtype));
    kernels.push_back(std::make_unique<LatentCacheWrite>(call.call, row_bytes, places, o.at(4), call.cache));
    kernels.push_back(std::make_unique<ScheduleKernel>(call.call, at));
  }
  kernels.push_back(std::make_unique<LatentFlash>(call, schedule, gpu));
  if (schedule.splits > 1) {
    StreamWork combine = combine_work(call.call, schedule.splits, at);
    if (a.partial) combine.out.push_back({call.max_expsum, 8, 8});
    kernels.push_back(std::make_unique<StreamKernel>(std::move(combine), gpu));
  } else if (schedule.most_splits > 1) {
    kernels.push_back(std::make_unique<NothingToCombine>(call.call, at));
  }
  return kernels;
}

}  // namespace tessera::kernels
