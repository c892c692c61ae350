#include "kernels/stream/stream.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::kernels {

using tile::Box;
using tile::Vector;

namespace {

constexpr std::uint32_t kWarps = 8;
constexpr std::uint64_t kPieceBytes = 4096;  // of the widest stream, per trip: 16 B per thread
constexpr std::uint32_t kLargestBox = 32768;
constexpr std::uint64_t kManyTrips = 128;  // of a CTA: then they may be passed over

Vector scaled(const Vector& v, double share) {
  const auto part = [share](std::uint64_t n) {
    return static_cast<std::uint64_t>(static_cast<double>(n) * share + 0.5);
  };
  return {part(v.fma), part(v.integer), part(v.mufu), part(v.convert), part(v.shuffle)};
}

std::uint64_t u(std::int64_t n) { return static_cast<std::uint64_t>(n); }
/// Unpacking bf16 pairs into fp32 is integer work, packing results a conversion: one each per pair.
std::uint64_t pairs(std::uint64_t elements) { return elements / 2; }

}  // namespace

StreamKernel::StreamKernel(StreamWork work, const GpuSpec& gpu) : work_{std::move(work)} {
  std::uint64_t widest = 1;
  for (const RowStream& s : work_.in) widest = std::max(widest, s.row_bytes);
  for (const RowStream& s : work_.out) widest = std::max(widest, s.row_bytes);
  if (!work_.whole_rows) pieces_ = static_cast<std::uint32_t>((widest + kPieceBytes - 1) / kPieceBytes);
  if (pieces_ == 1)
    rows_per_trip_ = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, kPieceBytes / widest));
  trips_ = (u(work_.rows) + rows_per_trip_ - 1) / rows_per_trip_ * pieces_;
  shape_.name = work_.name;
  shape_.roles = {{"threads", kWarps}};
  shape_.registers_per_cta = kWarps * 32 * 32;
  shape_.grid = static_cast<std::uint32_t>(std::min<std::uint64_t>(trips_, u(gpu.sms()) * 8));
  if (trips_ >= kManyTrips * shape_.grid) work_.sampled = true;
  if (work_.sampled) shape_.trips = shape_.even_trips = trips_ - shape_.grid;
}

tile::Outline StreamKernel::outline() const {
  const std::uint64_t least = trips_ / shape_.grid, more = trips_ % shape_.grid;
  tile::Outline o;
  if (more > 0) o.pieces.push_back({more, static_cast<std::uint32_t>(least + 1)});
  o.pieces.push_back({shape_.grid - more, static_cast<std::uint32_t>(least)});
  const Vector& v = work_.per_row;
  o.key = fmt::format("stream {} {} {} {} {} {} {} {} {} {}", pieces_, rows_per_trip_,
                      std::min<std::uint64_t>(rows_per_trip_, u(work_.rows)), v.fma, v.integer, v.mufu,
                      v.convert, v.shuffle, work_.once.row_bytes, work_.in.size());
  o.key += fmt::format(" {}", work_.once.address % tile::kLineBytes);
  o.load_bytes = work_.once.row_bytes * shape_.grid;
  const auto add = [&](const RowStream& s, std::uint64_t& bytes) {
    bytes += u(work_.rows) * s.row_bytes;
    // Where its rows lie in their lines, unless none can cross from one into the next.
    const bool within = pieces_ == 1 && s.row_bytes > 0 && tile::kLineBytes % s.row_bytes == 0 &&
                        s.address % s.row_bytes == 0 && s.pitch % s.row_bytes == 0;
    const std::uint64_t at = within ? 0 : s.address % tile::kLineBytes,
                        step = within ? 0 : s.pitch % tile::kLineBytes;
    for (const std::uint64_t n : {s.row_bytes, step, at})
      o.key.append(reinterpret_cast<const char*>(&n), sizeof n);
  };
  for (const RowStream& s : work_.in) add(s, o.load_bytes);
  for (const RowStream& s : work_.out) add(s, o.store_bytes);
  o.operand_bytes = work_.between ? 0 : work_.operand_bytes;
  o.between_read = work_.between_read;
  o.between_written = work_.between_written;
  return o;
}

std::unique_ptr<tile::Kernel> StreamKernel::excerpt(std::uint32_t ctas, std::uint32_t,
                                                    std::uint32_t trips) const {
  auto e = std::make_unique<StreamKernel>(*this);
  e->trips_ = std::uint64_t{trips} * ctas;
  e->work_.rows = static_cast<std::int64_t>((e->trips_ + pieces_ - 1) / pieces_ *
                                            std::min<std::uint64_t>(rows_per_trip_, u(work_.rows)));
  e->shape_.grid = ctas;
  return e;
}

