#pragma once
// The task graph of one step of a serving engine, from the dataflow of whole prompts and of decoding.

#include <cstdint>
#include <functional>

#include "models/dataflow/build.hpp"

namespace tessera::traces {

/// A model on one machine, and how steps of it are laid out.
struct ServedModel {
  const models::Architecture* model = nullptr;
  models::Workload workload;  ///< what it says about experts, selection and latents; its lengths are not used
  bool cascade = false;       ///< else one GPU
  /// R and S over so many tokens, by the experiment's schemes. Not called for one GPU.
  std::function<models::Sharding(std::int64_t tokens)> share_out;
};

/// `tokens` new tokens of one prompt behind `past` that are cached.
models::TaskGraph prefill_graph(const ServedModel& served, std::int64_t tokens, std::int64_t past);

/// One token of each of `sequences` sequences with `context` cached tokens each. Over nodes the sequences are
/// at different positions, so that every CompNode owns its share of the tokens, and every row of AttnNodes;
/// what a node does for several of them is one batch. More sequences than asked for are computed if the
/// CompNodes do not divide them.
models::TaskGraph decode_graph(const ServedModel& served, std::int64_t sequences, std::int64_t context);

/// Of a graph of new tokens: the same behind `past` cached ones, evenly over the columns of AttnNodes. Keys
/// and values are attended to besides (latents projected up again), states are read. MoBA's choice of blocks
/// stays that of the new tokens alone.
void put_behind(models::TaskGraph& graph, const ServedModel& served, std::int64_t past);

}  // namespace tessera::traces
