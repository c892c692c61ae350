// The cycle model's memory: HBM streams, and lookups of L2 tags.

#include <benchmark/benchmark.h>

#include <random>
#include <systemc>

#include "configs/reader/hardware.hpp"
#include "sim/gpu/hbm/stream.hpp"
#include "sim/gpu/l2/tag_store.hpp"

namespace tessera::sim {
namespace {

void hbm_stream(benchmark::State& state, HbmPattern pattern, double reads) {
  const GpuSpec gpu =
      config::read_gpu(std::filesystem::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml");
  std::int64_t requests = 0;
  for (auto _ : state) {
    requests += run_hbm_stream(gpu.hbm, {.pattern = pattern, .reads = reads, .bytes = 64 << 20}).requests;
  }
  state.SetItemsProcessed(requests);
}
BENCHMARK_CAPTURE(hbm_stream, sequential, HbmPattern::sequential, 1.0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(hbm_stream, random, HbmPattern::random, 1.0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(hbm_stream, random_half_writes, HbmPattern::random, 0.5)->Unit(benchmark::kMillisecond);

/// A lookup that hits, in sets that the host's caches do not hold.
void l2_tag_lookup(benchmark::State& state) {
  std::vector<TagSet> sets(30720);
  for (TagSet& set : sets) {
    for (std::uint32_t tag = 0; tag < TagSet::kWays; ++tag) set.replace(set.victim(), tag);
  }
  std::mt19937 random{1};
  std::vector<std::uint32_t> order(1 << 16);
  for (std::uint32_t& set : order) set = static_cast<std::uint32_t>(random() % sets.size());
  std::size_t next = 0;
  for (auto _ : state) {
    TagSet& set = sets[order[next % order.size()]];
    const unsigned way = set.find(static_cast<std::uint32_t>(next) % TagSet::kWays);
    if (way != TagSet::kNoWay) set.touch(way);
    benchmark::DoNotOptimize(way);
    ++next;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(l2_tag_lookup);

void l2_set_of_run(benchmark::State& state) {
  const SetMap map{30720};
  std::uint64_t run = 0;
  for (auto _ : state) benchmark::DoNotOptimize(map.place(run += 12345));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(l2_set_of_run);

}  // namespace
}  // namespace tessera::sim

// SystemC, which the cycle model links, owns main().
int sc_main(int argc, char* argv[]) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
