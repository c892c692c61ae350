#include "kernels/linear_attention/flash_kda.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "kernels/linear_attention/operands.hpp"
#include "kernels/stream/stream.hpp"

namespace tessera::kernels {

using tile::Box;
using tile::Program;

namespace {

// Operands of mma.sync lie in shared memory as core matrices of eight rows of 16 B (GMMA::Layout_K_INTER),
// fp32 states as rows of 32 B (K_SW32): tensor maps cut boxes into such pieces.
constexpr std::uint64_t kPiece = 16, kStatePiece = 32;
// Published of the compiled kernels: 32 and 74 registers a thread (Nsight Compute on a B300; the first is
// bound by its
// __launch_bounds__(256, 8) to 32), which are given out by eights.
constexpr std::uint32_t kPrepareRegisters = 32, kRecurrenceRegisters = 80;
constexpr std::uint32_t kPrepareWarps = 8, kMultiplyWarps = 4;
constexpr std::uint32_t kInStages = 3, kOutStages = 2;
constexpr std::uint32_t kStrengths = 32;  // a TMA load of them: the tile's sixteen, from an aligned address

// Barriers of the recurrence.
constexpr std::uint8_t kFull = 0, kEmpty = kInStages, kOutFull = 2 * kInStages,
                       kOutEmpty = 2 * kInStages + kOutStages, kState = 2 * kInStages + 2 * kOutStages;
// Its __syncthreads.
constexpr std::uint8_t kStarted = 0, kEnded = 1, kConverted = 2;
constexpr unsigned kRoles = 3;

/// movmatrix: an 8 x 8 tile of registers turned round within a warp, taken to last as long as a shuffle.
constexpr std::uint64_t movmatrix() { return kShuffleLatency + Chains::alu(1); }
/// sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, tanh.approx.
constexpr std::uint64_t sigmoid_by_tanh() { return Chains::alu(2) + kMufuLatency; }

/// 16 rows of a head of q, k, v, the decay or the output.
Box rows_box(const FlashKdaCall& c, std::uint64_t base, std::uint64_t token, std::uint32_t rows,
             std::uint64_t head) {
  const std::uint64_t row = std::uint64_t{c.dim()} * c.element();
  return {base + (token * c.heads() + head) * row, rows, static_cast<std::uint32_t>(row), c.heads() * row};
}

Box flat_box(std::uint64_t base, std::uint64_t number, std::uint64_t bytes) {
  return {base + number * bytes, 1, static_cast<std::uint32_t>(bytes), 0};
}

/// The tile's strengths: those of a head lie side by side.
Box strength_box(const FlashKdaCall& c, std::uint64_t token, std::uint64_t head) {
  const std::uint64_t all = c.first_token.back(),
                      at = std::min(token / 8 * 8, all - std::min<std::uint64_t>(all, kStrengths));
  return {c.strength_by_head + (head * all + at) * c.element(), 1,
          static_cast<std::uint32_t>(std::min<std::uint64_t>(all, kStrengths)) * c.element(), 0};
}

ShortCtaLaunch prepare_launch(const FlashKdaCall& c) {
  const std::uint64_t ctas = c.tiles() * c.heads(),
                      values = c.first_token.back() * c.heads() * c.dim() * c.element(),
                      strengths = ctas * kStrengths * c.element();
  return {
      .name = "flash kda prepare",
      .ctas = ctas,
      .warps = kPrepareWarps,
      .registers_per_thread = kPrepareRegisters,
      // q, k and running sums, for which the results come; strengths; the decay; bias; a barrier.
      .shared_bytes = static_cast<std::int64_t>(2 * c.rows_bytes() + std::uint64_t{c.tile()} * c.dim() * 4 +
                                                128 + c.rows_bytes() + 4 * c.dim() + 128),
      .load_bytes = 3 * values + strengths + ctas * 4 * c.dim(),
      .store_bytes = ctas * c.handed_bytes(),
      .reads = 3 * values + strengths / 2,
      .writes = ctas * c.handed_bytes(),
      .barriers = {{"loaded", 1}}};
}

/// beta.t().contiguous().
StreamWork turn_strengths(const FlashKdaCall& c) {
  const std::uint64_t row = c.heads() * c.element();
  return {.name = "strength by heads",
          .rows = static_cast<std::int64_t>(c.first_token.back()),
          .in = {{c.strength, row, row}},
          .out = {{c.strength_by_head, row, row}},
          .between_read = c.first_token.back() * row,
          .between_written = c.first_token.back() * row,
          .between = true};
}

}  // namespace

FlashKdaPrepare::FlashKdaPrepare(const FlashKdaCall& call, const GpuSpec& gpu)
    : ShortCtas{prepare_launch(call), gpu},
      call_{call},
      mma_cycles_{2.0 * 16 * 8 * 16 * gpu.sm.subcores / gpu.sm.mma_flops_per_cycle},
      mma_flops_per_cycle_{gpu.sm.mma_flops_per_cycle} {}

Program FlashKdaPrepare::program(tile::Cta cta, std::uint32_t) const {
  const std::uint32_t count = trips(cta), rows_of_tile = call_.tile(), dim = call_.dim(), e = call_.element();
  const std::uint64_t values = std::uint64_t{rows_of_tile} * dim,
                      scores = std::uint64_t{rows_of_tile} * rows_of_tile;
  const std::uint64_t threads = std::uint64_t{kPrepareWarps} * 32;
  // A warp alone: pairs of m16n8k16 that add to the same sums wait for each other.
  const auto pair =
      static_cast<std::uint64_t>(std::max(static_cast<double>(chains().tensor), 2 * mma_cycles_));
  const std::uint64_t steps = dim / 16;
  const auto together =
      static_cast<std::uint64_t>(4.0 * static_cast<double>(scores) * dim / mma_flops_per_cycle_);
  const std::uint64_t alone = steps * pair - std::min(steps * pair, together);
  std::uint32_t done = 0;
  if (co_await tile::item(count - 1) != 0) co_return;
  for (std::uint32_t n = 0; n < count; ++n) {
    if (n + 1 < count) n += static_cast<std::uint32_t>(co_await tile::trip(count - 1 - n));
    if (n > 0) co_await tile::chain(next_cta_cycles());
    const std::uint64_t i = number(cta, n), head = i / call_.tiles(), tile = i % call_.tiles();
    const auto sequence =
        static_cast<std::size_t>(std::upper_bound(call_.first_tile.begin(), call_.first_tile.end(), tile) -
                                 call_.first_tile.begin() - 1);
    const std::uint64_t in_sequence = (tile - call_.first_tile[sequence]) * rows_of_tile,
                        token = call_.first_token[sequence] + in_sequence;
    const auto rows = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(rows_of_tile, call_.first_token[sequence + 1] - token));
    // Which tile of which sequence: a division, or a binary search of what the L1 has.
    co_await tile::chain(call_.op.lengths.empty()
                             ? Chains::integer_division()
                             : static_cast<std::uint64_t>(std::bit_width(call_.op.lengths.size())) *
                                   (chains().l1 + Chains::alu(4)));
    const Box q = rows_box(call_, call_.q, token, rows, head),
              k = rows_box(call_, call_.k, token, rows, head),
              decay = rows_box(call_, call_.decay, token, rows, head),
              strength = strength_box(call_, token, head);
    co_await tile::expect(0, q.bytes() + k.bytes() + decay.bytes() + strength.bytes() + 4 * dim);
    co_await tile::tma_load(q, 0);
    co_await tile::tma_load(k, 0);
    co_await tile::tma_load(strength, 0);
    co_await tile::tma_load(decay, 0);
    co_await tile::tma_load({call_.decay, 1, 4 * dim, 0}, 0);  // bias: any bytes that stay in the L2
    co_await tile::wait(0, done & 1U);
    co_await tile::chain(2 * chains().barrier);
    // Lengths of q and k: sixteen lanes have a row.
    co_await tile::shared_load(2 * values * e);
    co_await tile::compute({.fma = 4 * values,
                            .integer = 2 * values,
                            .mufu = 2 * threads,
                            .convert = values,
                            .shuffle = 2 * 4 * threads},
                           Chains::alu(8) + Chains::lane_sum(16) + kMufuLatency + Chains::alu(3));
    co_await tile::shared_store(2 * values * e);
    co_await tile::chain(chains().exchange());
    // The gate and its running sum: half of the threads, a channel each.
    co_await tile::shared_load(2 * values * e);  // a value of two bytes takes a bank of four
    co_await tile::compute(
        {.fma = 5 * values, .integer = 2 * values, .mufu = values, .convert = 0, .shuffle = 0},
        sigmoid_by_tanh() + Chains::alu(3 + rows_of_tile));
    co_await tile::shared_store(values * 4);
    co_await tile::chain(chains().exchange() + kMufuLatency + chains().exchange());  // e^ of the last of them
    // Decayed q and k, k over the decay, k decayed to the end: every product in fp32, rounded to bf16.
    co_await tile::shared_load(values * (4 + 2 * e + 4));
    co_await tile::chain(chains().exchange());
    co_await tile::compute(
        {.fma = 6 * values, .integer = 8 * values, .mufu = 2 * values, .convert = 8 * values, .shuffle = 0},
        kMufuLatency + Chains::alu(12));
    co_await tile::shared_store(4 * values * e);
    co_await tile::chain(chains().exchange());
    // A = k_decayed k_inv^T by one warp, q_decayed k_inv^T by another.
    co_await tile::mma(2 * rows_of_tile, rows_of_tile, dim, 4 * values * e);
    co_await tile::chain(alone);
    co_await tile::shared_store(2 * scores * e);
    co_await tile::chain(chains().exchange());
    // Masks, strengths, I - A.
    co_await tile::shared_load(2 * scores * e);
    co_await tile::compute(
        {.fma = 3 * scores, .integer = 12 * scores, .mufu = scores, .convert = 2 * scores, .shuffle = 0},
        sigmoid_by_tanh() + Chains::alu(6));
    co_await tile::shared_store(3 * scores * e);
    co_await tile::chain(chains().exchange());
    // (I - A)(I + A^2)(I + A^4)(I + A^8) by one warp: powers and sums side by side, four products deep.
    co_await tile::mma(rows_of_tile, rows_of_tile, 6 * rows_of_tile, 2 * scores * e);
    co_await tile::chain(4 * (movmatrix() + pair + Chains::alu(1)));
    co_await tile::shared_store(scores * e);
    co_await tile::chain(2 * chains().barrier);
    const std::uint64_t at = head * call_.tiles() + tile, row = std::uint64_t{dim} * e;
    for (const std::uint64_t base : {call_.k_decayed, call_.q_decayed, call_.k_restored})
      co_await tile::tma_store_pieces(
          {base + at * call_.rows_bytes(), rows_of_tile, static_cast<std::uint32_t>(row), row},
          call_.rows_bytes() / kPiece);
    co_await tile::tma_store(flat_box(call_.total, at, 4 * dim));
    for (const std::uint64_t base : {call_.inverse, call_.scores})
      co_await tile::tma_store_pieces(flat_box(base, at, call_.scores_bytes()),
                                      call_.scores_bytes() / kPiece);
    co_await tile::store_wait(0);
    ++done;
  }
}

