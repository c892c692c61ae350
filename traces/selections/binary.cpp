// Recorded choices in binary, read: one part in memory, its columns taken apart as they are needed.

#include <fmt/format.h>
#include <zlib.h>

#include <stdexcept>

#include "traces/input/wire.hpp"
#include "traces/selections/choice.hpp"
#include "traces/selections/writer.hpp"

namespace tessera::traces {

namespace {

constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 40U;  // of whatever a file says
constexpr std::size_t kCrcBytes = 5;                            // field 15 of four bytes

class BinaryChoices final : public ChoiceSource {
 public:
  BinaryChoices(std::unique_ptr<ByteSource> in, std::string name)
      : messages_{std::move(in)}, name_{std::move(name)} {}

  ChoiceHeader header() override {
    read_begin();
    const auto [kind, body] = next_part();
    if (kind != 1) complain("expected the header first");
    ChoiceHeader h{.kind = ChoiceKind{0}};
    try {
      for (WireFields fields{body}; fields.next();) {
        const std::int64_t n = number(fields);
        switch (fields.number()) {
          case 1:
            if (n != 1 && n != 2) complain(fmt::format("a trace of kind {}: expected 1 or 2", n));
            h.kind = static_cast<ChoiceKind>(n);
            break;
          case 2:
            h.tokens = n;
            break;
          case 3:
            h.heads = n;
            break;
          case 4:
            h.block = n;
            break;
          case 5:
            h.experts = n;
            break;
          case 6:
            h.topk = n;
            break;
          default:
            complain(fmt::format("the header has no field {}", fields.number()));
        }
      }
    } catch (const WireError& e) {
      complain(e.what());
    }
    if (h.kind == ChoiceKind{0}) complain("the header does not say of what the trace is");
    return h;
  }

  bool next(ChoiceRecord& r) override {
    while (left_ == 0) {
      if (over_) return false;
      const auto [kind, body] = next_part();
      if (kind == 2)
        begin_chunk(body);
      else if (kind == 3)
        finish(body);
      else
        complain("a second header");
    }
    try {
      take_record(r);
    } catch (const WireError& e) {
      left_ = 0;  // what follows in this chunk cannot be told any more
      complain(e.what());
    }
    return true;
  }

  [[noreturn]] void complain(const std::string& message) const override {
    throw std::invalid_argument{fmt::format("{}: byte {}: {}", name_, messages_.offset(), message)};
  }

 private:
  void read_begin() {
    const auto stop = [&](const std::string& message) {
      over_ = true;
      complain(message);
    };
    std::string begin;
    if (!messages_.take(kBinaryMark.size() + 4, begin)) stop("cut off within its first twelve bytes");
    if (!begin.starts_with(kBinaryMark))
      stop("begins like a binary trace of choices, but is none (or its line ends were changed on the way)");
    std::uint32_t version = 0, turned = 0;
    for (unsigned i = 0; i < 4; ++i) {
      const auto byte = static_cast<unsigned char>(begin[kBinaryMark.size() + i]);
      version |= std::uint32_t{byte} << (8 * i);
      turned |= std::uint32_t{byte} << (24 - 8 * i);
    }
    if (version != kBinaryVersion && turned == kBinaryVersion)
      stop("written with the most significant byte first; expected the least significant one first");
    if (version != kBinaryVersion)
      stop(fmt::format("of version {}; this program reads version {}", version, kBinaryVersion));
  }

  /// The next part's only field but its checksum. The text holds until the next call.
  std::pair<std::uint32_t, std::string_view> next_part() {
    try {
      if (!messages_.next(part_)) throw WireError{"cut off: the part that ends a trace is missing"};
    } catch (const WireError& e) {
      over_ = true;  // where the next one begins is not known
      complain(e.what());
    }
    if (part_.size() <= kCrcBytes) complain("a part without a checksum");
    const std::string_view body = std::string_view{part_}.substr(0, part_.size() - kCrcBytes);
    const auto* tail = reinterpret_cast<const unsigned char*>(part_.data()) + body.size();
    std::uint32_t said = 0;
    for (unsigned i = 0; i < 4; ++i) said |= std::uint32_t{tail[1 + i]} << (8 * i);
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    if (tail[0] != (15U << 3U | 5U)) complain("a part without a checksum");
    if (crc != said) complain("damaged: the checksum is another");
    try {
      WireFields fields{body};
      if (!fields.next()) throw WireError{"a part with nothing in it"};
      const std::pair<std::uint32_t, std::string_view> field{fields.number(), fields.bytes()};
      if (field.first < 1 || field.first > 3 || fields.next())
        throw WireError{"expected one header, chunk or end in a part"};
      return field;
    } catch (const WireError& e) {
      complain(e.what());
    }
  }

