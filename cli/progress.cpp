#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tessera::cli {

namespace {
constexpr std::chrono::seconds kQuiet{2};  // work shorter than this shows nothing
constexpr std::chrono::milliseconds kRedraw{200};
constexpr std::chrono::seconds kLineEvery{10};
constexpr std::size_t kWidth = 30;

std::string eta_text(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}
}  // namespace

Progress::Progress() : terminal_{isatty(STDERR_FILENO) == 1}, shown_{start_} {}

Progress::~Progress() {
  if (bar_shown_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::update(std::size_t done, std::size_t total, const std::string& what) {
  update(done, total, what, total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total));
}

void Progress::update(std::size_t done, std::size_t total, const std::string& what, double share) {
  const Clock::time_point now = Clock::now();
  if (now - start_ < kQuiet || total == 0) return;
  if (shown_ != start_ && now - shown_ < (terminal_ ? Clock::duration{kRedraw} : Clock::duration{kLineEvery}))
    return;
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::string eta =
      share <= 0 ? "" : ", about " + eta_text(elapsed * (1 - std::min(share, 1.0)) / share) + " left";
  if (terminal_) {
    const std::size_t filled = kWidth * done / total;
    fmt::print(stderr, "\r\x1b[K[{}{}] {}/{}{}  {:.48}", std::string(filled, '#'),
               std::string(kWidth - filled, '.'), done, total, eta, what);
    bar_shown_ = true;
  } else {
    fmt::print(stderr, "tessera: {}/{}{}: {}\n", done, total, eta, what);
  }
  std::fflush(stderr);
}

}  // namespace tessera::cli
