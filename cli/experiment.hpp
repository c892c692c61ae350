#pragma once
// An experiment: a model on a machine under a sharding and a workload, read from YAML and from the files it
// names.
//
//   name: cascade_llama3_8b
//   description: what it is for          optional
//   model: llama3_8b                     name in configs/models, file, or Hugging Face folder
//   hardware: {comp: h200_sxm, attn: h200_sxm}
//                                        names in configs/hardware or files; attn defaults to comp
//   fabric: nvlink4_nvswitch             name in configs/fabrics or file; not needed on one node
//   sharding: cascade_4x2                name in configs/shardings or file, or the map itself:
//     mode: cascade                      or single (one GPU; nothing else then), or tensor (tensor
//                                        parallelism, with `gpus: 8` and nothing else)
//     alpha: 4                           CompNodes; optional where R's scheme implies it
//     beta: 2                            beta x beta AttnNodes
//     R: {scheme: c_delta, c: 2, delta: 6}
//     S: {scheme: strided}
//   workload: {prefill_tokens: 8192, decode_steps: 32, batch: 1}
//   launch: graph                        of kernels: as nodes of a CUDA graph; or from the host, one by one
//
// With `cached_tokens: 4096` so many first tokens of the prompt are in the caches and states already, with
// `cached_tokens: all` the whole prompt: the run begins with decoding.
//
// Of a model with experts, MoBA, MLA or KDA layers, the workload may also say
//     experts: local                     every CompNode has them all; or spread over the CompNodes
//     expert_load: balanced              or uniform, power_law_1.2 (models/operators/expert_load.hpp)
//     selection: uniform                 or recent, zipf (models/operators/selection.hpp), with
//     selection_skew: 1                  of the latter two
//     selection: {trace: FILE}           or recorded; expert_load too (docs/traces/selections.md)
//     latents: route                     a decoded token's query to them; or fetch them to the query
//     recurrence: heads                  AttnNodes share out KDA's heads; or segments of tokens
// What is drawn, is drawn with the seed of `tessera run --seed`.
//   money: {basis: rental}               or capital; rental where every GPU's file states its price. With
//   basis
//     capital, years, interest, utilization, usd_per_kwh and pue (models/cost/money.hpp)
//
// For `tessera replay`, `serving: {...}` says how the machine serves (cli/serving.hpp).
//
// Schemes, over prefill_tokens + decode_steps tokens: contiguous; round_robin {block: 1}; c_delta {c, delta};
// strided {c, delta; R's by default} (across the clusters of a c_delta partition); explicit {sets: ["0-3,8",
// [4, 5]]}, where tokens to be decoded that no set names are dealt out in turn.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "configs/reader/calibration.hpp"
#include "configs/reader/document.hpp"
#include "models/architecture/architecture.hpp"
#include "models/cost/money.hpp"
#include "models/dataflow/build.hpp"
#include "models/sharding/sharding.hpp"
#include "sim/system/machine.hpp"
#include "traces/serving/spec.hpp"

namespace tessera::cli {

/// What the nodes of a kind can read of the text: the worst of them.
struct Exposures {
  models::Exposure comp, attn;
};

/// How a run is priced.
enum class MoneyBasis { rental, capital };

/// A GPU of configs/hardware, with the experiment's changes.
struct Hardware {
  std::string key;  ///< equal only for equal hardware, within a process
  GpuSpec gpu;
  config::Calibration calibration;
  ManufactureSpec manufacture;
};

struct Experiment {
  std::filesystem::path file;
  std::string name, description;
  models::Architecture model;
  sim::MachineSpec machine;
  std::shared_ptr<const Hardware> comp, attn;  ///< the machine's GPUs, and what else their files say
  std::optional<MoneyBasis> money_basis;       ///< if it says one
  cost::Ownership ownership;
  bool cascade = false;                       ///< else one GPU, or
  std::uint32_t tensor_gpus = 0;              ///< as many as these, tensor-parallel
  models::Sharding sharding;                  ///< empty on one GPU
  std::optional<config::Value> sharding_map;  ///< what `sharding` was made from
  Exposures exposures;
  models::Workload workload;
  bool cuda_graph = true;  ///< else every kernel is launched from the host
  traces::ServingSpec serving;
  std::string r_scheme, s_scheme;  ///< "c_delta c=2 delta=6"
  std::vector<std::string> notes;  ///< what a reader of the result should know
  std::string config_hash;         ///< SHA-1 over every value of every file, after --set
  /// Equal only for experiments whose task graphs are equal, within a process, for the same seeds.
  std::string graph_key;
};

/// Files read before, by a process that reads many experiments: what they hold is taken not to change
/// meanwhile.
struct ConfigMemory {
  struct Followed {
    config::Document document;
    std::string canonical;  ///< what is hashed of it
  };
  std::map<std::string, config::Document> documents;                ///< by file
  std::map<std::string, Followed> followed;                         ///< by file and changes
  std::map<std::string, std::shared_ptr<const Hardware>> hardware;  ///< by the same
  std::map<std::string, models::Architecture> models;
  struct Hashed;
  std::map<std::string, std::shared_ptr<const Hashed>> hashed;  ///< what is hashed of files, by all of them
};

/// Reads `file` and all it names. `overrides` are "dotted.key=value"; a key that goes on below a name changes
/// the file the name stands for ("model.layers=2", "hardware.comp.sm.mufu_per_cycle=32"). Throws
/// config::InputError at file, line and key, or UsageError for an override that is no key=value.
Experiment read_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides);
Experiment read_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                           ConfigMemory& memory);

models::TaskGraph build_graph(const Experiment& experiment);

/// R and S by the experiment's schemes over a prompt of another length. Not for one GPU.
models::Sharding share_out(const Experiment& experiment, std::int64_t tokens);

/// A hash over every value below `value`, less some keys of its own.
std::string hash_of(const config::Value& value, const std::vector<std::string>& without);

/// Obeys one `--set`: "key=value" with a dotted key. Of a number with its source, sets the number.
void apply_override(config::Document& document, const std::string& text);

}  // namespace tessera::cli
