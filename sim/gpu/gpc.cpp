#include "sim/gpu/gpc.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace tessera::sim {

Gpc::Gpc(sc_core::sc_module_name name, const GpuSpec& gpu, std::uint8_t index, int sms)
    : EventModule{name}, gpu_{gpu}, index_{index}, clock_{Clock::mhz(gpu.boost_clock_mhz)} {
  sms_.reserve(static_cast<std::size_t>(sms));
  for (int i = 0; i < sms; ++i) sms_.emplace_back(gpu.sm, *this, static_cast<std::uint8_t>(i));
}

void Gpc::resume_at(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t role) {
  schedule(at, GpcEvent{.kind = GpcEvent::Kind::resume, .to = {.sm = sm, .slot = slot, .role = role}});
}

Gpc::Cluster& Gpc::cluster_of(std::uint8_t sm, std::uint8_t slot) {
  const std::uint32_t number = sms_[sm].resident(slot).cluster;
  return *std::find_if(clusters_.begin(), clusters_.end(),
                       [&](const Cluster& c) { return c.number == number; });
}

void Gpc::arrive_remote(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t barrier,
                        std::uint8_t rank) {
  const Place to = cluster_of(sm, slot).ctas[rank];
  sms_[to.sm].arrive(at, to.slot, barrier, 1, 0, 0);
}

void Gpc::sync_cluster(Time at, std::uint8_t sm, std::uint8_t slot, std::uint8_t role) {
  Cluster& cluster = cluster_of(sm, slot);
  cluster.syncing.push_back({sm, slot, role});
  cluster.latest = max(cluster.latest, at);
  if (cluster.syncing.size() < std::size_t{kernel_->shape().cluster} * kernel_->shape().roles.size()) return;
  const Time open = cluster.latest + clock_.cycles_f(gpu_.sm.dsmem_latency);
  for (const Member& m : cluster.syncing) sms_[m.sm].leave_cluster_sync(open, m.slot, m.role);
  cluster.syncing.clear();
  cluster.latest = {};
}

void Gpc::cta_done(Time at, std::uint8_t sm, std::uint8_t slot) {
  if (kernel_->shape().cluster > 1) {
    Cluster& cluster = cluster_of(sm, slot);
    if (--cluster.alive == 0) {
      std::swap(cluster, clusters_.back());
      clusters_.pop_back();
    }
  }
  to_front_end.send_at(
      at, at + to_front_end.latency(),
      FrontEndEvent{.kind = FrontEndEvent::Kind::cta_done, .gpc = index_, .sm = sm, .slot = slot});
}

void Gpc::freeze_cluster(Time at, std::uint8_t sm, std::uint8_t slot, const PassedTrips::Pass& pass) {
  for (const Place& place : cluster_of(sm, slot).ctas) sms_[place.sm].freeze(at, pass);
}

void Gpc::handle(Time now, const GpcEvent& event) {
  const Requester& to = event.to;
  Sm& sm = sms_[to.sm];
  if (event.kind >= GpcEvent::Kind::resume && event.kind <= GpcEvent::Kind::fetched && sm.frozen(now)) {
    schedule(now + sm.frozen_for(), event);
    return;
  }
  switch (event.kind) {
    case GpcEvent::Kind::resume:
      sm.run(now, to.slot, to.role);
      break;
    case GpcEvent::Kind::loaded:
      if (!to.tma) {
        sm.load_arrived(now, to.slot, to.role, event.bytes);
      } else if (to.cluster_mask == 0) {
        sm.tma_arrived(now, to.slot, to.barrier, event.bytes, true, to.copied);
      } else {
        const Cluster& cluster = cluster_of(to.sm, to.slot);
        for (unsigned rank = 0; rank < cluster.ctas.size(); ++rank) {
          if ((to.cluster_mask >> rank & 1U) == 0) continue;
          const Place place = cluster.ctas[rank];
          sms_[place.sm].tma_arrived(now, place.slot, to.barrier, event.bytes,
                                     place.sm == to.sm && place.slot == to.slot, false);
        }
      }
      break;
    case GpcEvent::Kind::stored:
      sm.store_taken(now, to.slot, to.role);
      break;
    case GpcEvent::Kind::fetched:
      sm.tile_fetched(now, to.slot, to.role, event.value);
      break;
    case GpcEvent::Kind::prepare:
      kernel_ = (*kernels_)[event.value].get();
      pass_order_ = {};  // may reach beyond the end of the kernel that it was for
      for (Sm& each : sms_) each.prepare(*kernel_, event.bytes);
      break;
    case GpcEvent::Kind::launch: {
      const auto cta = static_cast<std::uint32_t>(event.value);
      const auto number = static_cast<std::uint32_t>(event.value >> 32U);
      const std::uint32_t size = kernel_->shape().cluster;
      const std::uint32_t rank = cta % size;
      if (size > 1) {
        if (rank == 0)
          clusters_.push_back(Cluster{.number = number, .ctas = std::vector<Place>(size), .alive = size});
        auto cluster = std::find_if(clusters_.begin(), clusters_.end(),
                                    [&](const Cluster& c) { return c.number == number; });
        cluster->ctas[rank] = Place{to.sm, to.slot};
      }
      sm.launch(now, to.slot, tile::Cta{.index = cta, .rank = rank}, number);
      break;
    }
    case GpcEvent::Kind::set_clock:
      clock_ = Clock::mhz(1e9 / static_cast<double>(event.value));
      break;
    case GpcEvent::Kind::pass_trips:
      pass_order_ = {Time{static_cast<std::int64_t>(event.value)}, Time::picoseconds(event.bytes)};
      break;
    case GpcEvent::Kind::sample_energy:
      send_energy(now);
      break;
  }
}

void Gpc::send_energy(Time now) {
  const PowerSpec& p = gpu_.power;
  double pj = 0;
  double tensor_us = 0;
  std::uint64_t loads = 0;
  TripProgress trips;
  for (Sm& sm : sms_) {
    trips += sm.take_progress(now);
    loads += sm.counters().load_bytes_requested;
    SmCounters c = sm.counters();
    c += sm.passed();
    const auto l2_bytes = static_cast<double>(c.load_bytes_requested + c.store_bytes);
    pj += c.tensor_flops * p.tensor_pj_per_flop + 2 * c.fp32_ops * p.fp32_pj_per_flop +
          c.mufu_ops * p.mufu_pj_per_op + static_cast<double>(c.shared_bytes) * p.shared_pj_per_byte +
          l2_bytes * p.l2_pj_per_byte;
    tensor_us += sm.tensor_busy().us();
  }
  to_front_end.send(now,
                    FrontEndEvent{.kind = FrontEndEvent::Kind::energy,
                                  .gpc = index_,
                                  .energy_pj = pj - std::exchange(energy_sent_pj_, pj),
                                  .activity = tensor_us - std::exchange(tensor_sent_us_, tensor_us),
                                  .loads = static_cast<double>(loads - std::exchange(loads_sent_, loads)),
                                  .trips = trips});
}

void Gpc::describe_stuck(std::vector<std::string>& out) const {
  for (std::size_t i = 0; i < sms_.size(); ++i)
    sms_[i].describe_stuck(fmt::format("{}.sm{}", name(), i), out);
}

void Gpc::report(Statistics& statistics) const {
  for (const Sm& sm : sms_) sm.report("sm.", statistics);
}

}  // namespace tessera::sim
