#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

Kind hbm_stream_kind() {
  return {
      "hbm_stream",
      "drives the HBM alone: pattern=sequential|strided|random|same_bank|same_bank_group (docs/hbm.md)",
      {{"pattern"},
       {"reads", "1"},
       {"bytes", "auto"},
       {"size", "256"},
       {"stride", "4096"},
       {"in_flight", "64"},
       {"rate", "0"},
       {"seed", "1"}},
      [](const Arguments& a) -> Work {
        using sim::HbmPattern;
        return sim::HbmStream{
            .pattern = a.choice<HbmPattern>("pattern", {{"sequential", HbmPattern::sequential},
                                                        {"strided", HbmPattern::strided},
                                                        {"random", HbmPattern::random},
                                                        {"same_bank", HbmPattern::same_bank},
                                                        {"same_bank_group", HbmPattern::same_bank_group}}),
            .reads = a.number("reads", 0, 1),
            .bytes = a.is("bytes", "auto") ? 0 : a.integer("bytes"),
            .stride = a.integer("stride"),
            .size = a.choice<int>("size", {{"32", 32}, {"64", 64}, {"128", 128}, {"256", 256}}),
            .in_flight = static_cast<int>(a.number("in_flight", 1, 60'000)),
            .rate_gb_per_s = a.number("rate", 0, 1e6),
            .seed = static_cast<std::uint64_t>(a.integer("seed"))};
      },
      true};
}

}  // namespace tessera::cli
