#include "validate/measure/choices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "validate/measure/kinds.hpp"

namespace tessera::measure {

namespace {

std::size_t z(std::int64_t n) { return static_cast<std::size_t>(n); }

/// The operand's elements, and how to complain of one.
class Elements {
 public:
  Elements(Device& device, const Workload& workload, const Call& set)
      : name_{workload.operands[workload.choices->operand].name},
        values_(z(workload.operands[workload.choices->operand].count)) {
    device.download(set.at[workload.choices->operand], 0,
                    workload.operands[workload.choices->operand].bytes(), values_.data());
  }
  const std::int32_t* at(std::int64_t index) const { return values_.data() + index; }
  [[noreturn]] void complain(std::int64_t index, const std::string& expected) const {
    throw std::runtime_error{
        fmt::format("no choice: {}[{}] is {}, expected {}", name_, index, values_[z(index)], expected)};
  }
  /// Throws if one of `count` elements from `first` on is outside [0, end) or there twice.
  void require_different(std::int64_t first, std::int64_t count, std::int64_t end) const {
    for (std::int64_t i = first; i < first + count; ++i) {
      if (*at(i) < 0 || *at(i) >= end) complain(i, fmt::format("a number from 0 to {}", end - 1));
      if (std::find(at(first), at(i), *at(i)) != at(i)) complain(i, "one that is not there twice");
    }
  }

 private:
  std::string name_;
  std::vector<std::int32_t> values_;
};

models::SelectionLists blocks_of(const ChoiceOutput& of, const Elements& selected) {
  models::SelectionLists lists{of.sequences * of.heads, of.tokens, {0}, {}};
  lists.offsets.reserve(z(lists.heads * lists.rows) + 1);
  for (std::int64_t sequence = 0; sequence < of.sequences; ++sequence) {
    for (std::int64_t head = 0; head < of.heads; ++head) {
      for (std::int64_t token = 0; token < of.tokens; ++token) {
        const std::int64_t first = ((sequence * of.tokens + token) * of.heads + head) * of.topk,
                           own = token / of.block, past = std::min(of.topk - 1, own);
        if (*selected.at(first) != own) selected.complain(first, fmt::format("its own block, {}", own));
        selected.require_different(first + 1, past, own);
        for (std::int64_t i = first + 1 + past; i < first + of.topk; ++i)
          if (*selected.at(i) != -1) selected.complain(i, "-1: there is no further past block");
        lists.blocks.insert(lists.blocks.end(), selected.at(first + 1), selected.at(first + 1 + past));
        lists.offsets.push_back(lists.blocks.size());
      }
    }
  }
  return lists;
}

}  // namespace

Chosen read_choices(Device& device, const Workload& workload, const Call& set) {
  Chosen chosen{.of = *workload.choices, .blocks = {}, .experts = {}};
  const Elements elements{device, workload, set};
  const ChoiceOutput& of = chosen.of;
  if (of.experts == 0) {
    chosen.blocks = blocks_of(of, elements);
    return chosen;
  }
  for (std::int64_t token = 0; token < of.tokens; ++token)
    elements.require_different(token * of.topk, of.topk, of.experts);
  chosen.experts.assign(elements.at(0), elements.at(of.tokens * of.topk));
  return chosen;
}

bool chooses(const Request& request) {
  try {
    return build(request, {}).choices != nullptr;
  } catch (const NotMeasured&) {
    return false;
  }
}

}  // namespace tessera::measure