tile::Program StreamKernel::program(tile::Cta cta, std::uint32_t) const {
  if (work_.once.row_bytes > 0) {
    co_await tile::load(Box{work_.once.address, 1, static_cast<std::uint32_t>(work_.once.row_bytes), 0});
  }
  if (work_.sampled && co_await tile::item((trips_ - 1 - cta.index) / shape_.grid) != 0) co_return;
  for (std::uint64_t trip = cta.index; trip < trips_; trip += shape_.grid) {
    // The last one is always made.
    if (const std::uint64_t alike = (trips_ - 1 - trip) / shape_.grid; work_.sampled && alike > 0)
      trip += shape_.grid * co_await tile::trip(alike);
    const std::uint64_t row = trip / pieces_ * rows_per_trip_;
    const auto rows =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(rows_per_trip_, u(work_.rows) - row));
    const std::uint64_t piece = trip % pieces_;
    // Piece p of every stream: the same share of its row, cut at 32 B sectors.
    const auto cut = [&](const RowStream& s, std::uint64_t p) {
      return p == pieces_ ? s.row_bytes : s.row_bytes * p / pieces_ / 32 * 32;
    };
    const auto box = [&](const RowStream& s, std::uint64_t from, std::uint64_t to) {
      return Box{s.address + row * s.pitch + from, rows, static_cast<std::uint32_t>(to - from), s.pitch};
    };
    for (const RowStream& s : work_.in) {
      for (std::uint64_t from = cut(s, piece), end = cut(s, piece + 1); from < end;) {
        const std::uint64_t to = std::min<std::uint64_t>(end, from + kLargestBox);
        co_await tile::load(box(s, from, to));
        from = to;
      }
    }
    co_await tile::load_wait();
    const Vector v = scaled(work_.per_row, static_cast<double>(rows) / pieces_);
    if (v.fma + v.integer + v.mufu + v.convert + v.shuffle > 0) co_await tile::compute(v);
    for (const RowStream& s : work_.out) {
      for (std::uint64_t from = cut(s, piece), end = cut(s, piece + 1); from < end;) {
        const std::uint64_t to = std::min<std::uint64_t>(end, from + kLargestBox);
        co_await tile::store(box(s, from, to));
        from = to;
      }
    }
  }
}

StreamWork merge_work(const models::Merge& m, const Addresses& at) {
  const std::uint64_t width = u(m.heads * m.head_dim), row = width * u(models::bytes_of(m.dtype)),
                      stats = u(m.heads) * 8;
  StreamWork w{.name = "merge partial attention", .rows = m.rows, .whole_rows = true};
  for (std::uint64_t p = 0; p < u(m.parts); ++p) {
    w.in.push_back({at.operands[0] + p * u(m.rows) * row, row, row});
    w.in.push_back({at.operands[1] + p * u(m.rows) * stats, stats, stats});
  }
  w.out = {{at.operands[2], row, row}};
  // Per part and element an FMA; per part and head: maximum, exponential of the difference, two products,
  // a sum; per head a reciprocal.
  w.per_row = {.fma = u(m.parts) * (width + 4 * u(m.heads)),
               .integer = u(m.parts) * (pairs(width) + u(m.heads)),
               .mufu = u(m.heads) * (u(m.parts) + 1),
               .convert = pairs(width)};
  return w;
}

StreamWork norm_work(const models::Norm& n, const Addresses& at) {
  const std::uint64_t width = u(n.width), row = width * u(models::bytes_of(n.dtype));
  StreamWork w{.name = n.kind == models::NormKind::rms ? "rms norm" : "layer norm",
               .rows = n.rows,
               .whole_rows = true};
  std::size_t i = 0;
  w.in.push_back({at.operands[i++], row, row});
  if (n.residual) w.in.push_back({at.operands[i++], row, row});
  w.once = {at.operands[i++], row, row};
  w.out.push_back({at.operands[i++], row, row});
  if (n.residual) w.out.push_back({at.operands[i], row, row});
  // rms: square-sum FMA, scale by the root, times the weight; layer: sum, square-sum, difference, FMA.
  w.per_row = {.fma = width * ((n.kind == models::NormKind::rms ? 3U : 4U) + (n.residual ? 1U : 0U)),
               .integer = pairs(width) * (n.residual ? 2 : 1),
               .mufu = 1,
               .convert = pairs(width) * (n.residual ? 2 : 1),
               .shuffle = 5 * kWarps * 32 * (n.kind == models::NormKind::rms ? 1 : 2)};
  return w;
}

