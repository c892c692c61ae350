#include "traces/serving/memory.hpp"

#include <algorithm>

namespace tessera::traces {

void Memory::enqueue(Slot slot) {
  Block& b = blocks_[slot];
  b.before = last_;
  b.after = kNone;
  (last_ == kNone ? first_ : blocks_[last_].after) = slot;
  last_ = slot;
}

void Memory::unlink(Slot slot) {
  const Block& b = blocks_[slot];
  (b.before == kNone ? first_ : blocks_[b.before].after) = b.after;
  (b.after == kNone ? last_ : blocks_[b.after].before) = b.before;
}

void Memory::evict_first() {
  const Slot slot = first_;
  unlink(slot);
  unused_ -= blocks_[slot].bytes;
  index_.erase(blocks_[slot].name);
  free_.push_back(slot);
  ++evicted_;
}

bool Memory::take(std::int64_t bytes) {
  if (capacity_ - held_ < bytes) return false;
  while (capacity_ - held_ - unused_ < bytes) evict_first();
  held_ += bytes;
  return true;
}

std::size_t Memory::match(const std::vector<std::uint64_t>& names, std::size_t most, bool need_state) const {
  std::size_t usable = 0;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) {
    const auto at = index_.find(names[i]);
    if (at == index_.end()) break;
    if (!need_state || blocks_[at->second].state) usable = i + 1;
  }
  return usable;
}

void Memory::use(std::uint64_t name) {
  const Slot slot = index_.at(name);
  Block& b = blocks_[slot];
  if (b.uses++ > 0) return;
  unlink(slot);
  unused_ -= b.bytes;
  held_ += b.bytes;
}

bool Memory::publish(std::uint64_t name, std::int64_t bytes) {
  if (index_.count(name) != 0) {
    use(name);
    held_ -= bytes;
    return false;
  }
  Slot slot = static_cast<Slot>(blocks_.size());
  if (free_.empty()) {
    blocks_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  blocks_[slot] = {.name = name, .bytes = bytes, .uses = 1};
  index_.emplace(name, slot);
  return true;
}

void Memory::keep_state(std::uint64_t name, std::int64_t bytes) {
  Block& b = blocks_[index_.at(name)];
  if (b.state || !take(bytes)) return;
  b.state = true;
  b.bytes += bytes;
}

void Memory::release(std::uint64_t name) {
  const Slot slot = index_.at(name);
  Block& b = blocks_[slot];
  if (--b.uses > 0) return;
  held_ -= b.bytes;
  unused_ += b.bytes;
  enqueue(slot);
}

}  // namespace tessera::traces
