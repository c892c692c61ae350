#include "kernels/latent/latent.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/attention_paged/small_kernels.hpp"
#include "kernels/attention_prefill/flash3.hpp"
#include "kernels/latent/cache_write.hpp"
#include "kernels/latent/latent_flash.hpp"
#include "kernels/latent/padded_flash2.hpp"
#include "kernels/latent/triton_decode.hpp"

namespace tessera::kernels {

namespace {

using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
std::uint64_t aligned(std::uint64_t address) { return (address + 4095) / 4096 * 4096; }

/// Whether FlashAttention-3 is what runs.
template <class Op>
bool flash3(const Op& op, const GpuSpec& gpu) {
  using enum models::LatentAlgorithm;
  if (op.algorithm == flash3 && !gpu.sm.has_tma) {
    throw std::invalid_argument{
        fmt::format("{}: algorithm fa3 needs a Hopper GPU, which {} is not", models::kind(op), gpu.name)};
  }
  return op.algorithm == by_gpu ? gpu.sm.has_tma : op.algorithm == flash3;
}

void require_program(std::string_view kind, models::Dtype dtype) {
  if (dtype != models::Dtype::bf16 && dtype != models::Dtype::fp16) {
    throw std::invalid_argument{
        fmt::format("{}: dtype {} has no tile program; use bf16 or fp16", kind, models::name_of(dtype))};
  }
}

/// Fewer packed rows are not scheduled as causal: a single row sees every key (hopper/flash_api.cpp).
bool keeps_mask(const models::LatentDecode& a) { return a.causal && a.q_rows > 1; }

// torch.cat of the two parts of the queries goes element by element, two offsets of three dimensions each
// (one is a transposed view of the batched product's result): as padded_flash2.cpp counts, with a dimension
// more.
constexpr std::uint64_t kConcatOps = 26 + 2 * 6 + 2;

/// A decode step as vLLM's TRITON_MLA backend has it. Not counted: its fills of the result with zeros.
Kernels make_triton_decode(const models::LatentDecode& a, const GpuSpec& gpu, const Addresses& addresses) {
  if (a.q_rows != 1) {
    throw std::invalid_argument{
        fmt::format("{}: Triton's kernel takes one query row a sequence, not {}: engines up-project a prompt "
                    "(form=naive)",
                    models::kind(a), a.q_rows)};
  }
  const auto& o = addresses.operands;
  const std::uint64_t e = u(models::bytes_of(a.dtype)), latent = u(a.latent) * e, rope = u(a.rope) * e,
                      rows = u(a.batch * a.heads),
                      pages = u((a.context + models::kPageRows - 1) / models::kPageRows);
  TritonLatentCall call{.batch = a.batch,
                        .context = a.context,
                        .heads = a.heads,
                        .latent = static_cast<std::uint32_t>(a.latent),
                        .rope = static_cast<std::uint32_t>(a.rope),
                        .element_bytes = static_cast<std::uint32_t>(e),
                        .q_latent = o.at(0),
                        .q_rope = o.at(1),
                        .q_latent_pitch = latent,
                        .q_rope_pitch = rope,
                        .cache = o.at(2),
                        .out = o.at(3),
                        .max_expsum = a.partial ? o.at(4) : 0,
                        .parts = addresses.workspace,
                        .splits = triton_splits(a.context, gpu.sms())};
  Kernels kernels;
  const std::uint64_t after = aligned(call.parts + call.parts_bytes());
  if (a.paged) {
    const std::uint64_t places = o.at(5), query = after;
    call.pages = places + u(a.batch) * 4;
    const PagedCall paged{.batch = a.batch,
                          .new_rows = 1,
                          .context = a.context,
                          .heads = a.heads,
                          .kv_heads = 1,
                          .head_dim = a.latent};
    kernels.push_back(std::make_unique<ConcatAndCache>(paged, static_cast<std::uint32_t>(latent + rope),
                                                       places, o.at(4), call.cache));
    StreamWork concat{.name = "concat queries",
                      .rows = static_cast<std::int64_t>(rows),
                      .in = {{call.q_latent, latent, latent}, {call.q_rope, rope, rope}},
                      .out = {{query, latent + rope, latent + rope}}};
    concat.per_row.integer = kConcatOps * u(a.latent + a.rope);
    concat.between_written = rows * (latent + rope);
    concat.operand_bytes = static_cast<std::int64_t>(rows * (latent + rope));
    kernels.push_back(std::make_unique<StreamKernel>(std::move(concat), gpu));
    call.q_between = true;
    call.q_latent = query;
    call.q_rope = query + latent;
    call.q_latent_pitch = call.q_rope_pitch = latent + rope;
  } else {
    call.pages = after;  // prepared by whoever calls, once for all layers
  }
  call.lengths = call.pages + u(a.batch) * pages * 4;
  kernels.push_back(std::make_unique<TritonLatentDecode>(call, gpu));
  kernels.push_back(std::make_unique<TritonLatentReduce>(call));
  return kernels;
}

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> make_latent_attention(const models::LatentAttention& a,
                                                                 const GpuSpec& gpu,
                                                                 const Addresses& addresses) {
  require_program(models::kind(a), a.dtype);
  const models::Attention scores = a.scores();
  for (const auto& [name, width] : {std::pair{"nope + rope", scores.head_dim}, {"value", a.value}}) {
    if (width > 256 || width % 8 != 0) {
      throw std::invalid_argument{
          fmt::format("{}: {} is {}, not a multiple of 8 up to 256", models::kind(a), name, width)};
    }
  }
  if (!flash3(a, gpu)) return make_padded_flash2(a, gpu, addresses);
  Kernels kernels;
  kernels.push_back(std::make_unique<Flash3>(scores, gpu, addresses, a.value));
  return kernels;
}

std::vector<std::unique_ptr<tile::Kernel>> make_latent_decode(const models::LatentDecode& a,
                                                              const GpuSpec& gpu,
                                                              const Addresses& addresses) {
  require_program(models::kind(a), a.dtype);
  if (a.latent > 512 || a.latent % 128 != 0 || a.rope > 64 || a.rope % 8 != 0) {
    throw std::invalid_argument{
        fmt::format("{}: latent must be a multiple of 128 up to 512, and rope of 8 up to 64, not {} and {}",
                    models::kind(a), a.latent, a.rope)};
  }
  if (!flash3(a, gpu)) return make_triton_decode(a, gpu, addresses);
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
