#include "validate/measure/journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "configs/reader/document.hpp"

namespace tessera::measure {

namespace {

std::runtime_error cannot(const std::filesystem::path& file, const char* what) {
  return std::runtime_error{fmt::format("{}: cannot {}: {}", file.string(), what, std::strerror(errno))};
}

}  // namespace

Journal::Journal(std::filesystem::path file, const std::string& revision) : file_{std::move(file)} {
  std::error_code error;
  if (!std::filesystem::exists(file_, error)) {
    const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) throw cannot(file_, "be created");
    ::close(fd);
    return;
  }
  std::ifstream in{file_, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  if (!in) throw cannot(file_, "be read");
  int line_number = 0;
  std::size_t begin = 0;
  while (begin < text.size()) {
    ++line_number;
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) {
      std::filesystem::resize_file(file_, begin);
      mended_ = true;
      break;
    }
    if (end > begin) {
      const Json row = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                   text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (!row.is_object() || !row.contains("kind"))
        throw config::InputError{
            fmt::format("{}:{}: no row of measurements: --out appends to what it wrote before",
                        file_.string(), line_number)};
      const bool of_another = row.contains("failed") && row.value("revision", "") != revision;
      if (row.contains("key") && row["key"].is_string() && !of_another)
        keys_.insert(row["key"].get<std::string>());
    }
    begin = end + 1;
  }
}

void Journal::append(const Json& row) {
  const std::string line = row.dump() + "\n";
  const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw cannot(file_, "be opened");
  const ssize_t written = ::write(fd, line.data(), line.size());
  const bool synced =
      ::fsync(fd) == 0 || errno == EINVAL || errno == EROFS;  // pipes and devices have no disk
  ::close(fd);
  if (written != static_cast<ssize_t>(line.size()) || !synced) throw cannot(file_, "be written");
  if (row.contains("key")) keys_.insert(row["key"].get<std::string>());
}

}  // namespace tessera::measure
