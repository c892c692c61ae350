#pragma once
// A graphics processing cluster: its SMs, and the clusters of CTAs that live on them. One SystemC module.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/core/hardware.hpp"
#include "sim/core/module.hpp"
#include "sim/gpu/messages.hpp"
#include "sim/gpu/sm/sm.hpp"

namespace tessera::sim {

class Gpc : public EventModule<GpcEvent> {
 public:
  Gpc(sc_core::sc_module_name name, const GpuSpec& gpu, std::uint8_t index, int sms);

  Outlet<L2Event> to_l2;
  Outlet<FrontEndEvent> to_front_end;

  /// The list of kernels that prepare events speak of. Before the simulation starts.
  void set_kernels(const std::vector<std::unique_ptr<tile::Kernel>>& kernels) { kernels_ = &kernels; }
  /// Whether loop trips may be passed over. Before the simulation starts.
  void set_passes_trips(bool passes) { passes_trips_ = passes; }

  /// Has its first SM tell what its roles do. Before the simulation starts.
  void record(RoleRecorder& recorder) { sms_.front().record(recorder); }

  // For its SMs.
  const Clock& clock() const { return clock_; }
  const GpuSpec& gpu() const { return gpu_; }
  std::uint8_t index() const { return index_; }
  void resume_at(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t role);
  void arrive_remote(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t barrier, std::uint8_t rank);
  /// A role of (sm, slot) meets the others of its cluster at `at`.
  void sync_cluster(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t role);
  void cta_done(Time at, std::uint8_t sm, std::uint8_t slot);
  /// All SMs of the cluster that (sm, slot) belongs to stand still.
  void freeze_cluster(Time at, std::uint8_t sm, std::uint8_t slot, const PassedTrips::Pass& pass);
  bool passes_trips() const { return passes_trips_; }
  const PassOrder& pass_order() const { return pass_order_; }
  /// Of the cluster that (sm, slot) belongs to.
  PassedTrips& passed_trips(std::uint8_t sm, std::uint8_t slot) { return cluster_of(sm, slot).passed; }

  const std::vector<Sm>& sms() const { return sms_; }
  void describe_stuck(std::vector<std::string>& out) const override;
  void report(Statistics& statistics) const override;

 private:
  struct Place {
    std::uint8_t sm, slot;
  };
  struct Member {
    std::uint8_t sm, slot, role;
  };
  struct Cluster {
    std::uint32_t number = 0;
    std::vector<Place> ctas;  // by rank
    std::uint32_t alive = 0;
    std::vector<Member> syncing;  // roles that wait in cluster_sync
    Time latest;
    PassedTrips passed;
  };

  void handle(Time now, const GpcEvent& event) override;
  Cluster& cluster_of(std::uint8_t sm, std::uint8_t slot);
  void send_energy(Time now);

  const GpuSpec& gpu_;
  std::uint8_t index_;
  Clock clock_;
  std::vector<Sm> sms_;
  const std::vector<std::unique_ptr<tile::Kernel>>* kernels_ = nullptr;
  const tile::Kernel* kernel_ = nullptr;  // the current one
  std::vector<Cluster> clusters_;         // alive ones, few
  bool passes_trips_ = false;
  PassOrder pass_order_;
  double energy_sent_pj_ = 0;
  double tensor_sent_us_ = 0;
  std::uint64_t loads_sent_ = 0;  // bytes
};

}  // namespace tessera::sim
