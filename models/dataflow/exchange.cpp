#include "models/dataflow/exchange.hpp"

#include <map>

namespace tessera::models {

void send_rows(GraphBuilder& g, const Placement& p, std::uint32_t i, TaskId ready, const RowBytes& row,
               TasksByNode& received) {
  for (std::uint32_t j = 0; j < p.beta; ++j) {
    for (std::uint32_t k = 0; k < p.beta; ++k) {
      const std::int64_t q_rows = p.kept[k].empty() ? 0 : p.overlap[i][j];
      const std::int64_t bytes = (q_rows * row.query + p.overlap[i][k] * row.kept) * g.workload.batch;
      if (bytes > 0) received[j * p.beta + k].push_back(g.send(i, p.attn(j, k), Stage::send, bytes, {ready}));
    }
  }
}

void return_rows(GraphBuilder& g, const Placement& p, std::uint32_t j, std::uint32_t k, TaskId attended,
                 const RowBytes& row, TasksByNode& returned) {
  for (std::uint32_t i = 0; i < p.alpha; ++i) {
    if (p.overlap[i][j] == 0) continue;
    const std::int64_t bytes = p.overlap[i][j] * row.result * g.workload.batch;
    returned[i].push_back(g.send(p.attn(j, k), i, Stage::returns, bytes, {attended}));
  }
}

Merged merge_rows(GraphBuilder& g, const Placement& p, std::uint32_t i, std::vector<TaskId> returned,
                  std::int64_t heads, std::int64_t width, const MergeBuffers& buffers) {
  // Rows of S_j get one part from every column they see anything of.
  std::map<std::int64_t, std::int64_t> rows_by_parts;
  for (std::uint32_t j = 0; j < p.beta; ++j) {
    if (p.overlap[i][j] == 0) continue;
    std::int64_t parts = 0;
    for (std::uint32_t k = 0; k < p.beta; ++k) parts += p.sees(j, k) ? 1 : 0;
    rows_by_parts[parts] += p.overlap[i][j];
  }
  // A row's only part is its result. It is received among the other rows' results, if they are merged.
  Merged merged{std::move(returned), buffers.parts};
  for (const auto& [parts, rows] : rows_by_parts) {
    if (parts < 2) continue;
    merged.output = buffers.merged;
    merged.after = {g.add(i, Stage::merge, Merge{rows * g.workload.batch, heads, width, parts, g.model.dtype},
                          {buffers.parts, buffers.stats, buffers.merged}, merged.after)};
  }
  return merged;
}

SentToken send_token(GraphBuilder& g, const Placement& p, std::uint32_t i, std::int64_t token, TaskId ready,
                     const RowBytes& row) {
  const auto j = static_cast<std::uint32_t>(p.s_owner[static_cast<std::size_t>(token)]);
  const std::int64_t batch = g.workload.batch;
  SentToken sent{std::vector<TaskId>(p.beta), std::vector<TaskId>(p.beta)};
  for (std::uint32_t k = 0; k < p.beta; ++k) {
    if (p.context(k, token) == 0) continue;
    const std::int64_t bytes = (row.query + (k == j ? row.kept : 0)) * batch;
    sent.query[k] = g.send(i, p.attn(j, k), Stage::send, bytes, {ready});
  }
  for (std::uint32_t at = 0; at < p.beta; ++at) {
    sent.kept[at] =
        at == j ? sent.query[j] : g.send(i, p.attn(at, j), Stage::send, row.kept * batch, {ready});
  }
  return sent;
}

Merged merge_token(GraphBuilder& g, std::uint32_t i, std::vector<TaskId> returned, std::int64_t heads,
                   std::int64_t width, const MergeBuffers& buffers) {
  if (returned.size() < 2) return {std::move(returned), buffers.parts};
  const Merge merge{g.workload.batch, heads, width, static_cast<std::int64_t>(returned.size()),
                    g.model.dtype};
  return {{g.add(i, Stage::merge, merge, {buffers.parts, buffers.stats, buffers.merged}, returned)},
          buffers.merged};
}

}  // namespace tessera::models