  static std::int64_t bounded(std::uint64_t n) {
    if (n > kMostNumber) throw WireError{fmt::format("{} is more than any number here may be", n)};
    return static_cast<std::int64_t>(n);
  }
  static std::int64_t number(const WireFields& field) { return bounded(field.varint()); }

  void begin_chunk(std::string_view body) {
    layer_ = head_ = end_ = begin_ = 0;
    gaps_ = lengths_ = counts_ = steps_ = {};
    std::int64_t records = 0;
    try {
      for (WireFields fields{body}; fields.next();) {
        switch (fields.number()) {
          case 1:
            layer_ = number(fields);
            break;
          case 2:
            head_ = number(fields);
            break;
          case 3:
            records = number(fields);
            break;
          case 4:
            end_ = number(fields);
            break;
          case 5:
            gaps_ = fields.bytes();
            break;
          case 6:
            lengths_ = fields.bytes();
            break;
          case 7:
            counts_ = fields.bytes();
            break;
          case 8:
            steps_ = fields.bytes();
            break;
          default:
            throw WireError{fmt::format("a chunk has no field {}", fields.number())};
        }
      }
      if (records == 0) throw WireError{"a chunk of no records"};
      // Without one of these columns nothing bounds the number of records.
      if (counts_.empty()) throw WireError{"a chunk that does not say how many items its records have"};
      count_ = bounded(take_varint(counts_));
      one_count_ = counts_.empty();
      if (one_count_ && count_ == 0 && records > 1 && lengths_.empty() && gaps_.empty())
        throw WireError{"a chunk of records without items"};
    } catch (const WireError& e) {
      complain(e.what());
    }
    has_gaps_ = !gaps_.empty();
    has_lengths_ = !lengths_.empty();
    first_in_chunk_ = true;
    left_ = records;
  }

  void take_record(ChoiceRecord& r) {
    if (!first_in_chunk_ && has_gaps_) end_ += bounded(take_varint(gaps_));
    if (!first_in_chunk_ && !one_count_) count_ = bounded(take_varint(counts_));
    first_in_chunk_ = false;
    r.layer = layer_;
    r.head = head_;
    r.first = end_;
    r.end = end_ += has_lengths_ ? bounded(take_varint(lengths_)) : 1;
    if (r.end > static_cast<std::int64_t>(kMostNumber)) throw WireError{"tokens beyond any trace"};
    r.items.clear();
    std::int64_t item = begin_;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::uint64_t step = take_varint(steps_);
      const std::int64_t half = bounded(step >> 1U);
      item += (step & 1U) != 0 ? -half - 1 : half;
      if (item < 0 || item > INT32_MAX)
        throw WireError{fmt::format("no block or expert has number {}", item)};
      if (i == 0) begin_ = item;
      r.items.push_back(static_cast<std::int32_t>(item));
    }
    ++taken_;
    if (--left_ == 0 &&
        !(gaps_.empty() && lengths_.empty() && steps_.empty() && (one_count_ || counts_.empty())))
      throw WireError{"a chunk with more in it than its records"};
  }

  void finish(std::string_view body) {
    over_ = true;
    std::int64_t records = 0;
    try {
      for (WireFields fields{body}; fields.next();) {
        if (fields.number() != 1) throw WireError{fmt::format("the end has no field {}", fields.number())};
        records = number(fields);
      }
      if (std::string more; messages_.take(1, more)) throw WireError{"goes on behind its end"};
    } catch (const WireError& e) {
      complain(e.what());
    }
    if (records != taken_) complain(fmt::format("has {} records, but should have {}", taken_, records));
  }

  WireMessages messages_;
  std::string name_, part_;
  bool over_ = false, has_gaps_ = false, has_lengths_ = false, one_count_ = false, first_in_chunk_ = false;
  std::string_view gaps_, lengths_, counts_, steps_;  // what is left of the chunk's columns
  std::int64_t left_ = 0;                             // records of the chunk
  std::int64_t layer_ = 0, head_ = 0, end_ = 0, begin_ = 0, count_ = 0, taken_ = 0;
};

}  // namespace

std::unique_ptr<ChoiceSource> binary_choices(std::unique_ptr<ByteSource> in, std::string name) {
  return std::make_unique<BinaryChoices>(std::move(in), std::move(name));
}

}  // namespace tessera::traces
