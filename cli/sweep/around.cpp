#include "cli/sweep/around.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "cli/chart_library.hpp"
#include "cli/config_files.hpp"
#include "cli/experiment.hpp"
#include "cli/output.hpp"
#include "configs/reader/parameters.hpp"
#include "validate/report.hpp"

namespace tessera::cli {

namespace {

using config::Document;
using config::Value;

/// A price, and what belongs to the cost model, are no hardware.
bool is_price_or_fit(const std::string& key) {
  return key == "price_usd_per_hour" || key == "overlap_exponent";
}

/// One machine part: its file, what it is called, and the prefixes of its keys in an experiment.
struct Part {
  std::string name;
  std::filesystem::path file;
  std::vector<std::string> prefixes;
};

std::vector<Part> parts_of(const Value& root) {
  std::vector<Part> parts;
  const Value hardware = root.at("hardware");
  const Value comp = hardware.is_scalar() ? hardware : hardware.at("comp");
  const auto attn = hardware.is_scalar() ? std::nullopt : hardware.find("attn");
  Part gpu{"comp", resolve_config("hardware", comp), {"hardware.comp."}};
  if (!attn) {
    gpu.name = "gpu";
    parts.push_back(gpu);
  } else if (const auto file = resolve_config("hardware", *attn); file == gpu.file) {
    gpu.name = "gpu";
    gpu.prefixes.emplace_back("hardware.attn.");
    parts.push_back(gpu);
  } else {
    parts.push_back(gpu);
    parts.push_back({"attn", file, {"hardware.attn."}});
  }
  if (const auto fabric = root.find("fabric"))
    parts.push_back({"fabric", resolve_config("fabrics", *fabric), {"fabric."}});
  return parts;
}

bool is_whole(const Value& root, const std::string& key) {
  Value at = root;
  for (std::size_t begin = 0; begin <= key.size();) {
    const std::size_t dot = std::min(key.find('.', begin), key.size());
    at = at.at(key.substr(begin, dot - begin));
    begin = dot + 1;
  }
  return at.at("value").as_string().find_first_of(".eE") == std::string::npos;
}

std::string text_of_number(double x, bool whole) {
  return whole ? fmt::format("{}", std::llround(x)) : fmt::format("{}", x);
}

}  // namespace

Around around(const std::filesystem::path& experiment, const std::vector<std::string>& overrides,
              double step) {
  Around a{.step = step};
  a.sweep.file = experiment;
  a.sweep.experiment = experiment;
  a.sweep.name = "around " + experiment.stem().string();
  a.sweep.objectives = {{"latency_us", false}};
  a.sweep.design.method = DesignMethod::around;
  Document document = Document::read(experiment);
  std::string set_text;
  for (const std::string& text : overrides) {
    const std::size_t equals = std::min(text.find('='), text.size());
    a.sweep.set.emplace_back(text.substr(0, equals), equals < text.size() ? text.substr(equals + 1) : "");
    set_text += text + "\n";
    // What the experiment names may have been changed; what lies in the files it names comes with `set`.
    const std::string first = text.substr(0, std::min(text.find('.'), equals));
    const bool names = first == "fabric" || first == "hardware" || first == "sharding" || first == "model";
    const std::string key = text.substr(0, equals);
    if (!names || key == first || key == "hardware.comp" || key == "hardware.attn")
      apply_override(document, text);
  }
  a.sweep.hash = hash_of(document.root(), {}) + fmt::format("|{}|{}", step, set_text);
  a.points.push_back({.id = 0});
  const auto add = [&](const Parameter& p, const std::vector<std::pair<std::string, std::string>>& down,
                       const std::vector<std::pair<std::string, std::string>>& up) {
    a.parameters.push_back(p);
    for (const auto* axes : {&down, &up})
      a.points.push_back({.id = static_cast<std::int64_t>(a.points.size()), .axes = *axes});
  };
  for (const Part& part : parts_of(document.root())) {
    const Document file = Document::read(part.file);
    const Value root = file.root();
    const auto settings = [&](const std::string& key, const std::string& value) {
      std::vector<std::pair<std::string, std::string>> axes;
      for (const std::string& prefix : part.prefixes) axes.emplace_back(prefix + key, value);
      return axes;
    };
    for (const config::Parameter& p : config::parameters_of(file)) {
      if (p.value == 0 || is_price_or_fit(p.key)) continue;
      const bool whole = is_whole(root, p.key);
      const double change =
          whole ? std::max(1.0, std::round(std::abs(p.value) * step)) : std::abs(p.value) * step;
      const Parameter parameter{part.name + " " + p.key, p.value, p.value - change, p.value + change};
      auto down = settings(p.key, text_of_number(parameter.down, whole));
      auto up = settings(p.key, text_of_number(parameter.up, whole));
      if (p.key == "hbm.pin_gbps") {  // a burst takes the same number of command clocks
        const double tck = root.at("hbm").at("tck_ns").at("value").as_number();
        for (const auto& s : settings("hbm.tck_ns", fmt::format("{}", tck * p.value / parameter.down)))
          down.push_back(s);
        for (const auto& s : settings("hbm.tck_ns", fmt::format("{}", tck * p.value / parameter.up)))
          up.push_back(s);
      }
      if (p.key == "hbm.tck_ns") continue;  // goes with the pins' rate
      add(parameter, down, up);
    }
    if (const auto gpcs = root.find("gpc_sms")) {
      double sms = 0, count = 0;
      std::string fewer, more;
      for (const Value& n : gpcs->at("value").items()) {
        sms += n.as_number();
        ++count;
        fewer += fmt::format("{}{}", fewer.empty() ? "" : ", ", n.as_integer() - 1);
        more += fmt::format("{}{}", more.empty() ? "" : ", ", n.as_integer() + 1);
      }
      add({part.name + " SMs", sms, sms - count, sms + count}, settings("gpc_sms", "[" + fewer + "]"),
          settings("gpc_sms", "[" + more + "]"));
    }
  }
  return a;
}

std::vector<Sensitivity> sensitivities(const Around& a, const std::vector<Row>& rows,
                                       const std::string& metric) {
  std::vector<const Row*> by_id(a.points.size(), nullptr);
  for (const Row& row : rows) by_id.at(static_cast<std::size_t>(row.id)) = &row;
  const auto value_of = [&](std::size_t id) -> std::optional<double> {
    return by_id[id] != nullptr && by_id[id]->status == "ok" ? by_id[id]->metric(metric) : std::nullopt;
  };
  const auto base = value_of(0);
  if (!base || *base <= 0)
    throw std::runtime_error{
        fmt::format("{}: {}", a.sweep.experiment.string(),
                    by_id[0] != nullptr && !by_id[0]->error.empty() ? by_id[0]->error : "has no " + metric)};
  std::vector<Sensitivity> all;
  for (std::size_t i = 0; i < a.parameters.size(); ++i) {
    Sensitivity s{.parameter = a.parameters[i]};
    const auto down = value_of(2 * i + 1), up = value_of(2 * i + 2);
    for (const std::size_t id : {2 * i + 1, 2 * i + 2}) {
      if (!value_of(id) && by_id[id] != nullptr) s.missing = by_id[id]->error;
    }
    // A whole number of 2 changes by a half at least: what a step would do is in proportion, in logarithms.
    const auto scaled = [&](double value, double parameter, double wanted) {
      if (parameter <= 0 || s.parameter.value <= 0) return 100 * (value / *base - 1);
      return 100 * (std::pow(value / *base, std::log(wanted) / std::log(parameter / s.parameter.value)) - 1);
    };
    if (down) s.down_percent = scaled(*down, s.parameter.down, 1 - a.step);
    if (up) s.up_percent = scaled(*up, s.parameter.up, 1 + a.step);
    const double x0 = down ? s.parameter.down : s.parameter.value,
                 x1 = up ? s.parameter.up : s.parameter.value;
    if ((down || up) && x0 > 0 && x1 > 0)
      s.elasticity = std::log(up.value_or(*base) / down.value_or(*base)) / std::log(x1 / x0);
    all.push_back(std::move(s));
  }
  const auto strength = [](const Sensitivity& s) {
    return std::max(std::abs(s.down_percent), std::abs(s.up_percent));
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const Sensitivity& x, const Sensitivity& y) { return strength(x) > strength(y); });
  return all;
}

