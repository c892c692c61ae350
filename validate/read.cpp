#include "validate/read.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace tessera::validate {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> files_of(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw config::InputError{fmt::format("{}: no such file", path.string())};
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator{path, error}) {
    const fs::path extension = entry.path().extension();
    if (entry.is_regular_file(error) &&
        (extension == ".csv" || extension == ".jsonl" || extension == ".sqlite"))
      files.push_back(entry.path());
  }
  if (files.empty())
    throw config::InputError{fmt::format("{}: no .csv, .jsonl or .sqlite file in it", path.string())};
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

void read_text(std::string_view text, const fs::path& file, const ParseKernel& parse, Measurements& into) {
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{') return read_jsonl(text, file, parse, into);
  const CsvTable table{text, file};
  if (read_aiconfigurator_latent(table, into) || read_aiconfigurator(table, into) || read_vidur(table, into))
    return;
  throw config::InputError{
      fmt::format("{}:1: the columns are of no known layout: expected those of aiconfigurator (m, n, k, "
                  "latency; or batch_size, isl or step, num_heads, num_key_value_heads, head_dim, latency; "
                  "or batch_size, isl or step, num_heads, "
                  "tp_size, latency), "
                  "of Vidur's mlp.csv or attention.csv, JSON lines, or Nsight Systems' SQLite export",
                  file.string())};
}

Measurements read_measurements(const std::vector<fs::path>& paths, const ParseKernel& parse) {
  Measurements all;
  for (const fs::path& path : paths) {
    for (const fs::path& file : files_of(path)) {
      std::ifstream in{file, std::ios::binary};
      const std::string text{std::istreambuf_iterator<char>{in}, {}};
      if (!in) throw config::InputError{fmt::format("{}: cannot be read", file.string())};
      if (text.starts_with("SQLite format 3")) {
        read_nsys(file, parse, all);
        continue;
      }
      read_text(text, file, parse, all);
    }
  }
  return all;
}

}  // namespace tessera::validate