FlashKdaRecurrence::FlashKdaRecurrence(const FlashKdaCall& call, const GpuSpec& gpu)
    : call_{call}, chains_{gpu.sm} {
  shape_.name = "flash kda recurrence";
  shape_.grid = static_cast<std::uint32_t>(call.heads() * (call.first_tile.size() - 1));
  shape_.roles = {{"multiply", kMultiplyWarps}, {"load", 1}, {"store", 1}};
  shape_.registers_per_cta = std::int64_t{shape_.threads()} * kRecurrenceRegisters;
  // The state in bf16; beside it stages, where the fp32 state is before and after.
  const std::uint64_t values = std::uint64_t{call.dim()} * call.dim(),
                      stages = kInStages * (call.handed_bytes() + call.rows_bytes() + 128) +
                               kOutStages * call.rows_bytes();
  shape_.shared_bytes =
      static_cast<std::int64_t>(values * call.element() + std::max(stages, 4 * values) + 128);
  const int in = kInStages, out = kOutStages;
  for (int i = 0; i < in; ++i) shape_.barriers.push_back({"full", 1, i});
  for (int i = 0; i < in; ++i) shape_.barriers.push_back({"empty", 1, i});
  for (int i = 0; i < out; ++i) shape_.barriers.push_back({"out_full", 1, i});
  for (int i = 0; i < out; ++i) shape_.barriers.push_back({"out_empty", 1, i});
  shape_.barriers.push_back({"state", 1});
  std::uint64_t least = ~std::uint64_t{0};
  for (std::size_t s = 0; s + 1 < call.first_tile.size(); ++s) {
    const std::uint64_t tiles = call.first_tile[s + 1] - call.first_tile[s],
                        alike = tiles > kInStages + 1 ? tiles - kInStages - 1 : 0;
    shape_.trips += alike * call.heads();
    least = std::min(least, alike);
  }
  shape_.even_trips = least * shape_.grid;
}

