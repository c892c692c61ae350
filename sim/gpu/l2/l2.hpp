#pragma once
// The L2 cache and the crossbar in front of it. One SystemC module.
//
// A request is a box of lines. It is served in chunks at the pace at which the SM's TMA or load-store
// unit issues them: each line goes to its address-hashed slice, hits or waits for HBM (misses to lines
// in flight join them), and returns through the partition link if the slice is on the far side and through
// the crossbar port of the SM's GPC. The reply to the SM is sent when the last line of the box is there.
// In front of each GPC's port a request coalescer (Nsight Compute calls it LRC) answers a read of a line that
// is already on its way to the GPC with the same data.
//
// Two lines make a run of 256 B, which lies in one set of one slice and in one row of the HBM: what a run
// misses is fetched by one request, and dirty neighbours in a run are written back together.

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/large_pages.hpp"
#include "sim/core/module.hpp"
#include "sim/core/pipe.hpp"
#include "sim/gpu/l2/tag_store.hpp"
#include "sim/gpu/messages.hpp"

namespace tessera::sim {

struct L2Counters {
  std::uint64_t read_sectors = 0, hit_sectors = 0, merged_sectors = 0, write_sectors = 0;
  std::uint64_t coalesced_lines = 0;              ///< of the hits: answered in front of the GPC
  std::uint64_t read_bytes = 0, write_bytes = 0;  ///< asked for and sent by SMs
  std::uint64_t returned_bytes = 0;               ///< delivered to SMs
  std::uint64_t fill_sectors = 0, writeback_sectors = 0;
  std::uint64_t far_lines = 0, atomics = 0;

  /// Calls f(name, counter of a, counter of b) for all of them.
  template <class A, class B, class F>
  static void zip(A& a, B& b, F f) {
    f("read_sectors", a.read_sectors, b.read_sectors);
    f("hit_sectors", a.hit_sectors, b.hit_sectors);
    f("merged_sectors", a.merged_sectors, b.merged_sectors);
    f("write_sectors", a.write_sectors, b.write_sectors);
    f("read_bytes", a.read_bytes, b.read_bytes);
    f("write_bytes", a.write_bytes, b.write_bytes);
    f("returned_bytes", a.returned_bytes, b.returned_bytes);
    f("fill_sectors", a.fill_sectors, b.fill_sectors);
    f("writeback_sectors", a.writeback_sectors, b.writeback_sectors);
    f("far_lines", a.far_lines, b.far_lines);
    f("coalesced_lines", a.coalesced_lines, b.coalesced_lines);
    f("atomics", a.atomics, b.atomics);
  }
};

class L2 : public EventModule<L2Event> {
 public:
  L2(sc_core::sc_module_name name, const GpuSpec& gpu);

  std::vector<Outlet<GpcEvent>> to_gpcs;
  Outlet<HbmEvent> to_hbm;
  Outlet<FrontEndEvent> to_front_end;

  /// Puts [address, address + bytes) into the cache, as if just read or, `dirty`, written. Before the
  /// simulation starts.
  void install(std::uint64_t address, std::uint64_t bytes, bool dirty);

  const L2Counters& counters() const { return counters_; }
  /// Of the time for which the front end asked to keep them apart (sample_energy): of each kernel.
  const std::vector<L2Counters>& marked() const { return marked_; }
  void describe_stuck(std::vector<std::string>& out) const override;
  void report(Statistics& statistics) const override;

 private:
  static constexpr std::uint32_t kNone = 0xffffffffU;
  static constexpr unsigned kChunkRuns = 32;
  static constexpr std::uint32_t kManyMisses = 1024;  // more than the host's nearest caches hold
  static constexpr unsigned kWaitersHere = 5;

  struct BoxState {
    L2Event event;
    std::uint32_t row = 0;          // next row to serve
    std::uint32_t done_in_row = 0;  // bytes of it that have been served
    std::uint32_t offset = 0;       // of the row in its first run
    SetMap::Place place;            // of that run
    SetMap::Place step;             // from one row to the next, in whole runs
  };
  /// What arriving data needs to know of its box.
  struct BoxProgress {
    Time ready;                 // of the latest line so far
    std::uint32_t missing = 0;  // runs that wait for HBM
    std::uint8_t gpc = 0;
    bool issued = false;  // everything has been served or has missed
  };
  /// The part of a run that a box covers.
  struct Segment {
    SetMap::Place place;
    std::uint8_t sectors;  // low four bits: the run's first line
  };
  struct Waiter {
    std::uint32_t box = kNone;
    std::uint32_t sectors = 0;
    std::uint32_t next = kNone;
  };
  /// Sectors of a line on their way to a GPC.
  struct Underway {
    std::uint32_t set_and_sectors = 0, tag = 0;  ///< set * 16 + sectors
    Time ready;
  };
  static constexpr unsigned kUnderwayBits = 9;
  static constexpr std::uint32_t kUnderway =
      1U << kUnderwayBits;  // that a GPC's request coalescer keeps track of
  /// A run in flight from HBM.
  struct alignas(64) Miss {
    std::uint32_t set = 0, quotient = 0;  // which run
    std::uint32_t next = kNone;           // homeless of the same set, or free
    std::uint8_t way[2] = {0, 0};         // where its lines go, kNoWay: nowhere
    std::uint8_t sectors = 0;             // asked for
    std::uint8_t fills = 0;               // HBM reads outstanding
    bool homeless = false;                // no line of it has a way
    // Boxes that wait, the first few here: box * 8 + sectors - 1.
    std::uint8_t waiting_here = 0;
    std::uint32_t here[kWaitersHere] = {};
    std::uint32_t waiters = kNone;  // the others

