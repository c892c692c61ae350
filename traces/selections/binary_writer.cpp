// The binary form of recorded choices, written.

#include <zlib.h>

#include <iterator>

#include "traces/input/wire.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::traces {

namespace {

class BinaryWriter : public ChoiceWriter {
 public:
  BinaryWriter(const ChoiceHeader& h, Write write) : write_{std::move(write)} {
    std::string begin{kBinaryMark};
    for (unsigned i = 0; i < 4; ++i) begin += static_cast<char>(kBinaryVersion >> (8 * i));
    write_(begin);
    inner_.clear();
    inner_.varint(1, static_cast<std::uint64_t>(h.kind));
    const std::int64_t numbers[] = {h.tokens, h.heads, h.block, h.experts, h.topk};
    for (std::uint32_t i = 0; i < std::size(numbers); ++i)
      if (numbers[i] != 0) inner_.varint(2 + i, static_cast<std::uint64_t>(numbers[i]));
    write_part(1);
  }

  void add(const ChoiceRecord& r) override {
    if (records_ > 0 && (r.layer != layer_ || r.head != head_ || r.first < end_ || records_ == kMostRecords ||
                         items_ + r.items.size() > kMostItems))
      write_chunk();
    if (records_ == 0) {
      layer_ = r.layer;
      head_ = r.head;
      first_ = end_ = r.first;
      begin_ = 0;
      count_ = r.items.size();
    }
    if (records_ > 0) put(gaps_, r.first - end_);
    any_gap_ |= r.first != end_;
    put(lengths_, r.end - r.first);
    any_length_ |= r.end - r.first != 1;
    put(counts_, static_cast<std::int64_t>(r.items.size()));
    any_count_ |= r.items.size() != count_;
    std::int64_t before = begin_;
    for (std::size_t i = 0; i < r.items.size(); ++i) {
      const std::int64_t step = r.items[i] - before;
      put(steps_, step < 0 ? -2 * step - 1 : 2 * step);
      before = r.items[i];
      if (i == 0) begin_ = before;
    }
    end_ = r.end;
    ++records_;
    ++total_;
    items_ += r.items.size();
  }

  void finish() override {
    write_chunk();
    inner_.clear();
    inner_.varint(1, total_);
    write_part(3);
  }

 private:
  static constexpr std::size_t kMostRecords = 4096, kMostItems = 65536;

  static void put(std::string& list, std::int64_t n) { put_varint(list, static_cast<std::uint64_t>(n)); }

  void write_chunk() {
    if (records_ == 0) return;
    inner_.clear();
    if (layer_ != 0) inner_.varint(1, static_cast<std::uint64_t>(layer_));
    if (head_ != 0) inner_.varint(2, static_cast<std::uint64_t>(head_));
    inner_.varint(3, records_);
    if (first_ != 0) inner_.varint(4, static_cast<std::uint64_t>(first_));
    if (any_gap_) inner_.bytes(5, gaps_);
    if (any_length_) inner_.bytes(6, lengths_);
    if (!any_count_) {
      counts_.clear();
      put(counts_, static_cast<std::int64_t>(count_));
    }
    inner_.bytes(7, counts_);
    inner_.bytes(8, steps_);
    write_part(2);
    for (std::string* list : {&gaps_, &lengths_, &counts_, &steps_}) list->clear();
    any_gap_ = any_length_ = any_count_ = false;
    records_ = items_ = 0;
  }

  void write_part(std::uint32_t field) {
    part_.clear();
    part_.bytes(field, inner_.text());
    const auto crc =
        crc32(0, reinterpret_cast<const Bytef*>(part_.text().data()), static_cast<uInt>(part_.text().size()));
    part_.fixed32(15, static_cast<std::uint32_t>(crc));
    std::string length;
    put_varint(length, part_.text().size());
    write_(length);
    write_(part_.text());
  }

  Write write_;
  WireWriter inner_, part_;
  std::string gaps_, lengths_, counts_, steps_;  // columns of the chunk
  bool any_gap_ = false, any_length_ = false, any_count_ = false;
  std::int64_t layer_ = 0, head_ = 0, first_ = 0, end_ = 0, begin_ = 0;
  std::size_t records_ = 0, items_ = 0, count_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

std::unique_ptr<ChoiceWriter> binary_writer(const ChoiceHeader& header, ChoiceWriter::Write write) {
  return std::make_unique<BinaryWriter>(header, std::move(write));
}

}  // namespace tessera::traces
