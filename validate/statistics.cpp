#include "validate/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "validate/percentile.hpp"

namespace tessera::validate {

namespace {

bool is_large_gemm(const Compared& c) {
  const auto* g = std::get_if<models::Gemm>(&c.row.op);
  return g != nullptr && g->n >= 1024 && g->k >= 1024;
}

bool is_long_prefill(const Compared& c) {
  const auto* a = std::get_if<models::Attention>(&c.row.op);
  return a != nullptr && a->q_rows >= 1024 && a->head_dim >= 64 && a->head_dim <= 256;
}

}  // namespace

Errors errors_of(const std::vector<const Compared*>& rows) {
  Errors e{.count = rows.size()};
  if (rows.empty()) return e;
  std::vector<double> absolute;
  double sum = 0, signed_sum = 0;
  for (const Compared* c : rows) {
    const double error = c->error_percent();
    absolute.push_back(std::abs(error));
    sum += std::abs(error);
    signed_sum += error;
  }
  std::sort(absolute.begin(), absolute.end());
  const auto count = static_cast<double>(rows.size());
  e.mape_percent = sum / count;
  e.bias_percent = signed_sum / count;
  e.median_ape_percent = percentile(absolute, 0.5);
  e.p90_ape_percent = percentile(absolute, 0.9);
  e.max_ape_percent = absolute.back();
  return e;
}

std::vector<Group> by_kind(const Comparison& comparison) {
  std::map<std::string, Group> groups;
  for (const Compared& c : comparison.rows) {
    Group& group = groups[c.row.kind];
    group.name = group.meaning = c.row.kind;
    group.rows.push_back(&c);
  }
  std::vector<Group> list;
  for (auto& [kind, group] : groups) list.push_back(std::move(group));
  return list;
}

std::vector<Group> quoted_groups(const Comparison& comparison) {
  struct Definition {
    const char *name, *meaning;
    bool (*holds)(const Compared&);
  };
  static constexpr Definition kDefinitions[]{
      {"gemm_large", "gemm, n and k at least 1024", is_large_gemm},
      {"attention_prefill_long", "attention_prefill, seq at least 1024, head_dim 64 to 256",
       is_long_prefill}};
  std::vector<Group> list;
  for (const Definition& d : kDefinitions) {
    Group group{d.name, d.meaning, {}};
    for (const Compared& c : comparison.rows) {
      if (d.holds(c)) group.rows.push_back(&c);
    }
    if (!group.rows.empty()) list.push_back(std::move(group));
  }
  return list;
}

std::vector<Group> by_file(const Comparison& comparison) {
  std::vector<Group> list;
  std::map<std::string, std::size_t> at;
  for (const Compared& c : comparison.rows) {
    const std::string file = c.row.file.string();
    const auto [found, added] = at.try_emplace(file, list.size());
    if (added) list.push_back({file, file, {}});
    list[found->second].rows.push_back(&c);
  }
  return list;
}

std::vector<const Compared*> worst_of(const std::vector<const Compared*>& rows, std::size_t most) {
  std::vector<const Compared*> sorted = rows;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Compared* a, const Compared* b) {
    return std::abs(a->error_percent()) > std::abs(b->error_percent());
  });
  sorted.resize(std::min(most, sorted.size()));
  return sorted;
}

}  // namespace tessera::validate
