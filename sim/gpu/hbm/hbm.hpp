#pragma once
// The HBM of one GPU: all pseudo-channels of all stacks. One SystemC module.
//
// Pseudo-channels do not meet: in each lookahead window every channel that has something to do runs through
// the whole window by itself.

#include <cstdint>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/hbm/address_map.hpp"
#include "sim/gpu/hbm/channel_recorder.hpp"
#include "sim/gpu/hbm/pseudo_channel.hpp"
#include "sim/gpu/messages.hpp"

namespace tessera::sim {

class Hbm : public Receiver<HbmEvent> {
 public:
  Hbm(sc_core::sc_module_name name, const HbmSpec& spec);

  /// Where the data of reads goes, as L2Event fill, hbm_to_l2 after the last beat, and word of writes done.
  void connect(Receiver<L2Event>& l2, Time latency) { to_l2_.connect(l2, latency, map_.channels()); }

  /// Tells how busy its channels are. Before the simulation starts.
  void record(ChannelRecorder& recorder) { recorder_ = &recorder; }

  /// Sum over the pseudo-channels.
  HbmCounters counters() const;
  void describe_stuck(std::vector<std::string>& out) const override;
  void report(Statistics& statistics) const override;

 private:
  void accept_inbox() override;
  void run_window(Time end) override;
  Time next_event() const override;
  /// While SMs stand still the channels would do for nothing what was waiting for them: they stop for as long
  /// as that takes when the SMs go on.
  void hold(Time now, const HbmEvent& event);
  void begin_hold();  ///< at hold_asked_, to which the channels have run
  void run_channels(Time end);
  /// The first edge of the command clock from `t` on.
  Cycle cycle_of(Time t) const;
  /// The channels' own time, which stands still meanwhile, and back.
  Time channel_time(Time t) const;
  Time real_time(Time channels) const;

  const HbmSpec& spec_;
  HbmTiming timing_;
  AddressMap map_;
  std::vector<PseudoChannel> channels_;
  std::vector<HbmLocation> located_;  // of what has arrived
  std::vector<Cycle> next_;           // of each channel, side by side for the search
  Time behind_;                       // the channels' time
  Time hold_from_ = Time::never(), hold_until_ = Time::never();
  Time hold_asked_ = Time::never();  // and not begun yet
  HbmEvent hold_;
  Outlet<L2Event> to_l2_;
  ChannelRecorder* recorder_ = nullptr;
};

}  // namespace tessera::sim