tile::Outline FlashKdaRecurrence::outline() const {
  const std::uint64_t values = call_.first_token.back() * call_.heads() * call_.dim() * call_.element(),
                      state = std::uint64_t{shape_.grid} * call_.dim() * call_.dim() * 4,
                      handed = call_.tiles() * call_.heads() * call_.handed_bytes(),
                      strengths = call_.tiles() * call_.heads() * kStrengths * call_.element();
  tile::Outline o{.load_bytes = values + handed + strengths + (call_.op.initial_state ? state : 0),
                  .store_bytes = values + state,
                  .operand_bytes = 0};
  o.between_read = o.load_bytes - strengths / 2;
  o.between_written = o.store_bytes;
  if (call_.op.lengths.empty()) {
    o.pieces = {{shape_.grid, static_cast<std::uint32_t>(call_.first_tile[1])}};
    return o;
  }
  o.rounds = call_.heads();
  for (std::size_t s = 0; s + 1 < call_.first_tile.size(); ++s)
    o.pieces.push_back({1, static_cast<std::uint32_t>(call_.first_tile[s + 1] - call_.first_tile[s])});
  return o;
}

std::unique_ptr<tile::Kernel> FlashKdaRecurrence::excerpt(std::uint32_t ctas, std::uint32_t,
                                                          std::uint32_t trips) const {
  auto e = std::make_unique<FlashKdaRecurrence>(*this);
  e->excerpt_trips_ = trips;
  e->shape_.grid = ctas;
  return e;
}

