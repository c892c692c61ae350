#pragma once
// Short words for the operands and costs of workloads.

#include <string>
#include <utility>
#include <vector>

#include "models/operators/operator.hpp"
#include "validate/measure/workload.hpp"

namespace tessera::measure {

inline Operand normal(std::string name, Element element, std::int64_t count, float scale = 1,
                      float offset = 0) {
  return {std::move(name), element, count, {.kind = Fill::Kind::normal, .scale = scale, .offset = offset}};
}
inline Operand uniform(std::string name, Element element, std::int64_t count, float scale = 1,
                       float offset = 0) {
  return {std::move(name), element, count, {.kind = Fill::Kind::uniform, .scale = scale, .offset = offset}};
}
inline Operand listed(std::string name, std::vector<std::int32_t> list) {
  const auto count = static_cast<std::int64_t>(list.size());
  return {std::move(name),
          Element::i32,
          count,
          {.kind = Fill::Kind::listed,
           .list = std::make_shared<const std::vector<std::int32_t>>(std::move(list))}};
}
/// An output, or scratch: poisoned.
inline Operand output(std::string name, Element element, std::int64_t count) {
  return {std::move(name), element, count, {}};
}

/// Operands 0 to 3 of attention in one call, counts of elements.
inline std::vector<Operand> query_key_value_out(std::int64_t q, std::int64_t k, std::int64_t v,
                                                std::int64_t out) {
  return {normal("q", Element::bf16, q), normal("k", Element::bf16, k), normal("v", Element::bf16, v),
          output("out", Element::bf16, out)};
}

template <class T>
T* as(void* at) {
  return static_cast<T*>(at);
}

/// A decode in splits: out [rows, width], and what each split leaves of it. Operands 3 to 6.
inline void add_split_outputs(Workload& workload, std::int64_t splits, std::int64_t rows,
                              std::int64_t width) {
  workload.operands.push_back(output("out", Element::bf16, rows * width));
  workload.operands.push_back(output("part_out", Element::f32, splits * rows * width));
  workload.operands.push_back(output("part_max", Element::f32, splits * rows));
  workload.operands.push_back(output("part_sum", Element::f32, splits * rows));
  workload.note = [splits] { return std::to_string(splits) + " splits"; };
}
/// Their addresses, into the kernels' call.
template <class KernelCall>
KernelCall with_split_outputs(KernelCall call, const Call& c) {
  call.out = c.at[3];
  call.part_out = as<float>(c.at[4]);
  call.part_max = as<float>(c.at[5]);
  call.part_sum = as<float>(c.at[6]);
  return call;
}

/// What the operator's definition says. std::invalid_argument for an impossible shape.
inline void set_cost(Workload& workload, const models::Operator& op) {
  models::check(op);
  workload.flops = models::flops_of(op);
  workload.min_bytes = static_cast<double>(models::min_bytes_of(op));
}

/// Expected values of whole rows: for rows chosen evenly among `rows`, `row(r)` gives the operand, the index
/// of the row's first element and its float64 values, of which all are kept if all rows are, else a few.
struct ExpectedRow {
  std::size_t operand = 0;
  std::int64_t first = 0;
  std::vector<double> values;
};
template <class Row>
std::vector<Expected> expect_rows(std::int64_t rows, std::int64_t width, std::size_t limit, Row row) {
  constexpr std::size_t kOfRow = 8;
  const bool all = rows * width <= static_cast<std::int64_t>(limit);
  std::vector<Expected> expected;
  for (const std::int64_t r :
       spread(rows, all ? static_cast<std::size_t>(rows) : std::max<std::size_t>(limit / kOfRow, 1))) {
    for (const ExpectedRow& one : row(r)) {
      for (const std::int64_t i :
           spread(static_cast<std::int64_t>(one.values.size()), all ? one.values.size() : kOfRow))
        expected.push_back({one.operand, one.first + i, one.values[static_cast<std::size_t>(i)]});
    }
  }
  return expected;
}

}  // namespace tessera::measure
