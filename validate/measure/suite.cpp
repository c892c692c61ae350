#include "validate/measure/suite.hpp"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "configs/reader/document.hpp"
#include "validate/measure/kinds.hpp"

namespace tessera::measure {

namespace {

TimingRules read_timing(const config::Value& at) {
  at.allow_only({"warm_up_ms", "sample_ms", "samples", "stages"});
  TimingRules t;
  if (const auto v = at.find("warm_up_ms")) t.warm_up_ms = v->as_number(0, 60e3);
  if (const auto v = at.find("sample_ms")) t.sample_ms = v->as_number(0.001, 60e3);
  if (const auto v = at.find("samples")) t.samples = static_cast<int>(v->as_integer(1, 100'000));
  if (const auto v = at.find("stages")) t.stages = v->as_bool();
  return t;
}

std::string words_of(const config::Value& run) {
  // What only the simulator's runs of the same file use is not looked at.
  run.allow_only({"microbench", "kernel", "measure", "fidelity", "launches", "in_flight_bytes", "simulated"});
  if (const auto kernel = run.find("kernel")) return kernel->as_string();
  std::string words = "microbench name=" + run.at("microbench").as_string();
  if (const auto bytes = run.find("in_flight_bytes"))
    words += fmt::format(" in_flight_bytes={}", bytes->as_integer(1, 1 << 30));
  return words;
}

}  // namespace

std::string hash_of(const std::string& text) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return fmt::format("{:016x}", h);
}

Suite parse_suite(const std::string& text, const std::filesystem::path& name) {
  const auto document = config::Document::parse(text, name);
  const config::Value root = document.root();
  root.allow_only({"name", "description", "timing", "runs"});
  Suite suite{.name = root.at("name").as_string(), .hash = hash_of(text)};
  if (const auto d = root.find("description")) suite.description = d->as_string();
  if (const auto t = root.find("timing")) suite.timing = read_timing(*t);
  std::set<std::string> seen;
  for (const auto& [run, at] : root.at("runs").entries()) {
    try {
      for (Request& request : expand(words_of(at))) {
        require_measurable(request);
        if (seen.insert(request.text()).second) suite.cases.push_back({run, std::move(request)});
      }
    } catch (const std::invalid_argument& e) {
      throw at.error(e.what());
    }
  }
  if (suite.cases.empty()) throw root.at("runs").error("expected at least one run");
  return suite;
}

Suite read_suite(const std::filesystem::path& file) {
  std::ifstream in{file, std::ios::binary};
  const std::string text{std::istreambuf_iterator<char>{in}, {}};
  if (!in) throw config::InputError{fmt::format("{}: cannot be read", file.string())};
  return parse_suite(text, file);
}

}  // namespace tessera::measure