FlashKdaRecurrence::Work FlashKdaRecurrence::work(tile::Cta cta) const {
  const std::uint64_t sequences = call_.first_tile.size() - 1,
                      index = cta.index % (sequences * call_.heads());
  const auto s = static_cast<std::size_t>(index % sequences);
  Work w{.sequence = s,
         .head = index / sequences,
         .token = call_.first_token[s],
         .tile = call_.first_tile[s],
         .tokens = call_.first_token[s + 1] - call_.first_token[s],
         .trips = static_cast<std::uint32_t>(call_.first_tile[s + 1] - call_.first_tile[s])};
  if (excerpt_trips_ != 0) {
    w.trips = excerpt_trips_;
    w.tokens = std::uint64_t{excerpt_trips_} * call_.tile();
  }
  return w;
}

std::uint32_t FlashKdaRecurrence::rows(const Work& w, std::uint32_t trip) const {
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(call_.tile(), w.tokens - std::uint64_t{trip} * call_.tile()));
}

Program FlashKdaRecurrence::program(tile::Cta cta, std::uint32_t role) const {
  const Work w = work(cta);
  return role == 0 ? multiply(w) : role == 1 ? load(w) : store(w);
}

// All roles pass over the same trips: those that find the ring full and are not the last.
namespace {

std::uint64_t alike_trips(std::uint32_t trips, std::uint32_t from) {
  return from >= kInStages && from + 1 < trips ? trips - 1 - from : 0;
}

}  // namespace