Json to_json(const std::vector<Sensitivity>& all, const Row& base, const std::string& metric) {
  Json json{{"metric", metric}, {"value", *base.metric(metric)}, {"parameters", Json::array()}};
  for (const Sensitivity& s : all) {
    json["parameters"].push_back({{"key", s.parameter.key},
                                  {"value", s.parameter.value},
                                  {"down", s.parameter.down},
                                  {"up", s.parameter.up},
                                  {"down_percent", s.down_percent},
                                  {"up_percent", s.up_percent},
                                  {"elasticity", s.elasticity},
                                  {"missing", s.missing}});
  }
  return json;
}

std::string to_html(const std::vector<Sensitivity>& all, const Row& base, const std::string& metric,
                    const std::string& experiment, double step, const std::string& library) {
  constexpr std::size_t kMost = 30;
  constexpr double kVisible = 0.005;  // percent
  Json page{{"title", "What would help " + experiment},
            {"subtitle",
             fmt::format("{} {:.6g}; change of it for {:.3g} % of one parameter (whole numbers were changed "
                         "by 1 at least, and the change scaled), the strongest of {}",
                         metric, *base.metric(metric), 100 * step, all.size())},
            {"rows", Json::array()}};
  for (const Sensitivity& s : all) {
    if (page["rows"].size() == kMost || std::max(std::abs(s.down_percent), std::abs(s.up_percent)) < kVisible)
      break;
    page["rows"].push_back({s.parameter.key, s.down_percent, s.up_percent, s.elasticity, s.parameter.down,
                            s.parameter.value, s.parameter.up});
  }
  return fmt::format(
      R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Tessera: sensitivity</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.4em; margin-bottom: 0; }}
