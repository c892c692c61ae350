#include "sim/gpu/hbm/channel_recorder.hpp"

namespace tessera::sim {

namespace {

std::vector<ChannelRecorder::Stretch> in_pairs(const std::vector<ChannelRecorder::Stretch>& all) {
  std::vector<ChannelRecorder::Stretch> pairs;
  for (std::size_t i = 0; i < all.size(); i += 2) {
    ChannelRecorder::Stretch pair = all[i];
    if (i + 1 < all.size()) {
      const ChannelRecorder::Stretch& b = all[i + 1];
      const double busy_us = pair.share * (pair.end - pair.start).us() + b.share * (b.end - b.start).us();
      pair.end = b.end;
      pair.share = busy_us / (pair.end - pair.start).us();
    }
    pairs.push_back(pair);
  }
  return pairs;
}

}  // namespace

void ChannelRecorder::add(Time now, const std::vector<Time>& busy) {
  if (now <= last_) return;
  channels_.resize(busy.size());
  before_.resize(busy.size());
  for (std::size_t c = 0; c < busy.size(); ++c)
    channels_[c].push_back({last_, now, (busy[c] - before_[c]).us() / (now - last_).us()});
  before_ = busy;
  last_ = now;
  if (!channels_.empty() && channels_.front().size() > most_) {
    for (std::vector<Stretch>& stretches : channels_) stretches = in_pairs(stretches);
    width_ += width_;
  }
  next_ = now + width_;
}

}  // namespace tessera::sim
