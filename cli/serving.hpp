#pragma once
// The `serving` map of an experiment: how `tessera replay` serves requests on its machine.
//
//   serving:
//     replicas: 1                 instances, each the experiment's whole machine
//     prefill_replicas: 0         of them, those that only prefill, for the others to decode
//     max_batched_tokens: 8192    of a step: prompts' chunks and decoded tokens
//     max_sequences: 256          running in an instance
//     max_waiting: 0              in an instance's queue before requests are rejected; 0: any number
//     page_tokens: 64             tokens that cache memory is given out for at a time
//     memory_share: 0.9           of a GPU's memory that may be used
//     prefix_cache: true
//     snapshot_tokens: 4096       recurrent states are kept at multiples of this, and at a prompt's end
//     routing: least_requests     or round_robin, least_prefill
//     step_us: 338                the host's part of a step,
//     sequence_us: 12.7           and of it for each sequence
//     overlap: false              whether that runs beside the GPU
//     tokenize_us_per_token: 2.2  before a request is queued

#include "configs/reader/document.hpp"
#include "traces/serving/spec.hpp"

namespace tessera::cli {

/// Throws config::InputError at what is wrong.
traces::ServingSpec read_serving(const config::Value& map);

}  // namespace tessera::cli
