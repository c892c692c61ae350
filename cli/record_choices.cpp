#include "cli/record_choices.hpp"

#include <fmt/format.h>

#include <numeric>
#include <random>
#include <stdexcept>

#include "cli/command.hpp"
#include "models/reference/block_sparse.hpp"
#include "models/reference/experts.hpp"
#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::cli {

namespace {

namespace reference = models::reference;

/// The sum of twelve uniform numbers, less 6: the same with every standard library, unlike its normal
/// distribution.
double normal(std::mt19937_64& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(random() >> 11U) * 0x1p-53;
  return sum;
}

std::vector<double> normals(std::int64_t count, std::mt19937_64& random) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& x : values) x = normal(random);
  return values;
}

reference::Rows rows_of(std::int64_t rows, std::int64_t width, std::mt19937_64& random) {
  reference::Rows r{std::vector<std::int32_t>(static_cast<std::size_t>(rows)), normals(rows * width, random)};
  std::iota(r.positions.begin(), r.positions.end(), 0);
  return r;
}

}  // namespace

std::int64_t record_choices(const Recording& r, const std::function<void(std::string_view)>& write) {
  const bool experts = r.what == "routing";
  const traces::ChoiceHeader header =
      experts
          ? traces::ChoiceHeader{.kind = traces::ChoiceKind::experts, .experts = r.experts, .topk = r.topk}
          : traces::ChoiceHeader{.tokens = r.tokens, .heads = r.heads, .block = r.block};
  if (experts && r.topk > r.experts)
    throw UsageError{fmt::format("--topk {}: there are {} experts", r.topk, r.experts)};
  if (!experts && r.heads % r.kv_heads != 0)
    throw UsageError{fmt::format("--heads {}: no multiple of the {} key heads", r.heads, r.kv_heads)};
  const auto writer =
      r.to == "binary" ? traces::binary_writer(header, write) : traces::json_writer(header, write);
  std::int64_t records = 0;
  const auto add = [&](const traces::ChoiceRecord& record) {
    writer->add(record);
    ++records;
  };
  std::mt19937_64 random{r.seed};
  for (int layer = 0; layer < r.layers; ++layer) {
    if (experts) {
      const reference::Choices chosen =
          reference::route({.topk = r.topk}, normals(r.tokens * r.experts, random), r.experts);
      traces::records_of(layer, r.topk, chosen.experts, add);
      continue;
    }
    const reference::HeadShape shape{r.heads, r.kv_heads, r.head_dim};
    const reference::BlockSparse rule{.block = r.block, .topk = r.topk};
    const reference::Rows q = rows_of(r.tokens, shape.q_width(), random),
                          k = rows_of(r.tokens, shape.kv_width(), random);
    const auto means = reference::pool(shape, rule, k, (r.tokens + r.block - 1) / r.block);
    traces::records_of(layer, reference::select(shape, rule, q, means, r.tokens), add);
  }
  writer->finish();
  return records;
}

}  // namespace tessera::cli
