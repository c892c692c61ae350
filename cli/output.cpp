#include "cli/output.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "cli/command.hpp"

namespace tessera::cli {

namespace fs = std::filesystem;

void write_whole(const fs::path& file, std::string_view text) {
  if (fs::exists(file) &&
      !fs::is_regular_file(file)) {  // a pipe or a device: there is nothing to rename over
    std::FILE* out = std::fopen(file.c_str(), "wb");
    const bool written = out != nullptr && std::fwrite(text.data(), 1, text.size(), out) == text.size();
    const bool closed = out != nullptr && std::fclose(out) == 0;
    if (!written || !closed)
      throw std::runtime_error{fmt::format("{}: {}", file.string(), std::strerror(errno))};
    return;
  }
  const fs::path temporary = file.string() + fmt::format(".{}.tmp", getpid());
  std::FILE* out = std::fopen(temporary.c_str(), "wb");
  if (out == nullptr) throw std::runtime_error{fmt::format("{}: {}", file.string(), std::strerror(errno))};
  const bool written =
      std::fwrite(text.data(), 1, text.size(), out) == text.size() && fsync(fileno(out)) == 0;
  const int reason = errno;
  if (std::fclose(out) != 0 || !written) {
    fs::remove(temporary);
    throw std::runtime_error{fmt::format("{}: {}", file.string(), std::strerror(reason))};
  }
  fs::rename(temporary, file);
}

void write_json(const std::string& destination, const Json& json) {
  const std::string text = json.dump(2) + "\n";
  if (destination == "-") {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
      throw std::runtime_error{fmt::format("standard output: {}", std::strerror(errno))};
    }
    return;
  }
  write_whole(destination, text);
}

void require_writable(const std::string& option, const std::string& file) {
  if (file.empty() || file == "-") return;
  const fs::path path{file};
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path{"."};
  if (fs::is_directory(path)) throw UsageError{fmt::format("{} {}: is a directory", option, file)};
  if (!fs::is_directory(folder))
    throw UsageError{fmt::format("{} {}: no folder {}", option, file, folder.string())};
  const bool exists = fs::exists(path);
  if (access(exists ? path.c_str() : folder.c_str(), W_OK) != 0) {
    throw UsageError{fmt::format("{} {}: {}", option, file, std::strerror(errno))};
  }
}

namespace {
long peak_kib(int who) {
  rusage usage{};
  getrusage(who, &usage);
  return usage.ru_maxrss;
}
/// Of children that this process had before it ran this program: the script's compilers.
const long kChildrenBefore = peak_kib(RUSAGE_CHILDREN);
}  // namespace

double peak_memory_mib() {
  const long workers = peak_kib(RUSAGE_CHILDREN);
  return static_cast<double>(std::max(peak_kib(RUSAGE_SELF), workers > kChildrenBefore ? workers : 0)) / 1024;
}

}  // namespace tessera::cli
