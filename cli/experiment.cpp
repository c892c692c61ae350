#include "cli/experiment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/uuid/detail/sha1.hpp>
#include <cctype>
#include <map>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/recorded.hpp"
#include "cli/serving.hpp"
#include "configs/reader/document.hpp"
#include "configs/reader/hardware.hpp"

namespace tessera::cli {

struct ConfigMemory::Hashed {
  boost::uuids::detail::sha1 hash;
};

namespace {

using config::Document;
using config::Value;

constexpr double kMostHostUs = 1e7;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
constexpr std::int64_t kMostNodes = 4096;
constexpr std::int64_t kMostTensorGpus = 256;

/// An unambiguous text of a value and all below it: keys sorted, every text with its length.
std::string canonical(const Value& value) {
  if (value.is_map()) {
    auto entries = value.entries();
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string text = "{";
    for (const auto& [key, child] : entries)
      text += fmt::format("{}:{}=", key.size(), key) + canonical(child);
    return text + "}";
  }
  if (value.is_sequence()) {
    std::string text = "[";
    for (const Value& item : value.items()) text += canonical(item);
    return text + "]";
  }
  if (!value.is_scalar()) return "~";
  const std::string scalar = value.as_string();
  return fmt::format("{}:{};", scalar.size(), scalar);
}

/// Of what has gone into `hash`, and then `text`.
std::string sha1(boost::uuids::detail::sha1 hash, const std::string& text) {
  hash.process_bytes(text.data(), text.size());
  unsigned int digest[5];
  hash.get_digest(digest);
  return fmt::format("{:08x}", fmt::join(digest, ""));
}

struct Override {
  std::string key, value;
};

Override parse_override(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError{fmt::format("--set {}: expected key=value, with a dotted key", text)};
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

/// Takes out the overrides below `prefix`, the prefix removed from their keys.
std::vector<Override> take_below(std::vector<Override>& all, const std::string& prefix) {
  std::vector<Override> below;
  std::erase_if(all, [&](const Override& o) {
    if (!o.key.starts_with(prefix + ".")) return false;
    below.push_back({o.key.substr(prefix.size() + 1), o.value});
    return true;
  });
  return below;
}

/// Hardware files give each number as {value, source}: setting the number means setting its value.
std::string leaf_key(const Document& document, const std::string& key) {
  std::optional<Value> at = document.root();
  for (std::size_t begin = 0; at && begin <= key.size();) {
    const std::size_t dot = std::min(key.find('.', begin), key.size());
    at = at->is_map() ? at->find(key.substr(begin, dot - begin)) : std::nullopt;
    begin = dot + 1;
  }
  return at && at->is_map() && at->find("value") ? key + ".value" : key;
}

void apply_overrides(Document& document, const std::vector<Override>& overrides) {
  for (const Override& o : overrides) document.set(leaf_key(document, o.key), o.value);
}

/// What a memory may hold before it is emptied: a sweep over hardware sees any number.
constexpr std::size_t kMostRemembered = 1024;

Document read_document(const std::filesystem::path& file, ConfigMemory& memory) {
  const auto known = memory.documents.find(file.native());
  if (known != memory.documents.end()) return known->second.copy();
  return memory.documents.emplace(file.native(), Document::read(file)).first->second.copy();
}

/// A file that an experiment names, with its changes.
struct Named {
  std::string key;  ///< the same for the same file and changes
  Document document;
};

/// Reads one experiment: follows names to files, hands each its overrides, and remembers what to hash.
class Reader {
 public:
  Reader(const std::filesystem::path& file, const std::vector<std::string>& overrides, ConfigMemory& memory)
      : memory_{memory}, document_{read_document(file, memory)} {
    // In order: a key of the experiment may change which file a later key's name stands for.
    for (const std::string& text : overrides) {
      const Override o = parse_override(text);
      if (is_below_a_name(o.key)) {
        overrides_.push_back(o);
      } else {
        apply_overrides(document_, {o});
      }
    }
  }

  Value root() const { return document_.root(); }

  /// The document that `value` names, with the overrides below `prefix`.
  Named follow(const std::string& kind, const Value& value, const std::string& prefix) {
    const std::filesystem::path file = resolve_config(kind, value);
    const std::vector<Override> changes = take_below(overrides_, prefix);
    std::string key = file.native();
    for (const Override& o : changes) key += fmt::format("\n{}={}", o.key, o.value);
    auto known = memory_.followed.find(key);
    if (known == memory_.followed.end()) {
      Document named = read_document(file, memory_);
      apply_overrides(named, changes);
      if (memory_.followed.size() >= kMostRemembered) memory_.followed.clear();
      known =
          memory_.followed.emplace(key, ConfigMemory::Followed{named, canonical(named.root()) + "\n"}).first;
    }
    hashed_ += known->second.canonical;
    hashed_files_ += key + "\n";
    return {std::move(key), known->second.document};
  }

  /// A file whose name stands in a document that was followed.
  void add_to_hash(const std::filesystem::path& file) {
    hashed_ += canonical(read_document(file, memory_).root()) + "\n";
    hashed_files_ += file.native() + "\n";
  }

  /// UsageError if an override was below a name that the experiment does not have.
  void require_all_applied() const {
    if (overrides_.empty()) return;
    throw UsageError{fmt::format("--set {}={}: {} has no such key, or names no file there",
                                 overrides_.front().key, overrides_.front().value,
                                 document_.root().file().string())};
  }

  std::string hash() const {
    auto& known = memory_.hashed;
    if (known.size() >= kMostRemembered) known.clear();
    std::shared_ptr<const ConfigMemory::Hashed>& files = known[hashed_files_];
    if (!files) {
      ConfigMemory::Hashed all;
      all.hash.process_bytes(hashed_.data(), hashed_.size());
      files = std::make_shared<const ConfigMemory::Hashed>(all);
    }
    return sha1(files->hash, canonical(root()));
  }
  ConfigMemory& memory() { return memory_; }

 private:
  /// Whether `key` goes on below a key of the experiment that names a file.
  bool is_below_a_name(const std::string& key) const {
    for (const char* name : {"model.", "hardware.comp.", "hardware.attn.", "fabric."}) {
      if (key.starts_with(name)) return true;
    }
    const auto sharding = document_.root().is_map() ? document_.root().find("sharding") : std::nullopt;
    return key.starts_with("sharding.") && sharding && sharding->is_scalar();
  }

  ConfigMemory& memory_;
  Document document_;
  std::vector<Override> overrides_;
  std::string hashed_, hashed_files_;  // what is hashed before the experiment itself, and which files that is
};

std::shared_ptr<const Hardware> hardware_of(const Named& named, ConfigMemory& memory) {
  const auto known = memory.hardware.find(named.key);
  if (known != memory.hardware.end()) return known->second;
  if (memory.hardware.size() >= kMostRemembered) memory.hardware.clear();
  return memory.hardware
      .emplace(named.key,
               std::make_shared<const Hardware>(Hardware{named.key, config::read_gpu(named.document),
                                                         config::read_calibration(named.document),
                                                         config::read_manufacture(named.document)}))
      .first->second;
}

std::string set_text(const Value& set) {
  if (set.is_scalar()) return set.as_string();
  std::vector<std::int64_t> tokens;
  for (const Value& token : set.items()) tokens.push_back(token.as_integer(0, kMostTokens));
  return fmt::format("{}", fmt::join(tokens, ","));
}

struct Scheme {
  models::Partition partition;
  std::string text;
  std::int64_t c = 0, delta = 0;  ///< of c_delta: the clusters that a strided partition goes across
};

/// A partition of the workload's tokens into `sets` sets; 0: as many as the scheme makes.
Scheme read_scheme(const Value& map, const models::Workload& workload, int sets, const char* count_key,
                   const Scheme& other) {
  const std::int64_t tokens = workload.prefill_tokens + workload.decode_steps;
  const std::string scheme =
      map.at("scheme").as_one_of({"c_delta", "contiguous", "round_robin", "strided", "explicit"});
  const auto require_sets = [&] {
    if (sets == 0) throw map.error(fmt::format("scheme {} needs sharding.{}", scheme, count_key));
  };
  Scheme result{.text = scheme};
  try {
    if (scheme == "contiguous") {
      map.allow_only({"scheme"});
      require_sets();
      result.partition = models::contiguous(tokens, sets);
    } else if (scheme == "round_robin") {
      map.allow_only({"scheme", "block"});
      require_sets();
      const std::int64_t block = map.find("block") ? map.at("block").as_integer(1, kMostTokens) : 1;
      result.partition = models::round_robin(tokens, sets, block);
      result.text += fmt::format(" block={}", block);
    } else if (scheme == "c_delta") {
      map.allow_only({"scheme", "c", "delta"});
      const std::int64_t c = map.at("c").as_integer(1, kMostTokens),
                         delta = map.at("delta").as_integer(0, kMostTokens);
      if ((delta + c - 1) / c + 1 > kMostNodes)
        throw map.at("delta").error(fmt::format("takes more than {} sets", kMostNodes));
      result.partition = models::c_delta(tokens, c, delta);
      result.text += fmt::format(" c={} delta={}", c, delta);
      result.c = c;
      result.delta = delta;
    } else if (scheme == "strided") {
      map.allow_only({"scheme", "c", "delta"});
      require_sets();
      const bool own = map.find("c") || map.find("delta");
      if (!own && other.c == 0) throw map.error("scheme strided needs c and delta, unless R is c_delta");
      result.c = own ? map.at("c").as_integer(1, kMostTokens) : other.c;
      result.delta = own ? map.at("delta").as_integer(0, kMostTokens) : other.delta;
      result.partition = models::across_clusters(tokens, sets, result.c, result.delta);
      result.text += fmt::format(" c={} delta={}", result.c, result.delta);
    } else {
      map.allow_only({"scheme", "sets"});
      std::vector<std::string> texts;
      for (const Value& set : map.at("sets").items()) texts.push_back(set_text(set));
      result.partition = models::explicit_sets(tokens, texts, workload.prefill_tokens);
    }
    models::check(result.partition);
  } catch (const std::invalid_argument& e) {
    throw(scheme == "explicit" ? map.at("sets") : map).error(e.what());
  }
  const auto made = static_cast<int>(result.partition.sets.size());
  if (sets != 0 && made != sets) {
    throw map.error(fmt::format("makes {} sets, but {} is {}", made, count_key, sets));
  }
  return result;
}

/// The worst over `nodes`: longest cluster, smallest gap (0 if every node sees one run only).
models::Exposure worst(const std::vector<std::vector<std::int32_t>>& nodes) {
  models::Exposure result;
  for (const auto& positions : nodes) {
    const models::Exposure e = models::exposure(positions);
    result.largest_cluster = std::max(result.largest_cluster, e.largest_cluster);
    if (e.smallest_gap > 0 && (result.smallest_gap == 0 || e.smallest_gap < result.smallest_gap)) {
      result.smallest_gap = e.smallest_gap;
    }
  }
  return result;
}

/// The sets that `map` gives R or S; 0 if it does not say.
int count_of(const Value& map, const char* key) {
  const auto value = map.find(key);
  return value ? static_cast<int>(value->as_integer(1, kMostNodes)) : 0;
}

void read_sharding(const Value& map, Experiment& e) {
  e.sharding_map = map;
  const std::string mode = map.at("mode").as_one_of({"single", "cascade", "tensor"});
  e.cascade = mode == "cascade";
  if (mode == "tensor") {
    map.allow_only({"name", "description", "mode", "gpus"});
    e.tensor_gpus = static_cast<std::uint32_t>(map.at("gpus").as_integer(2, kMostTensorGpus));
    return;
  }
  if (!e.cascade) {
    map.allow_only({"name", "description", "mode"});
    return;
  }
  map.allow_only({"name", "description", "mode", "alpha", "beta", "R", "S"});
  Scheme r = read_scheme(map.at("R"), e.workload, count_of(map, "alpha"), "alpha", {});
  Scheme s = read_scheme(map.at("S"), e.workload, count_of(map, "beta"), "beta", r);
  if (static_cast<std::int64_t>(s.partition.sets.size() * s.partition.sets.size()) > kMostNodes) {
    throw map.at("S").error(fmt::format("beta x beta is more than {} AttnNodes", kMostNodes));
  }
  e.r_scheme = r.text;
  e.s_scheme = s.text;
  e.sharding = {std::move(r.partition), std::move(s.partition)};
  std::vector<std::vector<std::int32_t>> attn;
  for (const auto& rows : e.sharding.s.sets) {
    for (const auto& columns : e.sharding.s.sets) attn.push_back(models::union_of(rows, columns));
  }
  e.exposures = {.comp = worst(e.sharding.r.sets), .attn = worst(attn)};
}

/// The workload's key, if it is there; an error if the model has nothing that it could be about.
std::optional<Value> find_about(const Value& map, const char* key, bool has, const Experiment& e,
                                const char* what) {
  const auto value = map.find(key);
  if (value && !has) throw value->error(fmt::format("{} has no {}", e.model.name, what));
  return value;
}

/// A file beside the experiment, or where the command runs.
std::filesystem::path trace_of(const Value& value) {
  const std::filesystem::path file = value.as_string(), beside = value.file().parent_path() / file;
  return std::filesystem::exists(beside) ? beside : file;
}

void read_experts(const Value& map, Experiment& e) {
  const bool has = std::any_of(e.model.layers.begin(), e.model.layers.end(), [](const models::Layer& l) {
    return std::holds_alternative<models::MoeShape>(l.feed_forward);
  });
  if (const auto where = find_about(map, "experts", has, e, "experts")) {
    if (where->as_one_of({"local", "spread"}) == "spread")
      e.workload.experts = models::ExpertPlacement::spread;
  }
  if (const auto load = find_about(map, "expert_load", has, e, "experts")) {
    if (!load->is_scalar()) {
      load->allow_only({"trace"});
      for (const models::Layer& l : e.model.layers) {
        const auto* shape = std::get_if<models::MoeShape>(&l.feed_forward);
        if (shape == nullptr) continue;
        e.workload.expert_load = recorded_load(trace_of(load->at("trace")), shape->experts, shape->topk);
        break;
      }
      const models::ExpertCounts& counts = *e.workload.expert_load.counts;
      for (int l = 0; counts.size() > 1 && l < e.model.layer_count(); ++l) {
        const models::Layer& layer = e.model.layers[static_cast<std::size_t>(l)];
        if (std::holds_alternative<models::MoeShape>(layer.feed_forward) && !counts.contains(l))
          throw load->at("trace").error(fmt::format("the recorded routing has no layer {}", l));
      }
      return;
    }
    try {
      e.workload.expert_load = models::parse_load(load->as_string());
    } catch (const std::invalid_argument& error) {
      throw load->error(error.what());
    }
  }
}

/// Of every MoBA layer, all of its heads and every token of the prompt.
void require_recorded(const Value& trace, const Experiment& e) {
  for (int l = 0; l < e.model.layer_count(); ++l) {
    const auto* shape =
        std::get_if<models::MobaShape>(&e.model.layers[static_cast<std::size_t>(l)].attention);
    if (shape == nullptr) continue;
    try {
      const auto lists = models::of_layer(e.workload.selection, l).lists;
      if (const std::int64_t heads = e.workload.batch * shape->dense.heads; lists->heads != heads)
        throw std::invalid_argument{
            fmt::format("recorded of {} heads, not of {} (batch x heads)", lists->heads, heads)};
      if (lists->rows < e.workload.prefill_tokens)
        throw std::invalid_argument{fmt::format("recorded of {} tokens, fewer than the prompt's {}",
                                                lists->rows, e.workload.prefill_tokens)};
    } catch (const std::invalid_argument& error) {
      throw trace.error(fmt::format("{}: {}", trace.as_string(), error.what()));
    }
  }
}

void read_selection(const Value& map, Experiment& e) {
  const bool has = std::any_of(e.model.layers.begin(), e.model.layers.end(), [](const models::Layer& l) {
    return std::holds_alternative<models::MobaShape>(l.attention);
  });
  models::Selection& s = e.workload.selection;
  const auto selection = find_about(map, "selection", has, e, "MoBA layers");
  if (selection && !selection->is_scalar()) {
    selection->allow_only({"trace"});
    for (const models::Layer& l : e.model.layers) {
      const auto* shape = std::get_if<models::MobaShape>(&l.attention);
      if (shape == nullptr) continue;
      s = recorded_selection(trace_of(selection->at("trace")), shape->block);
      break;
    }
    require_recorded(selection->at("trace"), e);
  } else if (selection) {
    const std::string kind = selection->as_one_of({"uniform", "recent", "zipf"});
    s.kind = kind == "recent" ? models::SelectionKind::recent
             : kind == "zipf" ? models::SelectionKind::zipf
                              : models::SelectionKind::uniform;
  }
  if (const auto skew = find_about(map, "selection_skew", has, e, "MoBA layers")) {
    if (s.kind == models::SelectionKind::uniform || s.kind == models::SelectionKind::lists)
      throw skew->error("only the selections recent and zipf have one");
    s.skew = skew->as_number(0, 10);
  }
}

void read_latents(const Value& map, Experiment& e) {
  const bool has = std::any_of(e.model.layers.begin(), e.model.layers.end(), [](const models::Layer& l) {
    return std::holds_alternative<models::MlaShape>(l.attention);
  });
  if (const auto policy = find_about(map, "latents", has, e, "MLA layers")) {
    if (policy->as_one_of({"route", "fetch"}) == "fetch") e.workload.latents = models::LatentPolicy::fetch;
  }
}

void read_recurrence(const Value& map, Experiment& e) {
  const bool has = std::any_of(e.model.layers.begin(), e.model.layers.end(), [](const models::Layer& l) {
    return std::holds_alternative<models::KdaShape>(l.attention);
  });
  if (const auto placement = find_about(map, "recurrence", has, e, "KDA layers")) {
    if (placement->as_one_of({"heads", "segments"}) == "segments")
      e.workload.recurrence = models::RecurrencePlacement::segments;
  }
}

void read_cached(const Value& map, Experiment& e) {
  const auto cached = map.find("cached_tokens");
  if (!cached) return;
  const std::int64_t prompt = e.workload.prefill_tokens;
  const std::string text = cached->as_string();
  const bool is_word = !text.empty() && std::isalpha(static_cast<unsigned char>(text.front())) != 0;
  e.workload.cached_tokens =
      is_word && cached->as_one_of({"all"}) == "all" ? prompt : cached->as_integer(0, kMostTokens);
  if (e.workload.cached_tokens > prompt)
    throw cached->error(fmt::format("the prompt has only {} tokens (all: the whole of it)", prompt));
  if (e.workload.cached_tokens > 0 && !e.model.causal)
    throw cached->error(fmt::format("{} is bidirectional: it has no cache", e.model.name));
  if (e.workload.new_tokens() == 0 && e.workload.decode_steps == 0)
    throw cached->error("with the whole prompt cached and no decode_steps there is nothing to run");
}

void read_workload(const Value& map, Experiment& e) {
  map.allow_only({"prefill_tokens", "cached_tokens", "decode_steps", "batch", "experts", "expert_load",
                  "selection", "selection_skew", "latents", "recurrence", "host_step_us",
                  "host_sequence_us"});
  e.workload.prefill_tokens = map.at("prefill_tokens").as_integer(1, kMostTokens);
  if (const auto steps = map.find("decode_steps")) {
    e.workload.decode_steps = steps->as_integer(0, kMostTokens);
    if (e.workload.decode_steps > 0 && !e.model.causal) {
      throw steps->error(fmt::format("{} is bidirectional: it cannot decode", e.model.name));
    }
  }
  if (const auto batch = map.find("batch")) e.workload.batch = batch->as_integer(1, 1 << 20);
  read_experts(map, e);
  read_selection(map, e);
  read_latents(map, e);
  read_recurrence(map, e);
  read_cached(map, e);
  if (const auto step = map.find("host_step_us")) e.workload.host_step_us = step->as_number(0, kMostHostUs);
  if (const auto sequence = map.find("host_sequence_us"))
    e.workload.host_sequence_us = sequence->as_number(0, kMostHostUs);
  const std::int64_t tokens = e.workload.prefill_tokens + e.workload.decode_steps;
  if (e.model.max_positions > 0 && tokens > e.model.max_positions) {
    const std::string text = fmt::format("{} has {} positions, too few for {} tokens", e.model.name,
                                         e.model.max_positions, tokens);
    if (e.model.learned_positions) throw map.at("prefill_tokens").error(text);
    e.notes.push_back(text + " (it would run, beyond its training)");
  }
}

void read_machine(const Value& root, Reader& reader, Experiment& e) {
  const Value hardware = root.at("hardware");
  if (!hardware.is_scalar()) hardware.allow_only({"comp", "attn"});
  const Value comp = hardware.is_scalar() ? hardware : hardware.at("comp");
  const auto attn = hardware.is_scalar() ? std::nullopt : hardware.find("attn");
  e.comp = hardware_of(reader.follow("hardware", comp, "hardware.comp"), reader.memory());
  // Without a name of its own an AttnNode is a CompNode's GPU, changes included.
  e.attn = attn ? hardware_of(reader.follow("hardware", *attn, "hardware.attn"), reader.memory()) : e.comp;
  e.machine.comp_gpu = e.comp->gpu;
  e.machine.attn_gpu = e.attn->gpu;
  e.machine.comp_key = e.comp->key;
  e.machine.attn_key = e.attn->key;
  if (const auto fabric = root.find("fabric")) {
    e.machine.fabric = config::read_fabric(reader.follow("fabrics", *fabric, "fabric").document);
  } else if (e.cascade || e.tensor_gpus > 0) {
    throw root.error("key 'fabric' is missing: there is more than one node");
  }
}

void read_money(const Value& map, Experiment& e) {
  map.allow_only({"basis", "years", "interest", "utilization", "usd_per_kwh", "pue"});
  if (const auto basis = map.find("basis"))
    e.money_basis =
        basis->as_one_of({"rental", "capital"}) == "capital" ? MoneyBasis::capital : MoneyBasis::rental;
  const auto number = [&](const char* key, double& target, double least, double most) {
    if (const auto value = map.find(key)) target = value->as_number(least, most);
  };
  cost::Ownership& o = e.ownership;
  number("years", o.years, 0.1, 100);
  number("interest", o.interest, 0, 1);
  number("utilization", o.utilization, 0.001, 1);
  number("usd_per_kwh", o.usd_per_kwh, 0, 100);
  number("pue", o.pue, 1, 10);
}

}  // namespace

Experiment read_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  ConfigMemory memory;
  return read_experiment(file, overrides, memory);
}

Experiment read_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                           ConfigMemory& memory) {
  Reader reader{file, overrides, memory};
  const Value root = reader.root();
  root.allow_only({"name", "description", "model", "hardware", "fabric", "sharding", "workload", "launch",
                   "serving", "money"});
  Experiment e;
  e.file = file;
  e.name = root.find("name") ? root.at("name").as_string() : file.stem().string();
  if (const auto description = root.find("description")) e.description = description->as_string();
  if (const auto launch = root.find("launch")) e.cuda_graph = launch->as_one_of({"graph", "host"}) == "graph";
  const Named model = reader.follow("models", root.at("model"), "model");
  if (const auto base = models::base_of(model.document)) reader.add_to_hash(*base);
  auto& known = reader.memory().models;
  if (known.size() >= kMostRemembered) known.clear();
  if (known.find(model.key) == known.end())
    known.emplace(model.key, models::read_architecture(model.document));
  e.model = known.at(model.key);
  read_workload(root.at("workload"), e);
  const Value named_sharding = root.at("sharding");
  const Value sharding = named_sharding.is_scalar()
                             ? reader.follow("shardings", named_sharding, "sharding").document.root()
                             : named_sharding;
  read_sharding(sharding, e);
  e.graph_key = model.key + "\n" + canonical(root.at("workload")) + canonical(sharding);
  const auto only_over_nodes = [&](bool asked, const char* key, const char* why) {
    if (asked && !e.cascade) throw root.at("workload").at(key).error(why);
  };
  only_over_nodes(e.workload.experts == models::ExpertPlacement::spread, "experts",
                  "without CompNodes there is nothing to spread experts over");
  only_over_nodes(e.workload.latents == models::LatentPolicy::fetch, "latents",
                  "without AttnNodes there is nowhere to fetch latents from");
  only_over_nodes(e.workload.recurrence == models::RecurrencePlacement::segments, "recurrence",
                  "without AttnNodes there is nothing to share segments out over");
  read_machine(root, reader, e);
  if (const auto serving = root.find("serving")) e.serving = read_serving(*serving);
  if (const auto money = root.find("money")) read_money(*money, e);
  reader.require_all_applied();
  e.config_hash = reader.hash();
  return e;
}

