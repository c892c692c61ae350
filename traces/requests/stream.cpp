#include "traces/requests/stream.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tessera::traces {

namespace {

/// splitmix64's finaliser.
std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

RequestStream::RequestStream(std::function<bool(Request&)> source, const StreamOptions& options)
    : source_{std::move(source)}, o_{options}, random_{options.seed} {}

/// The same with every standard library.
double RequestStream::uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

/// The next one of the window, at its scaled time.
bool RequestStream::read(Request& request) {
  if (o_.limit > 0 && taken_ == o_.limit) return false;
  const auto from = static_cast<std::int64_t>(o_.from_s * 1e9);
  while (source_(request)) {
    if (request.arrival_ns < from) continue;
    if (o_.until_s > 0 && static_cast<double>(request.arrival_ns) >= o_.until_s * 1e9) return false;
    request.arrival_ns -= from;
    if (o_.time_scale != 1)
      request.arrival_ns = std::llround(static_cast<double>(request.arrival_ns) * o_.time_scale);
    ++taken_;
    if (o_.rate_scale < 1 && uniform() >= o_.rate_scale) continue;
    return true;
  }
  return false;
}

void RequestStream::copy(const Request& request, std::int64_t next_ns) {
  const double whole = std::floor(o_.rate_scale);
  const auto copies = static_cast<std::uint64_t>(whole) - 1 + (uniform() < o_.rate_scale - whole ? 1 : 0);
  for (std::uint64_t n = 1; n <= copies; ++n) {
    Request& made = ready_.emplace_back(request);
    made.arrival_ns +=
        static_cast<std::int64_t>(uniform() * static_cast<double>(next_ns - request.arrival_ns));
    for (std::uint64_t& name : made.blocks) name = mixed(name ^ mixed(n));
  }
  std::stable_sort(ready_.begin(), ready_.end(),
                   [](const Request& a, const Request& b) { return a.arrival_ns > b.arrival_ns; });
}

bool RequestStream::next(Request& request) {
  if (!ready_.empty()) {
    request = std::move(ready_.back());
    ready_.pop_back();
    return true;
  }
  if (o_.rate_scale <= 1) return read(request);
  if (!begun_) {
    begun_ = true;
    more_ = read(ahead_);
  }
  if (!more_) return false;
  request = ahead_;
  more_ = read(ahead_);
  copy(request, more_ ? ahead_.arrival_ns : request.arrival_ns);
  return true;
}

}  // namespace tessera::traces
