// hbm_stream against what the timing constraints imply in closed form (docs/hbm.md), on every GPU.

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "configs/reader/hardware.hpp"
#include "sim/gpu/hbm/stream.hpp"
#include "tests/sim/gpu/hbm_trace_check.hpp"

namespace tessera::sim {
namespace {

using Catch::Approx;

HbmSpec hbm_of(const std::string& gpu) {
  return config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware" / (gpu + ".yaml"))
      .hbm;
}

double d(Cycle c) { return static_cast<double>(c); }

/// Calls test(spec, timing) for each GPU.
template <class Test>
void on_every_gpu(Test test) {
  for (const char* gpu : {"a100_sxm_80gb", "h100_sxm", "h200_sxm", "hbm3_6400"}) {
    INFO(gpu);
    HbmSpec spec = hbm_of(gpu);
    spec.stacks = 1;  // channels do not know of each other
    spec.per_bank_refresh = true;
    spec.refresh_exclusive = false;  // the closed forms are of the standard, not of one controller
    test(spec, HbmTiming{spec});
  }
}

double share_of_peak(const HbmStreamResult& r) { return r.gb_per_s / r.peak_gb_per_s; }

TEST_CASE("sequential reads: the bus rate, per-bank refresh hidden behind other banks") {
  on_every_gpu([](const HbmSpec& spec, const HbmTiming&) {
    for (const int size : {32, 64, 128, 256}) {
      INFO(size << " B");
      const HbmStreamResult r = run_hbm_stream(
          spec,
          {.pattern = HbmPattern::sequential, .bytes = 6 << 20, .size = size, .in_flight = 64 * 256 / size});
      CHECK(share_of_peak(r) == Approx(1.0).epsilon(0.02));
    }
  });
}

TEST_CASE("sequential reads under all-bank refresh: less tRTP + tRP + tRFC + tRCD in each tREFI") {
  on_every_gpu([](HbmSpec spec, const HbmTiming&) {
    spec.per_bank_refresh = false;
    const HbmTiming t{spec};
    const HbmStreamResult r = run_hbm_stream(spec, {.pattern = HbmPattern::sequential});
    const double lost = d(t.rtp + t.rp + t.rfc + t.rcd_rd - t.ccd_s) / d(t.refi);
    CHECK(share_of_peak(r) == Approx(1 - lost).epsilon(0.02));
    CHECK(r.lost.refresh == Approx(lost).epsilon(0.25));
  });
}

TEST_CASE("new rows of one bank: one access in tRC, less tRFC in each tREFI") {
  on_every_gpu([](const HbmSpec& spec, const HbmTiming& t) {
    const HbmStreamResult r = run_hbm_stream(spec, {.pattern = HbmPattern::same_bank, .size = 32});
    const double banks = spec.bank_groups * spec.banks_per_group * spec.stack_ids;
    CHECK(share_of_peak(r) == Approx(d(t.bl) / d(t.rc) * (1 - d(t.rfc) / (d(t.refi) * banks))).epsilon(0.02));
    CHECK(r.row_hit_rate == 0);
  });
}

TEST_CASE("one bank group: one access in tCCD_L") {
  on_every_gpu([](const HbmSpec& spec, const HbmTiming& t) {
    const HbmStreamResult r = run_hbm_stream(spec, {.pattern = HbmPattern::same_bank_group});
    CHECK(share_of_peak(r) == Approx(d(t.bl) / d(t.ccd_l)).epsilon(0.02));
    CHECK(r.lost.bank_groups == Approx(1 - d(t.bl) / d(t.ccd_l)).epsilon(0.05));
  });
}

TEST_CASE("random 32 B: four activates in tFAW, less what refresh commands take from them") {
  on_every_gpu([](HbmSpec spec, const HbmTiming& t) {
    const HbmStream stream{.pattern = HbmPattern::random, .bytes = 8 << 20, .size = 32};
    const double each = d(t.faw) / 4;
    const double per_refresh = d(t.rrd_s + t.rrefd) - each;
    CHECK(share_of_peak(run_hbm_stream(spec, stream)) ==
          Approx(d(t.bl) / each * (1 - per_refresh / d(t.refi))).epsilon(0.02));
    spec.trefi_ns = 1e9;
    CHECK(share_of_peak(run_hbm_stream(spec, stream)) == Approx(d(t.bl) / each).epsilon(0.02));
  });
}

TEST_CASE("loaded latency in a closed loop obeys Little's law") {
  on_every_gpu([](const HbmSpec& spec, const HbmTiming& t) {
    for (const HbmPattern pattern : {HbmPattern::sequential, HbmPattern::random, HbmPattern::same_bank}) {
      const HbmStream stream{.pattern = pattern};
      const HbmStreamResult r = run_hbm_stream(spec, stream);
      const double per_ns = static_cast<double>(r.requests) / r.channels / r.duration.ns();
      CHECK(r.latency.mean_ns == Approx(stream.in_flight / per_ns).epsilon(0.05));
    }
    // A single request at a time sees an idle bank: activate, read, burst of the run's last access.
    const HbmStreamResult idle =
        run_hbm_stream(spec, {.pattern = HbmPattern::random, .bytes = 1 << 20, .size = 32, .in_flight = 1});
    CHECK(idle.latency.p50_ns >= (t.ck * (t.rcd_rd + t.cl + t.bl)).ns() * 0.999);
  });
}

TEST_CASE("an offered rate below the peak is served at that rate") {
  on_every_gpu([](const HbmSpec& spec, const HbmTiming&) {
    const double peak = run_hbm_stream(spec, {.pattern = HbmPattern::random, .bytes = 1 << 20}).peak_gb_per_s;
    double before = 0;
    for (const double share : {0.2, 0.5, 0.8}) {
      const HbmStreamResult r = run_hbm_stream(
          spec, {.pattern = HbmPattern::random, .bytes = 10 << 20, .rate_gb_per_s = share * peak});
      CHECK(r.gb_per_s == Approx(share * peak).epsilon(0.02));
      CHECK(r.latency.mean_ns > before);  // the more is offered, the longer it takes
      before = r.latency.mean_ns;
    }
  });
}

TEST_CASE("turnarounds: tRTW and tWTR in each pair of groups, whatever their size") {
  on_every_gpu([](HbmSpec spec, const HbmTiming&) {
    spec.trefi_ns = 1e9;
    spec.read_queue = spec.write_queue = 512;
    for (const int group : {8, 16, 32, 64}) {
      INFO("groups of " << group);
      spec.write_drain_low = 16;
      spec.write_drain_high = 16 + group;
      const HbmTiming t{spec};
      // One row in each bank, so that turning costs no activates: 16 KiB over and over.
      const double reads = 0.5;
      PseudoChannel channel{spec, t};
      std::int64_t sent = 0, done = 0, n = 40'000;
      Cycle end = 0;
      std::vector<Cycle> freed;
      const auto send = [&](Cycle at) {
        channel.push(
            {.at = at, .bank = static_cast<std::uint32_t>(sent / 2 % 16), .row = 0, .write = sent % 2 == 1});
        ++sent;
      };
      while (sent < 160) send(0);
      while (done < n) {
        channel.run(channel.next() + 1, [&](const PseudoChannel::Completion& c) {
          ++done;
          end = std::max(end, c.data_end);
          freed.push_back(c.data_end);
        });
        for (const Cycle at : freed) send(at);
        freed.clear();
      }
      // While a group of writes drains, half of what replaces them are writes too: the group is twice as
      // long.
      const double accesses = 8 * (group / (1 - reads)) * 2;
      const double cycles = accesses * d(t.ccd_s) + d(t.rtw + t.wtr_s - 2 * t.ccd_s);
      CHECK(8.0 * static_cast<double>(n) / d(end) == Approx(accesses / cycles).epsilon(0.02));
    }
  });
}

TEST_CASE("no pattern violates a timing constraint") {
  on_every_gpu([](HbmSpec spec, const HbmTiming&) {
    spec.channels_per_stack = 2;
    for (const HbmPattern pattern : {HbmPattern::sequential, HbmPattern::strided, HbmPattern::random,
                                     HbmPattern::same_bank, HbmPattern::same_bank_group}) {
      for (const double reads : {1.0, 0.7, 0.5, 0.0}) {
        for (const int size : {32, 256}) {
          for (int variant = 0; variant < 4; ++variant) {
            HbmSpec s = spec;
            s.per_bank_refresh = variant != 1;
            s.refresh_exclusive = variant == 2;
            s.stack_ids = variant == 3 ? 2 : 1;
            INFO("pattern " << static_cast<int>(pattern) << " reads " << reads << " size " << size
                            << " variant " << variant);
            const HbmStreamResult r =
                run_hbm_stream(s,
                               {.pattern = pattern,
                                .reads = reads,
                                .bytes = 1 << 18,
                                .size = size,
                                .rate_gb_per_s = size == 32 ? 0.0 : 60},
                               [&](std::uint32_t, const std::vector<HbmCommand>& commands) {
                                 REQUIRE(violation_of(s, commands) == "");
                               });
            REQUIRE(r.bytes == 1 << 18);
            // Refreshes are not put off for good: one in each interval. (Channels end at different times.)
            const double due = r.duration.ns() / s.trefi_ns * r.channels *
                               (s.per_bank_refresh ? s.bank_groups * s.banks_per_group * s.stack_ids : 1);
            CHECK(static_cast<double>(r.commands.refreshes) <= 1.005 * due + 2);
            CHECK(static_cast<double>(r.commands.refreshes) >= 0.9 * due - 2 * r.channels);
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace tessera::sim
