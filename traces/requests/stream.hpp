#pragma once
// A trace's requests as a run is to see them: a window of them, faster or slower, more or fewer.

#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "traces/requests/request.hpp"

namespace tessera::traces {

struct StreamOptions {
  double from_s = 0, until_s = 0;  ///< of the trace's own time; until 0: to its end
  std::int64_t limit = 0;          ///< at most so many of the window's requests; 0: all
  double time_scale = 1;           ///< every time between two arrivals is multiplied by this
  /// So many times the requests: below 1, each is kept with that probability; above, copies of each arrive at
  /// random before the next one, with prompts of their own: copies share prefixes with copies of the same
  /// number only.
  double rate_scale = 1;
  std::uint64_t seed = 1;
};

class RequestStream {
 public:
  RequestStream(std::function<bool(Request&)> source, const StreamOptions& options);

  /// Arrivals count from the window's begin, and never fall.
  bool next(Request& request);

 private:
  bool read(Request& request);
  void copy(const Request& request, std::int64_t next_ns);
  double uniform();

  std::function<bool(Request&)> source_;
  StreamOptions o_;
  std::mt19937_64 random_;
  Request ahead_;
  bool begun_ = false, more_ = false;
  std::int64_t taken_ = 0;
  std::vector<Request> ready_;  // the last one first
};

}  // namespace tessera::traces
