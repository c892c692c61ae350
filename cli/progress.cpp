#include "cli/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace tessera::cli {

namespace {
constexpr std::chrono::milliseconds kRedraw{200};
constexpr std::chrono::seconds kLineEvery{10};
constexpr std::size_t kBar = 30;

std::string eta_text(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

/// A line that wraps could not be redrawn.
std::size_t columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
}  // namespace

Progress::Progress(Clock::duration quiet)
    : terminal_{isatty(STDERR_FILENO) == 1}, quiet_{quiet}, shown_{start_} {}

Progress::~Progress() {
  if (!bar_shown_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

void Progress::update(const sim::WorkDone& work) {
  const Clock::time_point now = Clock::now();
  if (work.share != share_) {
    share_ = work.share;
    advanced_ = now;
  }
  if (now - start_ < quiet_ || work.total == 0) return;
  if (shown_ != start_ && now - shown_ < (terminal_ ? Clock::duration{kRedraw} : Clock::duration{kLineEvery}))
    return;
  shown_ = now;
  // At the pace until the share last changed, counting down since.
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  std::string left;
  if (share_ > 0) {
    const double then = seconds(advanced_ - start_) * (1 - share_) / share_;
    left = fmt::format(", about {} left", eta_text(std::max(0.0, then - seconds(now - advanced_))));
  }
  if (terminal_) {
    const auto filled = std::min(kBar, static_cast<std::size_t>(static_cast<double>(kBar) * share_));
    const std::string line =
        fmt::format("[{}{}] {}/{}{}  {}", std::string(filled, '#'), std::string(kBar - filled, '.'),
                    work.done, work.total, left, work.what);
    fmt::print(stderr, "\r\x1b[K{}", line.substr(0, columns() - 1));
    bar_shown_ = true;
  } else {
    fmt::print(stderr, "tessera: {}/{}{}: {}\n", work.done, work.total, left, work.what);
  }
  std::fflush(stderr);
}

}  // namespace tessera::cli