StreamWork rope_work(const models::Rope& r, const Addresses& at) {
  const std::uint64_t e = u(models::bytes_of(r.dtype));
  const std::uint64_t q = u(r.heads * r.head_dim), k = u(r.kv_heads * r.head_dim);
  StreamWork w{.name = "rope", .rows = r.rows};
  w.in = {{at.operands[0], q * e, q * e}, {at.operands[1], k * e, k * e}};
  w.out = {{at.operands[2], q * e, q * e}, {at.operands[3], k * e, k * e}};
  // Two FMAs per element; the row's sines and cosines are computed once and shared by the heads.
  w.per_row = {.fma = 2 * (q + k), .integer = pairs(q + k), .mufu = u(r.head_dim), .convert = pairs(q + k)};
  return w;
}

StreamWork activation_work(const models::Activation& a, const Addresses& at) {
  const std::uint64_t width = u(a.width), row = width * u(models::bytes_of(a.dtype));
  StreamWork w{.rows = a.rows};
  w.out = {{at.operands[1], row, row}};
  if (a.kind == models::ActivationKind::swiglu) {
    w.name = "swiglu";
    w.in = {{at.operands[0], row, 2 * row}, {at.operands[0] + row, row, 2 * row}};
    // silu(g) u: scale, exp2, add one, reciprocal, two products.
    w.per_row = {.fma = 4 * width, .integer = 2 * pairs(width), .mufu = 2 * width, .convert = pairs(width)};
  } else {
    w.name = "gelu";
    w.in = {{at.operands[0], row, row}};
    // tanh form: cubic in three FMAs, tanh, two products.
    w.per_row = {.fma = 5 * width, .integer = pairs(width), .mufu = width, .convert = pairs(width)};
  }
  return w;
}

StreamWork softmax_work(const models::Softmax& s, const Addresses& at) {
  const std::uint64_t width = u(s.width), row = width * u(models::bytes_of(s.dtype));
  StreamWork w{.name = "softmax", .rows = s.rows, .whole_rows = true};
  w.in = {{at.operands[0], row, row}};
  w.out = {{at.operands[1], row, row}};
  w.per_row = {.fma = 3 * width,
               .integer = width + pairs(width),
               .mufu = width + 1,
               .convert = pairs(width),
               .shuffle = 2 * 5 * kWarps * 32};
  return w;
}

StreamWork sum_work(const models::Sum& s, const Addresses& at) {
  // Rows of more inputs than others lie among them: each has the mean number, in whole sectors.
  const std::uint64_t row = u(s.width) * u(models::bytes_of(s.dtype)), parts = u(s.inputs / s.rows),
                      rest = u(s.inputs % s.rows) * row / u(s.rows) / 32 * 32;
  StreamWork w{.name = "sum of rows", .rows = s.rows};
  for (std::uint64_t p = 0; p < parts; ++p) w.in.push_back({at.operands[0] + p * u(s.rows) * row, row, row});
  if (rest > 0) w.in.push_back({at.operands[0] + parts * u(s.rows) * row, rest, rest});
  w.out = {{at.operands[1], row, row}};
  const std::uint64_t added = u(s.width) * u(s.inputs) / u(s.rows);
  w.per_row = {.fma = added - u(s.width), .integer = pairs(added), .convert = pairs(u(s.width))};
  return w;
}

StreamWork copy_work(const models::Copy& c, const Addresses& at) {
  // One long row, cut into pieces.
  const std::uint64_t bytes = u(c.bytes);
  StreamWork w{.name = "copy", .rows = 1};
  w.in = {{at.operands[0], bytes, bytes}};
  w.out = {{at.operands[1], bytes, bytes}};
  return w;
}

StreamWork embedding_work(const models::Embedding& e, const Addresses& at) {
  const std::uint64_t row = u(e.width) * u(models::bytes_of(e.dtype));
  StreamWork w{.name = "embedding gather", .rows = e.rows};
  w.in = {{at.operands[0], row, row}};
  w.out = {{at.operands[1], row, row}};
  return w;
}

}  // namespace tessera::kernels
