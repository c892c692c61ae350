#include "cli/progress.hpp"

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <string>
#include <thread>

namespace tessera::cli {
namespace {

using std::chrono::milliseconds;

/// Standard error for as long as it lives: a terminal of 80 columns, or a pipe.
class Capture {
 public:
  explicit Capture(bool terminal) : saved_{dup(STDERR_FILENO)} {
    int ends[2];
    winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    REQUIRE((terminal ? openpty(&ends[0], &ends[1], nullptr, nullptr, &size) : pipe(ends)) == 0);
    reader_ = ends[0];
    fcntl(reader_, F_SETFL, O_NONBLOCK);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
  }
  ~Capture() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    close(reader_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// What was written since the last call.
  std::string text() const {
    std::string all;
    char chunk[4096];
    for (ssize_t n = 0; (n = read(reader_, chunk, sizeof chunk)) > 0;)
      all.append(chunk, static_cast<std::size_t>(n));
    return all;
  }

 private:
  int saved_, reader_ = -1;
};

const std::string kLong(100, 'k');

struct Shown {
  std::string first, second, third, at_end;
};

Shown show(bool terminal) {
  const Capture err{terminal};
  Shown shown;
  {
    Progress progress{milliseconds{0}};
    std::this_thread::sleep_for(milliseconds{20});
    progress.update({.done = 1, .total = 4, .share = 0.5, .what = "gemm"});
    shown.first = err.text();
    progress.update({.done = 2, .total = 4, .share = 0.6, .what = "too soon to be shown"});
    shown.second = err.text();
    std::this_thread::sleep_for(milliseconds{250});
    progress.update({.done = 4, .total = 4, .share = 1, .what = kLong});
    shown.third = err.text();
  }
  shown.at_end = err.text();
  return shown;
}

TEST_CASE("a terminal shows a bar that is redrawn on one line, and cleared") {
  const Shown shown = show(true);
  CHECK(shown.first == "\r\x1b[K[###############...............] 1/4, about 0 s left  gemm");
  CHECK(shown.second.empty());
  CHECK(shown.third.starts_with("\r\x1b[K[##############################] 4/4, about 0 s left  kkk"));
  CHECK(shown.third.size() == 4 + 79);  // as wide as the terminal allows without wrapping
  CHECK(shown.at_end == "\r\x1b[K");
}

TEST_CASE("anything but a terminal gets plain lines, seldom") {
  const Shown shown = show(false);
  CHECK(shown.first == "tessera: 1/4, about 0 s left: gemm\n");
  CHECK(shown.second.empty());
  CHECK(shown.third.empty());
  CHECK(shown.at_end.empty());
}

TEST_CASE("short work shows nothing; nothing done yet gives no time left") {
  for (const bool terminal : {true, false}) {
    const Capture err{terminal};
    {
      Progress progress;
      progress.update({.done = 1, .total = 2, .share = 0.5, .what = "gemm"});
    }
    CHECK(err.text().empty());
    Progress progress{milliseconds{0}};
    progress.update({.done = 0, .total = 2, .share = 0, .what = "gemm"});
    CHECK(err.text() ==
          (terminal ? "\r\x1b[K[..............................] 0/2  gemm" : "tessera: 0/2: gemm\n"));
  }
}

}  // namespace
}  // namespace tessera::cli
