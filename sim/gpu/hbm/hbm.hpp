#pragma once
// The HBM of one GPU: all pseudo-channels of all stacks. One SystemC module.

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/hbm/address_map.hpp"
#include "sim/gpu/hbm/pseudo_channel.hpp"
#include "sim/gpu/messages.hpp"

namespace tessera::sim {

class Hbm : public EventModule<HbmEvent> {
 public:
  Hbm(sc_core::sc_module_name name, const HbmSpec& spec);

  /// Data of reads, as L2Event fill, hbm_to_l2 after the last beat.
  Outlet<L2Event> to_l2;

  /// Sum over the pseudo-channels.
  HbmCounters counters() const;
  void describe_stuck(std::vector<std::string>& out) const override;
  void report(Statistics& statistics) const override;

 private:
  struct Channel {
    PseudoChannel scheduler;
    std::deque<PseudoChannel::Request> overflow;  // requests beyond the scheduler's queues
    Time tick = Time::never();                    // the earliest pending tick
  };

  void handle(Time now, const HbmEvent& event) override;
  void serve(Time now, std::uint32_t index);

  const HbmSpec& spec_;
  HbmTimings timings_;
  AddressMap map_;
  std::vector<Channel> channels_;
};

}  // namespace tessera::sim
