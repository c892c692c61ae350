#include "validate/error_bar.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "validate/traits.hpp"

namespace tessera::validate {
namespace {

using Catch::Approx;

const models::Operator kGemm = models::Gemm{.m = 512, .n = 512, .k = 512};

config::Calibration calibrated() {
  config::KindCalibration gemm{
      .held_out = {.count = 20, .mape_percent = 4, .p90_ape_percent = 9, .log_mean = 0.03, .log_sd = 0.04},
      .flops = {1e6, 1e9},
      .bytes = {1e3, 1e8},
      .latency_us = {2, 100}};
  for (const auto& [trait, value] : traits_of(kGemm, true, true)) gemm.traits[trait] = {value};
  config::Calibration c{.base = "a_gpu"};
  c.fidelities["cycle"].kinds["gemm"] = gemm;
  return c;
}

ErrorBar bar_of(const models::Operator& op, const config::Calibration& c = calibrated(), bool graph = true) {
  return error_bar(c, "cycle", op, graph, true);
}

TEST_CASE("a kernel like the held-out ones has their error: two sigma, the bias included") {
  const ErrorBar bar = bar_of(kGemm);
  CHECK(bar.standing == Standing::calibrated);
  CHECK(bar.sigma == Approx(0.05));
  CHECK(bar.percent() == Approx(100 * (std::exp(0.1) - 1)));
  CHECK(text_of(bar) == "+- 11 % (95 %, from 20 gemm rows held out: MAPE 4.0 %, p90 9.0 %)");
}

TEST_CASE("beyond the rows' sizes and traits it is said which") {
  const ErrorBar large = bar_of(models::Gemm{.m = 4096, .n = 512, .k = 512});
  CHECK(large.standing == Standing::outside);
  REQUIRE(large.reasons.size() == 1);
  CHECK(large.reasons[0] == "FLOPs 2.15e+09 is above 1e+09");
  CHECK(text_of(large).find("outside the calibrated range") == 0);
  CHECK(text_of(large).find("or more") != std::string::npos);
  const ErrorBar host = bar_of(kGemm, calibrated(), false);
  CHECK(host.standing == Standing::outside);
  CHECK(host.reasons == std::vector<std::string>{"no row with launch=host"});
  CHECK(bar_of(models::Gemm{.m = 512, .n = 512, .k = 512, .dtype = models::Dtype::fp16}).reasons ==
        std::vector<std::string>{"no row with dtype=fp16"});
}

TEST_CASE("forms of linear and latent attention are told apart") {
  CHECK(traits_of(models::LinearDecode{.batch = 1, .heads = 1, .form = models::DecodeForm::fused}, true, true)
            .at("form") == "fused");
  CHECK(traits_of(models::CausalConv1d{.update = true}, true, true).at("mode") == "update");
  CHECK(traits_of(models::LatentAttention{}, true, true).at("form") == "naive");
  config::Calibration c = calibrated();
  for (const char* kind : {"mla_prefill", "mla_decode"}) {
    c.fidelities["cycle"].kinds[kind] = c.fidelities["cycle"].kinds["gemm"];
  }
  // A prompt in the absorbed form is measured as a prefill, though its operator is that of a decode step.
  CHECK(bar_of(models::LatentDecode{.context = 64, .heads = 8, .q_rows = 64}, c).kind == "mla_prefill");
  CHECK(bar_of(models::LatentDecode{.context = 64, .heads = 8}, c).kind == "mla_decode");
}

TEST_CASE("without evidence there is no bar, and the reason is given") {
  CHECK(bar_of(kGemm, {}).reasons == std::vector<std::string>{"the hardware file was never calibrated"});
  config::Calibration c = calibrated();
  c.stale = true;
  CHECK(bar_of(kGemm, c).reasons ==
        std::vector<std::string>{"the hardware was changed since it was calibrated"});
  CHECK(error_bar(calibrated(), "cost", kGemm, true, true).reasons ==
        std::vector<std::string>{"calibrated at --fidelity cycle only"});
  CHECK(bar_of(models::Copy{.bytes = 1}).reasons ==
        std::vector<std::string>{"no memcpy rows in the calibration"});
  c = calibrated();
  c.fidelities["cycle"].kinds["gemm"].held_out.count = kFewestRows - 1;
  const ErrorBar few = bar_of(kGemm, c);
  CHECK(few.standing == Standing::uncalibrated);
  CHECK_FALSE(few.known());
  CHECK(text_of(few).find("uncalibrated: the error is not known (only 7 gemm rows") == 0);
}

TEST_CASE("a run's bar adds within a kind and squares between kinds") {
  ErrorBar a = bar_of(kGemm), b = a, none;
  a.sigma = b.sigma = std::log(1.1) / 2;  // 10 %
  b.standing = Standing::outside;
  const RunErrorBar run =
      combine({{a, 0.3}, {a, 0.1}, {b, 0.3}, {none, 0.3}}, {"gemm", "gemm", "attention", "net"});
  CHECK(run.percent == Approx(std::hypot(4, 3)));
  CHECK(run.calibrated_share == Approx(0.4));
  CHECK(run.outside_share == Approx(0.3));
  CHECK(run.uncalibrated_share == Approx(0.3));
  CHECK(combine({{none, 1}}, {"net"}).percent == 0);
}

}  // namespace
}  // namespace tessera::validate