Program FlashKdaRecurrence::load(Work w) const {
  if (co_await tile::item(alike_trips(w.trips, kInStages)) != 0) co_return;
  const std::uint64_t dim = call_.dim(), state_bytes = dim * dim * 4, row = dim * call_.element();
  if (call_.op.initial_state) {
    co_await tile::expect(kState, state_bytes);
    co_await tile::tma_load_pieces(flat_box(call_.state, w.sequence * call_.heads() + w.head, state_bytes),
                                   state_bytes / kStatePiece, kState);
  }
  co_await tile::named_sync(kStarted, kRoles);
  std::uint32_t n = 0;
  for (std::uint32_t t = 0; t < w.trips; ++t) {
    if (const std::uint64_t alike = alike_trips(w.trips, t); alike > 0)
      t += static_cast<std::uint32_t>(co_await tile::trip(alike));
    const auto stage = static_cast<std::uint8_t>(n % kInStages);
    const auto full = static_cast<std::uint8_t>(kFull + stage);
    co_await tile::wait(static_cast<std::uint8_t>(kEmpty + stage), (n / kInStages & 1U) ^ 1U);
    const std::uint64_t token = w.token + std::uint64_t{t} * call_.tile(),
                        at = (w.head * call_.tiles() + w.tile + t) % (call_.heads() * call_.tiles());
    // An excerpt may be longer than the sequences.
    const std::uint64_t here = token % call_.first_token.back();
    const auto fits =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(rows(w, t), call_.first_token.back() - here));
    const Box v = rows_box(call_, call_.v, here, fits, w.head), strength = strength_box(call_, here, w.head);
    co_await tile::expect(full, v.bytes() + strength.bytes() + call_.handed_bytes());
    co_await tile::tma_load_pieces(v, v.bytes() / kPiece, full);
    co_await tile::tma_load(strength, full);
    for (const std::uint64_t base : {call_.k_decayed, call_.q_decayed, call_.k_restored})
      co_await tile::tma_load_pieces(
          {base + at * call_.rows_bytes(), call_.tile(), static_cast<std::uint32_t>(row), row},
          call_.rows_bytes() / kPiece, full);
    co_await tile::tma_load(flat_box(call_.total, at, 4 * dim), full);
    for (const std::uint64_t base : {call_.inverse, call_.scores})
      co_await tile::tma_load_pieces(flat_box(base, at, call_.scores_bytes()), call_.scores_bytes() / kPiece,
                                     full);
    ++n;
  }
  co_await tile::named_sync(kEnded, kRoles);
  co_await tile::named_sync(kConverted, kRoles);
}

