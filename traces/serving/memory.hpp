#pragma once
// The cache memory of one instance: what sequences hold, and the blocks of finished prompts that are kept
// for others until the room is needed, the least recently used first.

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace tessera::traces {

class Memory {
 public:
  explicit Memory(std::int64_t capacity_bytes) : capacity_{capacity_bytes} {}

  /// Takes bytes for a sequence, from what is free and then from unused blocks; false, and nothing taken, if
  /// there are too few.
  bool take(std::int64_t bytes);
  void give_back(std::int64_t bytes) { held_ -= bytes; }
  bool could_take(std::int64_t bytes) const { return capacity_ - held_ >= bytes; }

  /// How many of `names`, from the first on and at most `most`, are here and end with a state, if
  /// `need_state`.
  std::size_t match(const std::vector<std::uint64_t>& names, std::size_t most, bool need_state) const;
  /// Uses a block that is here.
  void use(std::uint64_t name);
  /// Turns `bytes` that a sequence holds into a block in use. False if such a block is here already: then it
  /// is used, and the sequence's bytes are given back.
  bool publish(std::uint64_t name, std::int64_t bytes);
  /// Keeps a state with a block in use, if there is room.
  void keep_state(std::uint64_t name, std::int64_t bytes);
  /// Ends one use. Unused blocks stay until the room is needed.
  void release(std::uint64_t name);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t held() const { return held_; }        ///< by sequences, and by blocks in use
  std::int64_t unused() const { return unused_; }    ///< by blocks that nobody uses
  std::int64_t evicted() const { return evicted_; }  ///< blocks so far
  std::size_t blocks() const { return index_.size(); }

 private:
  using Slot = std::uint32_t;
  static constexpr Slot kNone = UINT32_MAX;
  struct Block {
    std::uint64_t name = 0;
    std::int64_t bytes = 0;
    std::int64_t uses = 0;
    bool state = false;
    Slot before = kNone, after = kNone;  // among unused ones, the longest unused first
  };
  void enqueue(Slot slot);
  void unlink(Slot slot);
  void evict_first();

  std::int64_t capacity_ = 0, held_ = 0, unused_ = 0, evicted_ = 0;
  std::unordered_map<std::uint64_t, Slot> index_;
  std::vector<Block> blocks_;
  std::vector<Slot> free_;
  Slot first_ = kNone, last_ = kNone;
};

}  // namespace tessera::traces
