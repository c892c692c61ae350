#include "cli/kernel_kinds.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace tessera::cli {

std::int64_t Arguments::integer_from(const std::string& key, std::int64_t least) const {
  const std::string& text = values_.at(key);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::int64_t unit = 1;
  if (error == std::errc{} && end != text.data() + text.size()) {
    const std::string suffix{end, text.data() + text.size()};
    if (suffix == "Ki")
      unit = 1 << 10;
    else if (suffix == "Mi")
      unit = 1 << 20;
    else if (suffix == "Gi")
      unit = 1 << 30;
    else
      unit = 0;
  }
  if (error != std::errc{} || unit == 0) {
    throw UsageError{
        fmt::format("kernel {}: {}: expected a whole number (4096, or 4Ki), not '{}'", kind_, key, text)};
  }
  if (value < least || value > (std::int64_t{1} << 50) / unit) {
    throw UsageError{fmt::format("kernel {}: {}: must be {} and less than 2^50, not {}", kind_, key,
                                 least > 0 ? "positive" : "at least 0", text)};
  }
  return value * unit;
}

double Arguments::number(const std::string& key, double least, double most) const {
  const std::string& text = values_.at(key);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= least && value <= most)) {
    throw UsageError{fmt::format("kernel {}: {}: expected a number from {} to {}, not '{}'", kind_, key,
                                 least, most, text)};
  }
  return value;
}

models::Dtype Arguments::dtype() const {
  using models::Dtype;
  return choice<Dtype>(
      "dtype", {{"bf16", Dtype::bf16}, {"fp16", Dtype::fp16}, {"fp8", Dtype::fp8}, {"fp32", Dtype::fp32}});
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = [] {
    std::vector<Kind> list;
    for (auto family : {dense_kinds, per_token_kinds, linear_kinds, latent_kinds, block_sparse_kinds,
                        expert_kinds, token_sparse_kinds})
      std::ranges::move(family(), std::back_inserter(list));
    list.push_back(hbm_stream_kind());
    return list;
  }();
  return all;
}

}  // namespace tessera::cli