Program FlashKdaRecurrence::multiply(Work w) const {
  if (co_await tile::item(alike_trips(w.trips, kInStages)) != 0) co_return;
  const std::uint32_t tile = call_.tile(), dim = call_.dim(), e = call_.element();
  const std::uint64_t state = std::uint64_t{dim} * dim, values = std::uint64_t{tile} * dim,
                      scores = std::uint64_t{tile} * tile;
  if (call_.op.initial_state) {
    co_await tile::wait(kState, 0);
    co_await tile::shared_load(state * 4);
    co_await tile::compute({.fma = 0, .integer = state / 4, .mufu = 0, .convert = state / 2, .shuffle = 0});
  }
  co_await tile::shared_store(state * e);
  co_await tile::named_sync(kStarted, kRoles);
  std::uint32_t n = 0;
  for (std::uint32_t t = 0; t < w.trips; ++t) {
    if (const std::uint64_t alike = alike_trips(w.trips, t); alike > 0)
      t += static_cast<std::uint32_t>(co_await tile::trip(alike));
    const std::uint32_t in = n % kInStages, out = n % kOutStages;
    co_await tile::wait(static_cast<std::uint8_t>(kOutEmpty + out), (n / kOutStages & 1U) ^ 1U);
    co_await tile::wait(static_cast<std::uint8_t>(kFull + in), n / kInStages & 1U);
    // k_decayed S and q_decayed S: each warp 32 columns of the state, and all of k and q, by ldmatrix; the
    // first fragments are waited for.
    co_await tile::chain(Chains::alu(4) + chains_.shared);
    co_await tile::mma(tile, dim, 2 * dim, kMultiplyWarps * 2 * values * e + state * e);
    // (v - k S) b, in products rounded to bf16; the strength's sigmoid; turned round as an operand.
    co_await tile::shared_load(values * e + kMultiplyWarps * scores * e);
    co_await tile::compute({.fma = 2 * values,
                            .integer = 4 * values,
                            .mufu = 2 * kMultiplyWarps * 32,
                            .convert = 4 * values,
                            .shuffle = 0},
                           sigmoid_by_tanh() + Chains::alu(8));
    co_await tile::chain(movmatrix());
    co_await tile::mma(tile, dim, tile, kMultiplyWarps * scores * e);  // D = (I + A)^-1 of it
    co_await tile::compute({.fma = 0, .integer = 0, .mufu = 0, .convert = values, .shuffle = 0});
    co_await tile::chain(movmatrix());
    co_await tile::mma(tile, dim, tile);  // scores D
    co_await tile::compute(
        {.fma = values, .integer = 2 * values, .mufu = 0, .convert = 2 * values, .shuffle = 0},
        Chains::alu(4));
    co_await tile::shared_store(values * e);
    // S <- diag(decay) S + k_restored^T D: read, multiplied and added to in fp32, rounded, written back,
    // sixteen rows at a time with the next sixteen on their way.
    co_await tile::mma(dim, dim, tile,
                       kMultiplyWarps * values * e + state * e + std::uint64_t{128} * dim / 8 * 4);
    co_await tile::compute({.fma = state, .integer = state, .mufu = 0, .convert = state / 2, .shuffle = 0},
                           Chains::alu(4));
    co_await tile::shared_store(state * e);
    co_await tile::chain(chains_.barrier);  // of the four warps
    co_await tile::arrive(static_cast<std::uint8_t>(kOutFull + out));
    co_await tile::arrive(static_cast<std::uint8_t>(kEmpty + in));
    ++n;
  }
  co_await tile::named_sync(kEnded, kRoles);
  co_await tile::shared_load(state * e);
  co_await tile::compute({.fma = 0, .integer = state, .mufu = 0, .convert = 0, .shuffle = 0});
  co_await tile::shared_store(state * 4);
  co_await tile::named_sync(kConverted, kRoles);
}

