#include "traces/input/line_reader.hpp"

#include <algorithm>

namespace tessera::traces {

bool LineReader::next() {
  kept_.clear();
  ended_ = too_long_ = false;
  bool any = false;
  for (;;) {
    if (piece_.empty()) {
      piece_ = source_->read();
      if (piece_.empty()) break;
    }
    any = true;
    const std::size_t end = piece_.find('\n');
    std::string_view part = piece_.substr(0, end);
    piece_.remove_prefix(end == std::string_view::npos ? piece_.size() : end + 1);
    ended_ = end != std::string_view::npos;
    if (kept_.size() + part.size() > kMostBytes) {
      too_long_ = true;
      part = part.substr(0, kMostBytes - kept_.size());
    }
    if (ended_ && kept_.empty()) {
      line_ = part;
      break;
    }
    kept_ += part;
    line_ = kept_;
    if (ended_) break;
  }
  if (!any) return false;
  if (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
  ++number_;
  return true;
}

}  // namespace tessera::traces
