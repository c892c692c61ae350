#include "validate/measure/kinds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "configs/reader/document.hpp"

namespace tessera::measure {

namespace {

const std::vector<Key> kCommonKeys{
    {"dtype", "bf16"}, {"data", "random"}, {"l2", "warm"}, {"launch", "graph"}};

std::vector<Key> keys_of(const MeasuredKind& kind) {
  std::vector<Key> keys = kind.keys;
  keys.insert(keys.end(), kCommonKeys.begin(), kCommonKeys.end());
  return keys;
}

}  // namespace

const std::vector<MeasuredKind>& measured_kinds() {
  static const std::vector<MeasuredKind> all = [] {
    std::vector<MeasuredKind> list;
    for (auto family : {dense_kinds, per_token_kinds, block_sparse_kinds, linear_kinds, latent_kinds,
                        expert_kinds, microbench_kinds})
      std::ranges::move(family(), std::back_inserter(list));
    return list;
  }();
  return all;
}

const MeasuredKind& measured_kind(const std::string& name) {
  std::vector<std::string> names;
  for (const MeasuredKind& kind : measured_kinds()) {
    if (kind.name == name) return kind;
    names.emplace_back(kind.name);
  }
  const std::string near = config::nearest(name, names);
  throw std::invalid_argument{fmt::format("'{}' cannot be measured; {}", name,
                                          near.empty() ? fmt::format("there is: {}", fmt::join(names, ", "))
                                                       : fmt::format("did you mean '{}'?", near))};
}

void zero_inputs(Workload& workload) {
  for (Operand& o : workload.operands)
    if (o.fill.kind == Fill::Kind::normal || o.fill.kind == Fill::Kind::uniform)
      o.fill.kind = Fill::Kind::zeros;
}

Workload build(const Request& request, const Target& target) {
  const MeasuredKind& kind = measured_kind(request.kind);
  const Arguments arguments{request, keys_of(kind)};
  if (!arguments.is("dtype", "bf16"))
    throw NotMeasured{fmt::format("{}: dtype: only bf16 kernels are measured, not '{}'", request.kind,
                                  arguments.text("dtype"))};
  Workload workload = kind.build(arguments, target);
  workload.request = request;
  workload.cold = arguments.choice("l2", {"warm", "cold"}) == "cold";
  if (arguments.choice("launch", {"graph", "host"}) == "host") workload.graph = false;
  if (arguments.choice("data", {"random", "zeros"}) == "zeros") zero_inputs(workload);
  return workload;
}

std::vector<Request> checks_of(const Request& request) {
  const MeasuredKind& kind = measured_kind(request.kind);
  const Arguments own{request, keys_of(kind)};
  std::vector<Request> all;
  for (const std::string& words : kind.checks) {
    for (Request& check : expand(std::string{kind.name} + " " + words)) {
      const Arguments theirs{check, keys_of(kind)};
      const bool same = std::all_of(kind.variants.begin(), kind.variants.end(), [&](const std::string& key) {
        return own.text(key) == theirs.text(key);
      });
      if (same) all.push_back(std::move(check));
    }
  }
  return all;
}

void require_measurable(const Request& request) {
  try {
    build(request, {});
  } catch (const NotMeasured&) {
    // Said when it is its turn: another GPU may have a kernel for it, and suites of the simulator have such
    // shapes.
  }
}

}  // namespace tessera::measure