p {{ margin: .3em 0; color: #444; }}
.chart {{ position: relative; }}
</style>
<script>{}</script></head>
<body>
<h1 id="title"></h1><p id="subtitle"></p>
<div class="chart" id="box"><canvas id="tornado"></canvas></div>
<script>const page = {};
document.getElementById('title').textContent = page.title;
document.getElementById('subtitle').textContent = page.subtitle;
document.getElementById('box').style.height = (80 + 26 * page.rows.length) + 'px';
const digits = v => Number(v.toPrecision(4)).toLocaleString('en', {{maximumFractionDigits: 6}});
const bars = (label, column, backgroundColor) => ({{label, backgroundColor, data: page.rows.map(r => r[column])}});
new Chart(document.getElementById('tornado'), {{type: 'bar',
  data: {{labels: page.rows.map(r => r[0]), datasets: [bars('parameter lower', 1, '#d55e00'), bars('parameter higher', 2, '#0072b2')]}},
  options: {{indexAxis: 'y', animation: false, maintainAspectRatio: false, grouped: false,
    datasets: {{bar: {{grouped: false}}}},
    scales: {{x: {{title: {{display: true, text: 'change, %'}}}}, y: {{ticks: {{autoSkip: false}}}}}},
    plugins: {{tooltip: {{callbacks: {{afterLabel: c => {{ const r = page.rows[c.dataIndex];
      return `${{digits(r[4])}} < ${{digits(r[5])}} < ${{digits(r[6])}}; elasticity ${{digits(r[3])}}`; }}}}}}}}}}}});
</script>
</body></html>
)",
      library, validate::in_script(page));
}

}  // namespace tessera::cli