Program FlashKdaRecurrence::store(Work w) const {
  if (co_await tile::item(alike_trips(w.trips, kInStages)) != 0) co_return;
  co_await tile::named_sync(kStarted, kRoles);
  std::uint32_t n = 0;
  for (std::uint32_t t = 0; t < w.trips; ++t) {
    if (const std::uint64_t alike = alike_trips(w.trips, t); alike > 0)
      t += static_cast<std::uint32_t>(co_await tile::trip(alike));
    const std::uint32_t out = n % kOutStages;
    co_await tile::wait(static_cast<std::uint8_t>(kOutFull + out), n / kOutStages & 1U);
    const std::uint64_t here = (w.token + std::uint64_t{t} * call_.tile()) % call_.first_token.back();
    const auto fits =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(rows(w, t), call_.first_token.back() - here));
    const Box box = rows_box(call_, call_.out, here, fits, w.head);
    if (rows(w, t) == call_.tile()) {
      co_await tile::tma_store_pieces(box, box.bytes() / kPiece);
      co_await tile::store_wait(0);
    } else {  // not to write into the next sequence: element by element
      const std::uint64_t values = std::uint64_t{fits} * call_.dim();
      co_await tile::shared_load(values * 4);
      co_await tile::compute({.fma = 0, .integer = 6 * values, .mufu = 0, .convert = 0, .shuffle = 0});
      co_await tile::store(box);
    }
    co_await tile::arrive(static_cast<std::uint8_t>(kOutEmpty + out));
    ++n;
  }
  co_await tile::named_sync(kEnded, kRoles);
  co_await tile::named_sync(kConverted, kRoles);
  const std::uint64_t bytes = std::uint64_t{call_.dim()} * call_.dim() * 4;
  co_await tile::tma_store_pieces(flat_box(call_.state_out, w.sequence * call_.heads() + w.head, bytes),
                                  bytes / kStatePiece);
  co_await tile::store_wait(0);
}

std::vector<std::unique_ptr<tile::Kernel>> make_flash_kda(const models::LinearAttention& op,
                                                          const GpuSpec& gpu, const Addresses& addresses) {
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument{fmt::format("{}: FlashKDA: {}", models::kind(op), what)};
  };
  if (op.rule.decay != models::Decay::vector || !op.rule.delta)
    refuse("its kernels are of Kimi Delta Attention alone; use kda_prefill");
  if (op.dtype != models::Dtype::bf16) refuse(fmt::format("dtype {} is not bf16", models::name_of(op.dtype)));
  if (op.k_dim != 128 || op.v_dim != 128) refuse(fmt::format("{} x {} is not 128 x 128", op.k_dim, op.v_dim));
  if (op.chunk != 16) refuse(fmt::format("chunk {} is not 16", op.chunk));
  if (op.part != models::SegmentPart::none) refuse("has no kernels for segments; use segment=none");
  if (!gpu.sm.has_tma) refuse("needs a GPU with a TMA");

  FlashKdaCall c{.op = op};
  place_operands(c, addresses);
  c.first_token.push_back(0);
  c.first_tile.push_back(0);
  for (std::int64_t s = 0; s < op.batch; ++s) {
    const auto length = static_cast<std::uint64_t>(op.length_of(s));
    c.first_token.push_back(c.first_token.back() + length);
    c.first_tile.push_back(c.first_tile.back() + (length + c.tile() - 1) / c.tile());
  }
  Workspace workspace{addresses.workspace};
  const std::uint64_t all = c.tiles() * c.heads();
  c.strength_by_head = workspace.take(c.first_token.back() * c.heads() * c.element());
  c.k_decayed = workspace.take(all * c.rows_bytes());
  c.q_decayed = workspace.take(all * c.rows_bytes());
  c.k_restored = workspace.take(all * c.rows_bytes());
  c.total = workspace.take(all * 4 * c.dim());
  c.inverse = workspace.take(all * c.scores_bytes());
  c.scores = workspace.take(all * c.scores_bytes());

  std::vector<std::unique_ptr<tile::Kernel>> kernels;
  kernels.push_back(std::make_unique<StreamKernel>(turn_strengths(c), gpu));
  kernels.push_back(std::make_unique<FlashKdaPrepare>(c, gpu));
  kernels.push_back(std::make_unique<FlashKdaRecurrence>(c, gpu));
  return kernels;
}

}  // namespace tessera::kernels
