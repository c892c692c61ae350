#include "traces/steps/kernel_memo.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <system_error>

#include "configs/reader/document.hpp"

namespace tessera::traces {

namespace {

constexpr std::string_view kHeader = "tessera kernel memo 1: latency_fs execution_fs ci95_percent kernel";

/// The number that `text` begins with, and the space behind it, are taken off.
template <class Number>
bool take(std::string_view& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<std::size_t>(end - text.data());
  if (error != std::errc{} || length >= text.size() || text[length] != ' ') return false;
  text.remove_prefix(length + 1);
  return true;
}

}  // namespace

KernelMemo::KernelMemo(std::filesystem::path file, const std::string& machine)
    : file_{std::move(file)}, prefix_{machine + " "} {
  if (!std::filesystem::exists(file_)) return;
  std::ifstream in{file_};
  const auto complain = [&](std::int64_t line, std::string_view what) {
    throw config::InputError{fmt::format("{}:{}: {}", file_.string(), line, what)};
  };
  std::string text;
  if (!std::getline(in, text) || text != kHeader)
    complain(1, fmt::format("no kernel memo: expected '{}'", kHeader));
  for (std::int64_t line = 2; std::getline(in, text); ++line) {
    std::string_view rest = text;
    Kept k;
    if (!take(rest, k.latency_fs) || !take(rest, k.execution_fs) || !take(rest, k.ci95_percent) ||
        rest.empty() || k.latency_fs <= 0 || k.execution_fs < 0 || !std::isfinite(k.ci95_percent))
      complain(line, "expected latency_fs execution_fs ci95_percent kernel");
    kernels_.emplace(rest, k);
  }
}

bool KernelMemo::find(const std::string& kernel, sim::KernelResult& result) const {
  const auto known = kernels_.find(prefix_ + kernel);
  if (known == kernels_.end()) return false;
  result.latency = Time{known->second.latency_fs};
  result.execution = Time{known->second.execution_fs};
  result.ci95_percent = known->second.ci95_percent;
  ++found_;
  return true;
}

void KernelMemo::add(const std::string& kernel, const sim::KernelResult& result) {
  kernels_[prefix_ + kernel] = {result.latency.fs, result.execution.fs, result.ci95_percent};
}

void KernelMemo::save() const {
  std::filesystem::path temporary = file_;
  temporary += ".tmp";
  std::ofstream out{temporary};
  out << kHeader << '\n';
  for (const auto& [kernel, k] : kernels_)
    out << fmt::format("{} {} {} {}\n", k.latency_fs, k.execution_fs, k.ci95_percent, kernel);
  out.close();
  if (!out) throw std::runtime_error{fmt::format("{}: cannot be written", temporary.string())};
  std::filesystem::rename(temporary, file_);
}

}  // namespace tessera::traces
