#pragma once
// Builds the task graph of a model run on one GPU or over CompNodes and AttnNodes.
//
// Both partitions of a Sharding cover the prompt *and* the tokens to be decoded, so that a generator's
// pattern simply continues; the first `prefill_tokens` positions are the prompt.

#include <cstdint>

#include "models/architecture/architecture.hpp"
#include "models/dataflow/task_graph.hpp"
#include "models/operators/expert_load.hpp"
#include "models/operators/selection.hpp"
#include "models/sharding/sharding.hpp"

namespace tessera::models {

/// Routed experts: all of them on every CompNode, or spread over the CompNodes (expert parallelism).
enum class ExpertPlacement : std::uint8_t { local, spread };

/// Decoding MLA over AttnNodes: a token's query goes to where latents are cached, or its CompNode fetches the
/// latents that it does not hold yet, keeps them, and attends by itself.
enum class LatentPolicy : std::uint8_t { route, fetch };

/// A recurrence (KDA) over AttnNodes: by heads, each with all tokens; or by segments of consecutive tokens,
/// each with all heads, whose maps of the state are combined by a scan.
enum class RecurrencePlacement : std::uint8_t { heads, segments };

struct Workload {
  std::int64_t prefill_tokens = 0;  ///< the prompt
  /// Of the prompt, so many first tokens are in the caches and states already, from an earlier request. With
  /// all of them a run begins with decoding: the prompt's last token has been answered.
  std::int64_t cached_tokens = 0;
  std::int64_t decode_steps = 0;
  std::int64_t batch = 1;  ///< sequences, all of the same length and sharded alike
  ExpertPlacement experts = ExpertPlacement::local;
  LoadDistribution expert_load;  ///< of every mixture of experts; all layers draw alike
  Selection selection;           ///< of blocks, in every MoBA layer
  LatentPolicy latents = LatentPolicy::route;
  RecurrencePlacement recurrence = RecurrencePlacement::heads;
  double host_step_us = 0;  ///< the host's part of a step, the prompt's and a decoded token's, the GPUs idle
  double host_sequence_us = 0;  ///< and more for each sequence

  std::int64_t new_tokens() const { return prefill_tokens - cached_tokens; }  ///< of the prompt
};

/// One GPU: the baseline.
TaskGraph build_single(const Architecture& model, const Workload& workload);

/// Tensor parallelism: every GPU has its part of each layer's heads and of each network's width, and all
/// hidden rows; an all-reduce follows attention and feed-forward network. Latent rows are kept by every GPU.
/// Throws std::invalid_argument if the GPUs do not divide heads or widths.
TaskGraph build_tensor_parallel(const Architecture& model, std::uint32_t gpus, const Workload& workload);

/// alpha CompNodes and beta x beta AttnNodes (the founding diagram's dataflow). An AttnNode that holds no
/// keys is sent no queries; one that holds only keys its queries may not see gets both, but runs no kernel.
/// Throws std::invalid_argument if the sharding does not cover prefill_tokens + decode_steps tokens, or
/// decoding is asked of a bidirectional model.
TaskGraph build_cascade(const Architecture& model, const Sharding& sharding, const Workload& workload);

}  // namespace tessera::models
