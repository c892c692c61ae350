#include "configs/reader/calibration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "configs/reader/hardware.hpp"
#include "configs/reader/parameters.hpp"

namespace tessera::config {
namespace {

namespace fs = std::filesystem;
const fs::path kH200 = fs::path{TESSERA_SOURCE_DIR} / "configs/hardware/h200_sxm.yaml";
constexpr const char* kKey = "l2.gpc_write_bytes_per_cycle";

/// The H200 with one fitted number, uncalibrated, whatever the file holds at present.
std::string h200_text() {
  std::ostringstream s;
  s << std::ifstream{kH200}.rdbuf();
  const std::string marks = R"(, fitted: true|, bounds: \[[^\]]*\]|, standard_error: [^,}]*)";
  const std::string text = std::regex_replace(
      std::regex_replace(s.str(), std::regex{marks}, ""), std::regex{R"(gpc_write_bytes_per_cycle: \{.*\})"},
      R"(gpc_write_bytes_per_cycle: {value: 450, source: "a test", fitted: true, bounds: [256, 640]})");
  return with_calibration(text, "h200.yaml", "h200_sxm", {}, {});
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  INFO(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

/// What reading the text as a GPU says.
std::string complaint(const std::string& text) {
  try {
    (void)read_gpu(Document::parse(text, "h200.yaml"));
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

std::string complaint_after(const std::string& from, const std::string& to) {
  return complaint(replaced(h200_text(), from, to));
}

Parameter parameter(const Document& document, const std::string& key) {
  for (const Parameter& p : parameters_of(document))
    if (p.key == key) return p;
  FAIL("no parameter " << key);
  return {};
}

Calibration some_calibration() {
  const HeldOut held_out{.count = 30,
                         .mape_percent = 6.5,
                         .median_ape_percent = 5,
                         .p90_ape_percent = 12,
                         .max_ape_percent = 20,
                         .bias_percent = -1.5,
                         .log_mean = -0.0125,
                         .log_sd = 0.0625};
  Calibration c{.base = "h200_sxm"};
  FidelityCalibration& f = c.fidelities["cycle"];
  f.files = {{"gemm \"odd\": {name}.csv", 20}, {"b.csv", 10}};
  f.rows_hash = "0123456789abcdef";
  f.sample = 30;
  f.seed = 7;
  f.max_ms = 0.3;
  f.folds = 5;
  f.kinds["gemm"] = {.held_out = held_out,
                     .flops = {1e6, 2.5e12},
                     .bytes = {1e4, 1e9},
                     .latency_us = {2.5, 300},
                     .traits = {{"dtype", {"bf16", "fp16"}}, {"launch", {"graph"}}}};
  f.groups["gemm_large"] = held_out;
  return c;
}

std::string calibrated_text() {
  Parameter p = parameter(Document::parse(h200_text(), "h200.yaml"), kKey);
  p.value = 512.5;
  p.standard_error = 12.25;
  return with_calibration(h200_text(), "h200.yaml", "my_h200", {p}, some_calibration());
}

TEST_CASE("parameters are the numbers of the file, with what may be done to them") {
  const auto document = Document::parse(h200_text(), "h200.yaml");
  const Parameter write = parameter(document, kKey);
  CHECK(write.fitted);
  REQUIRE(write.bounds);
  CHECK(write.bounds->low < write.value);
  CHECK(write.value < write.bounds->high);
  CHECK(parameter(document, "sm.subcores").value == 4);
  CHECK_FALSE(parameter(document, "sm.subcores").fitted);
  for (const Parameter& p : parameters_of(document)) {
    CHECK(p.key != "sm.has_tma");
    CHECK(p.key != "gpc_sms");
    CHECK(p.fitted == p.bounds.has_value());
  }
}

TEST_CASE("every fitted number of every GPU has bounds around it, and there are few") {
  for (const auto& file : fs::directory_iterator{kH200.parent_path()}) {
    INFO(file.path().string());
    std::size_t fitted = 0;
    for (const Parameter& p : parameters_of(Document::read(file.path()))) fitted += p.fitted ? 1 : 0;
    CHECK(fitted > 0);
    CHECK(fitted <= kMostFitted);
  }
}

TEST_CASE("a GPU with other values is read as if the file had them") {
  auto document = Document::read(kH200);
  const GpuSpec gpu = gpu_with(document, {kKey, "launch.graph_launch_us"}, {301.25, 1.75});
  CHECK(gpu.l2.gpc_write_bytes_per_cycle == 301.25);
  CHECK(gpu.launch.graph_launch_us == 1.75);
  CHECK(gpu.l2.gpc_bytes_per_cycle == read_gpu(kH200).l2.gpc_bytes_per_cycle);
  CHECK_THROWS_AS(gpu_with(document, {"sm.max_ctas"}, {3.5}), InputError);
  CHECK_THROWS_AS(gpu_with(document, {"power.idle_w"}, {1e6}), InputError);
}

TEST_CASE("bad bounds are refused at file, line and key") {
  const std::string at = "bounds: [256, 640]";
  CHECK(complaint_after(", " + at, "")
            .find(": l2.gpc_write_bytes_per_cycle: a fitted number needs its bounds") != std::string::npos);
  CHECK(complaint_after(at, "bounds: [256]")
            .find("l2.gpc_write_bytes_per_cycle.bounds: expected two numbers") != std::string::npos);
  CHECK(complaint_after(at, "bounds: 256").find("expected a list") != std::string::npos);
  CHECK(complaint_after(at, "bounds: [640, 256]").find("lower bound first, not [640, 256]") !=
        std::string::npos);
  CHECK(complaint_after(at, "bounds: [low, 640]").find("expected a number, not 'low'") != std::string::npos);
  CHECK(complaint_after(at, "bounds: [460, 640]")
            .find(": l2.gpc_write_bytes_per_cycle.value: must lie within "
                  "its bounds [460, 640], not 450") != std::string::npos);
  CHECK(complaint_after(at, at + ", standard_error: -1").find("must be at least 0") != std::string::npos);
  CHECK(complaint_after("max_ctas: {value: 32,", "max_ctas: {value: 32, standard_error: 1,")
            .find("only a fitted number has a standard error") != std::string::npos);
  CHECK(complaint_after(at, at + ", bound: [1, 2]").find("did you mean 'bounds'?") != std::string::npos);
  // What --set gives is a what-if: it may lie outside.
  auto document = Document::read(kH200);
  document.set(std::string{kKey} + ".value", "1000");
  CHECK(read_gpu(document).l2.gpc_write_bytes_per_cycle == 1000);
}

TEST_CASE("more than 12 fitted numbers are refused") {
  std::string text = h200_text();
  // tck_ns, tcl_ns, ... are in a row: mark one after the other until it is too much.
  int marked = 1;
  for (const char* key : {"tcl_ns", "tcwl_ns", "trcd_rd_ns", "trcd_wr_ns", "trp_ns", "tras_ns", "trc_ns",
                          "trefi_ns", "trfc_ab_ns", "tfaw_ns", "trfc_pb_ns"}) {
    text = replaced(text, fmt::format("  {}: {{", key),
                    fmt::format("  {}: {{fitted: true, bounds: [0, 10000], ", key));
    ++marked;
    CHECK(complaint(text) == "");
  }
  CHECK(marked == kMostFitted);
  text = replaced(text, "  twr_ns: {", "  twr_ns: {fitted: true, bounds: [0, 10000], ");
  CHECK(complaint(text).find("more than 12 fitted numbers") != std::string::npos);
}

TEST_CASE("what is written is read back") {
  const std::string text = calibrated_text();
  const auto document = Document::parse(text, "h200.yaml");
  const GpuSpec gpu = read_gpu(document);
  CHECK(gpu.name == "my_h200");
  CHECK(gpu.l2.gpc_write_bytes_per_cycle == 512.5);
  CHECK(gpu.calibration == "calibrated (cycle: 30 rows)");
  CHECK(parameter(document, kKey).standard_error == 12.2);  // three digits
  CHECK(parameter(document, kKey).bounds->high == 640);

  const Calibration c = read_calibration(document), meant = some_calibration();
  CHECK(c.base == "h200_sxm");
  CHECK_FALSE(c.stale);
  REQUIRE(c.fidelities.size() == 1);
  const FidelityCalibration &f = c.fidelities.at("cycle"), &m = meant.fidelities.at("cycle");
  CHECK(f.files == m.files);
  CHECK(f.rows() == 30);
  CHECK(f.rows_hash == m.rows_hash);
  CHECK(f.sample == 30);
  CHECK(f.seed == 7);
  CHECK(f.max_ms == 0.3);
  CHECK(f.folds == 5);
  const KindCalibration& gemm = f.kinds.at("gemm");
  CHECK(gemm.held_out.count == 30);
  CHECK(gemm.held_out.bias_percent == -1.5);
  CHECK(gemm.held_out.log_mean == -0.0125);
  CHECK(gemm.held_out.log_sd == 0.0625);
  CHECK(gemm.flops.most == 2.5e12);
  CHECK(gemm.latency_us.least == 2.5);
  CHECK(gemm.traits == m.kinds.at("gemm").traits);
  CHECK(f.groups.at("gemm_large").max_ape_percent == 20);
}

TEST_CASE("all else stays as it was, comments too, and it can be written again") {
  const std::string before = h200_text(), text = calibrated_text();
  std::istringstream old{before}, now{text};
  std::vector<std::string> lines;
  for (std::string line; std::getline(now, line);) lines.push_back(line);
  std::size_t kept = 0, of = 0;
  for (std::string line; std::getline(old, line); ++of)
    kept += std::count(lines.begin(), lines.end(), line) > 0;
  CHECK(of - kept == 3);  // name, calibration, the number
  CHECK(lines.front()[0] == '#');

  const auto document = Document::parse(text, "h200.yaml");
  const std::string again =
      with_calibration(text, "h200.yaml", "my_h200", {parameter(document, kKey)}, read_calibration(document));
  CHECK(again == text);
  const std::string cleared = with_calibration(text, "h200.yaml", "h200_sxm", {}, {});
  CHECK(read_calibration(Document::parse(cleared, "h200.yaml")).fidelities.empty());
}

TEST_CASE("a value changed since says that the calibration no longer holds") {
  const auto changed = Document::parse(
      replaced(calibrated_text(), "hit_latency: {value: 200", "hit_latency: {value: 201"), "h.yaml");
  CHECK(read_calibration(changed).stale);
  CHECK(summary_of(read_calibration(changed)) == "uncalibrated (changed since it was calibrated)");
  const auto priced = Document::parse(
      replaced(calibrated_text(), "price_usd_per_hour: {value: 4.5396", "price_usd_per_hour: {value: 3"),
      "h.yaml");
  CHECK_FALSE(read_calibration(priced).stale);
  auto set = Document::parse(calibrated_text(), "h.yaml");
  set.set("l2.hit_latency.value", "201");
  CHECK(read_calibration(set).stale);
  set.set("l2.hit_latency.value", "200.0");
  CHECK_FALSE(read_calibration(set).stale);
}

TEST_CASE("a malformed calibration is refused at file, line and key") {
  CHECK(complaint_after("calibration: uncalibrated", "calibration: calibrated")
            .find("'calibrated' is none of") != std::string::npos);
  CHECK(complaint_after("calibration: uncalibrated", "calibration: {base: a, values_hash: b}")
            .find("calibration: expected the fidelity") != std::string::npos);
  const std::string good = calibrated_text();
  const auto after = [&](const std::string& from, const std::string& to) {
    return complaint(replaced(good, from, to));
  };
  CHECK(after("    folds: 5", "    folds: 1").find("calibration.cycle.folds: must be at least 2, not 1") !=
        std::string::npos);
  CHECK(after("  cycle:", "  cycles:").find("did you mean 'cycle'?") != std::string::npos);
  CHECK(after("mape_percent: 6.5, median", "mape_percent: -6.5, median").find("must be at least 0") !=
        std::string::npos);
  CHECK(after("flops: [1000000, ", "flops: [9e20, ").find("expected the least first") != std::string::npos);
  CHECK(after("latency_us: [2.5, 300]", "latency_us: [2.5]").find("expected two numbers") !=
        std::string::npos);
  CHECK(after("    rows_hash:", "    rowshash:").find("did you mean 'rows_hash'?") != std::string::npos);
  CHECK(after("{count: 30, mape", "{count: 0, mape").find("must be at least 1") != std::string::npos);
}

TEST_CASE("a number that is spread over lines is not rewritten") {
  const std::string text = replaced(h200_text(), "gpc_write_bytes_per_cycle: {value: 450,",
                                    "gpc_write_bytes_per_cycle:\n    {value: 450,");
  REQUIRE(complaint(text) == "");
  const Parameter p = parameter(Document::parse(text, "h200.yaml"), kKey);
  try {
    (void)with_calibration(text, "h200.yaml", "x", {p}, {});
    FAIL("was rewritten");
  } catch (const InputError& e) {
    CHECK(std::string{e.what()}.find(": l2.gpc_write_bytes_per_cycle: calibrate changes only") !=
          std::string::npos);
  }
}

}  // namespace
}  // namespace tessera::config
