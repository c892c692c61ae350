#pragma once
// What all attention shares in which AttnNode (j, k) has the queries of S_j and what is kept of the tokens of
// S_k (keys and values, or latents): the messages there and back, and the merge at a row's owner.

#include <vector>

#include "models/dataflow/graph_builder.hpp"
#include "models/dataflow/placement.hpp"

namespace tessera::models {

/// Bytes on the wire of one row of one sequence.
struct RowBytes {
  std::int64_t query = 0, kept = 0;
  std::int64_t result = 0;  ///< a partial result, its row maximum and sum of exponentials included
};

/// Task lists by node: of AttnNode (j, k) at j beta + k, or of CompNode i.
using TasksByNode = std::vector<std::vector<TaskId>>;

/// The prompt's rows of CompNode i, after `ready`, to the AttnNodes that need them. An AttnNode that holds no
/// keys is sent no queries.
void send_rows(GraphBuilder& g, const Placement& p, std::uint32_t i, TaskId ready, const RowBytes& row,
               TasksByNode& received);
/// AttnNode (j, k)'s results, after `attended`, to the owners of S_j's rows.
void return_rows(GraphBuilder& g, const Placement& p, std::uint32_t j, std::uint32_t k, TaskId attended,
                 const RowBytes& row, TasksByNode& returned);

/// Where partial results arrive, and where they are merged to.
struct MergeBuffers {
  BufferId parts = 0, stats = 0, merged = 0;
};
struct Merged {
  std::vector<TaskId> after;  ///< what a reader of `output` waits for
  BufferId output = 0;        ///< `merged`, or `parts` where every row has one part only
};
/// The prompt's rows of CompNode i, whose results came by the messages `returned`: `width` columns of each of
/// `heads`.
Merged merge_rows(GraphBuilder& g, const Placement& p, std::uint32_t i, std::vector<TaskId> returned,
                  std::int64_t heads, std::int64_t width, const MergeBuffers& buffers);

/// The messages with one decoded token of S_j.
struct SentToken {
  std::vector<TaskId> query;  ///< by column, to AttnNode (j, k); 0 where no keys are
  std::vector<TaskId> kept;   ///< by row, to AttnNode (row, j)
};
/// The query to row j, what is kept to column j; AttnNode (j, j) gets both in one message.
SentToken send_token(GraphBuilder& g, const Placement& p, std::uint32_t i, std::int64_t token, TaskId ready,
                     const RowBytes& row);
/// As merge_rows, of one decoded token's results.
Merged merge_token(GraphBuilder& g, std::uint32_t i, std::vector<TaskId> returned, std::int64_t heads,
                   std::int64_t width, const MergeBuffers& buffers);

}  // namespace tessera::models
