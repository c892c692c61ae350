#include "cli/measured_choices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "traces/selections/routing.hpp"
#include "traces/selections/selection.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::cli {

namespace {

/// "moba_prefill block=64 seq=8192" as a name that needs no quotes.
std::string file_name(std::string words) {
  const auto kept = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  };
  std::replace_if(
      words.begin(), words.end(), [&](char c) { return !kept(c); }, '-');
  return words + ".jsonl";
}

}  // namespace

std::string write_choices(const std::filesystem::path& folder, const std::string& words,
                          const measure::Chosen& chosen) {
  const measure::ChoiceOutput& of = chosen.of;
  const bool experts = of.experts > 0;
  std::filesystem::create_directories(folder);
  const std::filesystem::path file = folder / file_name(words), temporary = file.string() + ".tmp";
  std::FILE* const out = std::fopen(temporary.c_str(), "wb");
  bool written = out != nullptr;
  std::int64_t records = 0;
  if (written) {
    const auto writer = traces::json_writer(
        experts
            ? traces::ChoiceHeader{.kind = traces::ChoiceKind::experts,
                                   .experts = of.experts,
                                   .topk = of.topk}
            : traces::ChoiceHeader{.tokens = of.tokens, .heads = of.sequences * of.heads, .block = of.block},
        [&](std::string_view text) {
          written = written && std::fwrite(text.data(), 1, text.size(), out) == text.size();
        });
    const auto add = [&](const traces::ChoiceRecord& record) {
      writer->add(record);
      ++records;
    };
    if (experts)
      traces::records_of(0, of.topk, chosen.experts, add);
    else
      traces::records_of(0, chosen.blocks, add);
    writer->finish();
    written = std::fclose(out) == 0 && written;
  }
  if (!written) throw std::runtime_error{fmt::format("{}: {}", temporary.string(), std::strerror(errno))};
  std::filesystem::rename(temporary, file);
  return fmt::format("{} records in {}", records, file.string());
}

}  // namespace tessera::cli
