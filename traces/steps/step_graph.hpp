#pragma once
// The task graph of one step of a serving engine, from the dataflow of whole prompts and of decoding.

#include <cstdint>
#include <functional>

#include "models/dataflow/build.hpp"

namespace tessera::traces {

/// A model on one machine, and how steps of it are laid out.
struct ServedModel {
  const models::Architecture* model = nullptr;
  models::Workload workload;      ///< what it says about experts, selection and latents; its lengths, and the
                                  ///< host's part, are not used
  bool cascade = false;           ///< else one GPU, or
  std::uint32_t tensor_gpus = 0;  ///< as many as these, tensor-parallel
  /// R and S over so many tokens, by the experiment's schemes. Called for a cascade only.
  std::function<models::Sharding(std::int64_t tokens)> share_out;
  bool cuda_graph = true;  ///< else every kernel is launched from the host
};

/// `tokens` new tokens of one prompt behind `past` that are cached. Over nodes both are shared out by the
/// same schemes, each from its first token on.
models::TaskGraph prefill_graph(const ServedModel& served, std::int64_t tokens, std::int64_t past);

/// One token of each of `sequences` sequences with `context` cached tokens each. Over nodes the sequences are
/// at different positions, so that every CompNode owns its share of the tokens, and every row of AttnNodes;
/// what a node does for several of them is one batch. More sequences than asked for are computed if the
/// CompNodes do not divide them. CompNodes that fetch latents have all but those of the last round.
models::TaskGraph decode_graph(const ServedModel& served, std::int64_t sequences, std::int64_t context);

}  // namespace tessera::traces