    /// Starts over for another run. Field by field: the host would wait for a whole one built elsewhere.
    void begin(std::uint32_t of_set, std::uint32_t of_quotient) {
      set = of_set;
      quotient = of_quotient;
      next = waiters = kNone;
      way[0] = way[1] = TagSet::kNoWay;
      sectors = fills = waiting_here = 0;
      homeless = false;
    }
  };
  static_assert(sizeof(Miss) == 64);

  void handle(Time now, const L2Event& event) override;
  void look_over(const Arrival* arrivals, std::size_t count) override;
  void accept(Time now, const L2Event& event);
  void serve(Time now, std::uint32_t box);
  /// The next segments of the box, at most a chunk; moves the box on.
  unsigned take_segments(BoxState& box, Segment* segments) const;
  void fill(Time now, std::uint32_t miss);
  void finish_write(Time now, std::uint32_t box);
  void arrive(Time now, std::uint32_t box, std::uint32_t sectors);
  void finish_if_complete(Time now, std::uint32_t box);
  /// What a chunk of a read adds up to.
  struct Hits {
    unsigned sectors = 0, leaving = 0;  ///< sectors; of these, not on their way to the GPC already
    Time first_ready = Time::never(), last_ready;
  };
  /// Reads a segment whose slice has served it at `served`; adds to `hits` what is there.
  void read_segment(std::uint32_t box, const Segment& segment, Time served, Time ready, Hits& hits);
  /// The miss in flight for this run, or kNone.
  std::uint32_t find_miss(const SetMap::Place& place) const;
  void read_run(Time at, std::uint32_t box, const Segment& segment, std::uint8_t missing, Time ready);
  void write_run(Time at, const Segment& segment);
  /// Puts the segment into the cache at once, as if it had been read before; false if that cannot be.
  bool warm(Time at, const Segment& segment);
  /// A way of the set for the line, which replaces another; TagSet::kNoWay if all are in flight.
  unsigned allocate(Time at, std::uint32_t set, std::uint32_t tag);
  void send_to_hbm(Time at, HbmEvent::Kind kind, std::uint64_t run, std::uint8_t sectors, std::uint32_t tag);
  /// How long a slice is busy with these sectors of a run.
  Time service_of(std::uint8_t sectors) const;
  std::uint32_t slice_of(std::uint32_t set) const {
    return static_cast<std::uint32_t>(std::uint64_t{set} * slice_share_ >> 32U);
  }
  template <class Pool>
  static std::uint32_t take_free(Pool& pool, std::uint32_t& first_free);

  const GpuSpec& gpu_;
  std::uint32_t slices_;
  std::uint32_t sets_per_slice_;
  std::uint64_t slice_share_;                         // 2^32 / sets_per_slice_, rounded up
  Time sector_service_;                               // of one sector in a slice
  Time look_up_;                                      // and the least that a line takes there
  Time line_interval_;                                // between lines of a box as an SM issues them
  Time access_;                                       // slice access, hit
  Time far_;                                          // additional to the far partition and back
  Time gpc_sector_, gpc_write_sector_, link_sector_;  // on a crossbar port each way, on the partition link
  Time transit_;                                      // slice to GPC

  SetMap map_;
  SetMap::Place next_run_;
  LargeVector<TagSet> sets_;
  std::vector<Time> slice_free_;
  std::vector<Pipe> gpc_return_, gpc_request_;
  std::vector<Underway> underway_;  // kUnderway for each GPC, by a hash of the set
  Pipe link_[2];
  std::vector<BoxState> boxes_;
  std::vector<BoxProgress> progress_;  // of the boxes
  std::vector<std::uint32_t> free_boxes_;
  std::vector<Waiter> waiters_;
  std::uint32_t free_waiter_ = kNone;
  LargeVector<Miss> misses_;
  std::uint32_t free_miss_ = kNone;
  std::uint32_t misses_underway_ = 0;
  LargeVector<std::array<std::uint32_t, TagSet::kWays>> miss_of_way_;  // of each set, where a way is pending
  std::uint32_t writebacks_ = 0, most_writebacks_ = 0;  // on their way to HBM; what its queues hold
  std::deque<std::uint32_t> stalled_;                   // boxes of writes that wait for them
  std::uint64_t tile_counter_ = 0;
  bool warming_ = false;
  L2Counters counters_;
  L2Counters sampled_;
  std::vector<L2Counters> marked_;
};

}  // namespace tessera::sim
