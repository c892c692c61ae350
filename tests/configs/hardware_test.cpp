#include "configs/reader/hardware.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "configs/reader/document.hpp"

namespace tessera::config {
namespace {

namespace fs = std::filesystem;
const fs::path kConfigs = fs::path{TESSERA_SOURCE_DIR} / "configs";

std::string text_of(const fs::path& file) {
  std::ostringstream s;
  s << std::ifstream{file}.rdbuf();
  return s.str();
}

/// What reading h200_sxm.yaml says after replacing `from` by `to`.
std::string complaint_after(const std::string& from, const std::string& to) {
  std::string text = text_of(kConfigs / "hardware/h200_sxm.yaml");
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
  const fs::path file = fs::temp_directory_path() / "tessera_hardware_test.yaml";
  std::ofstream{file} << text;
  try {
    (void)read_gpu(file);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

TEST_CASE("every GPU and fabric file is valid") {
  int gpus = 0, fabrics = 0;
  for (const auto& f : fs::directory_iterator{kConfigs / "hardware"}) {
    const GpuSpec g = read_gpu(f.path());
    CHECK(g.name == f.path().stem());
    ++gpus;
  }
  for (const auto& f : fs::directory_iterator{kConfigs / "fabrics"}) {
    CHECK(read_fabric(f.path()).name == f.path().stem());
    ++fabrics;
  }
  CHECK(gpus >= 3);
  CHECK(fabrics >= 6);
}

TEST_CASE("the H200 adds up to its datasheet") {
  const GpuSpec g = read_gpu(kConfigs / "hardware/h200_sxm.yaml");
  CHECK(g.sms() == 132);
  const double hbm = g.hbm.stacks * 1024 * g.hbm.pin_gbps / 8;
  CHECK(hbm == Catch::Approx(4800));
  CHECK(g.sms() * g.sm.tensor_flops_per_cycle * 1830e6 == Catch::Approx(989.4e12).epsilon(1e-3));
  const GpuSpec a = read_gpu(kConfigs / "hardware/a100_sxm_80gb.yaml");
  CHECK(a.sms() * a.sm.tensor_flops_per_cycle * a.boost_clock_mhz * 1e6 ==
        Catch::Approx(312e12).epsilon(1e-2));
}

TEST_CASE("bad hardware is refused at file, line and key") {
  CHECK(complaint_after("  mufu_per_cycle: {value: 16", "  mufu_per_cycle: {value: sixteen")
            .find(": sm.mufu_per_cycle.value: expected a number") != std::string::npos);
  CHECK(complaint_after("  mufu_per_cycle:", "  mufu_per_cycl:").find("did you mean 'mufu_per_cycle'?") !=
        std::string::npos);
  CHECK(complaint_after("  max_ctas: {value: 32, source:", "  max_ctas: {value: 32, sauce:")
            .find("sm.max_ctas") != std::string::npos);
  CHECK(
      complaint_after("  max_ctas: {value: 32", "  max_ctas: {value: 0").find("must be at least 1, not 0") !=
      std::string::npos);
  CHECK(complaint_after("  slices: {value: 96", "  slices: {value: 95")
            .find("must be a multiple of partitions") != std::string::npos);
  CHECK(complaint_after("architecture: hopper", "architecture: hoper").find("did you mean 'hopper'?") !=
        std::string::npos);
}

}  // namespace
}  // namespace tessera::config