models::TaskGraph build_graph(const Experiment& e) {
  try {
    if (e.tensor_gpus > 0) return models::build_tensor_parallel(e.model, e.tensor_gpus, e.workload);
    return e.cascade ? models::build_cascade(e.model, e.sharding, e.workload)
                     : models::build_single(e.model, e.workload);
  } catch (const std::invalid_argument& error) {
    throw UsageError{fmt::format("{}: {}", e.file.string(), error.what())};
  }
}

models::Sharding share_out(const Experiment& e, std::int64_t tokens) {
  const Value& map = *e.sharding_map;
  const models::Workload prompt{.prefill_tokens = tokens};
  Scheme r = read_scheme(map.at("R"), prompt, count_of(map, "alpha"), "alpha", {});
  Scheme s = read_scheme(map.at("S"), prompt, count_of(map, "beta"), "beta", r);
  return {std::move(r.partition), std::move(s.partition)};
}

std::string hash_of(const config::Value& value, const std::vector<std::string>& without) {
  std::map<std::string, std::string> texts;
  for (const auto& [key, child] : value.entries()) {
    if (std::find(without.begin(), without.end(), key) == without.end()) texts[key] = canonical(child);
  }
  std::string all;
  for (const auto& [key, text] : texts) all += fmt::format("{}:{}=", key.size(), key) + text;
  return sha1({}, all);
}

void apply_override(config::Document& document, const std::string& text) {
  apply_overrides(document, {parse_override(text)});
}

}  // namespace tessera::cli
