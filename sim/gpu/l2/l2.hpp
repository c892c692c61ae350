#pragma once
// The L2 cache and the crossbar in front of it. One SystemC module.
//
// A request is a box of lines. It is served in chunks at the pace at which the SM's TMA or load-store
// unit issues them: each line goes to its address-hashed slice, hits or waits for HBM (misses to a line
// in flight join it), and returns through the partition link if the slice is on the far side and through
// the crossbar port of the SM's GPC. The reply to the SM is sent when the last line of the box is there.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/core/pipe.hpp"
#include "sim/gpu/l2/tag_store.hpp"
#include "sim/gpu/messages.hpp"

namespace tessera::sim {

struct L2Counters {
  std::uint64_t read_sectors = 0, hit_sectors = 0, merged_sectors = 0, write_sectors = 0;
  std::uint64_t read_bytes = 0, write_bytes = 0;  ///< asked for and sent by SMs
  std::uint64_t returned_bytes = 0;               ///< delivered to SMs
  std::uint64_t fill_sectors = 0, writeback_sectors = 0;
  std::uint64_t far_lines = 0, atomics = 0;
};

class L2 : public EventModule<L2Event> {
 public:
  L2(sc_core::sc_module_name name, const GpuSpec& gpu);

  std::vector<Outlet<GpcEvent>> to_gpcs;
  Outlet<HbmEvent> to_hbm;
  Outlet<FrontEndEvent> to_front_end;

  /// Puts [address, address + bytes) into the cache, clean, as if just used. Before the simulation starts.
  void install(std::uint64_t address, std::uint64_t bytes);

  const L2Counters& counters() const { return counters_; }
  void describe_stuck(std::vector<std::string>& out) const override;
  void report(Statistics& statistics) const override;

 private:
  static constexpr std::uint32_t kNone = 0xffffffffU;
  static constexpr unsigned kChunkLines = 32;

  struct BoxState {
    L2Event event;
    std::uint32_t row = 0;  // next line to serve
    std::uint32_t line_in_row = 0;
    std::uint32_t missing = 0;  // lines that wait for HBM
    bool issued = false;        // every line has been served or has missed
    Time ready;                 // of the latest line so far
  };
  struct Line {
    std::uint32_t number, slice, set;
    std::uint8_t sectors;
  };
  struct Waiter {
    std::uint32_t box;
    std::uint32_t next;
  };
  struct Miss {
    std::uint32_t slot = kNone;  // tag slot, kNone: not allocated
    std::uint32_t waiters = kNone;
    std::uint32_t next_free = kNone;
    std::uint8_t sectors = 0;
    std::uint8_t fills = 0;  // HBM reads outstanding
  };

  void handle(Time now, const L2Event& event) override;
  void serve(Time now, std::uint32_t box);
  /// The next lines of the box, at most a chunk; moves the box on.
  unsigned take_lines(BoxState& box, Line* lines) const;
  void fill(Time now, std::uint32_t miss);
  void finish_if_complete(Time now, std::uint32_t box);
  void read_line(Time at, std::uint32_t box, const Line& line, std::uint32_t slot, Time ready);
  void write_line(Time at, const Line& line, std::uint32_t slot);
  std::uint32_t allocate(Time at, std::uint32_t set, std::uint32_t line);
  std::uint32_t slice_of(std::uint32_t line) const;
  std::uint32_t set_of(std::uint32_t line, std::uint32_t slice) const;

  const GpuSpec& gpu_;
  std::uint32_t slices_;
  std::uint32_t sets_per_slice_;
  Time sector_service_;        // of one sector in a slice
  Time line_interval_;         // between lines of a box as an SM issues them
  Time access_;                // slice access, hit
  Time far_;                   // additional to the far partition and back
  Time gpc_line_, link_line_;  // one line on a crossbar port, on the partition link
  Time transit_;               // slice to GPC

  TagStore tags_;
  std::vector<std::uint32_t> miss_of_slot_;
  std::vector<Time> slice_free_;
  std::vector<Pipe> gpc_return_, gpc_request_;
  Pipe link_[2];
  std::vector<BoxState> boxes_;
  std::vector<std::uint32_t> free_boxes_;
  std::vector<Waiter> waiters_;
  std::uint32_t free_waiter_ = kNone;
  std::vector<Miss> misses_;
  std::uint32_t free_miss_ = kNone;
  std::uint64_t tile_counter_ = 0;
  L2Counters counters_;
  std::uint64_t energy_sectors_sent_ = 0;
};

}  // namespace tessera::sim
