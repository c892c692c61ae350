// The page: data as JSON, a fixed script that draws it, and the library, all in one file.

#include <fmt/format.h>

#include <map>

#include "validate/report.hpp"

namespace tessera::validate {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kStyle = R"(
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.4em; margin-bottom: 0; }
h2 { font-size: 1.1em; margin: 1.6em 0 .2em; }
p { margin: .3em 0; color: #444; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2em .8em; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.chart { position: relative; height: 560px; }
)";

// Colours: Okabe and Ito, distinguishable without colour vision; the simulated points are hollow.
constexpr const char* kScript = R"(
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];
const colour = i => colours[i % colours.length];
const digits = v => Number(v.toPrecision(3));
document.getElementById('title').textContent = page.title;
document.getElementById('subtitle').textContent = page.subtitle;

const body = document.getElementById('errors');
for (const e of page.errors) {
  const tr = body.insertRow();
  for (const cell of e) tr.insertCell().textContent = typeof cell === 'number' ? cell.toFixed(1) : cell;
}

const points = (kind, x, y, more) => ({
  label: page.kinds[kind], backgroundColor: colour(kind) + '99', borderColor: colour(kind), pointRadius: 3,
  data: page.rows.filter(r => r.kind === kind && x(r) > 0).map(r => ({x: x(r), y: y(r), row: r})), ...more});
const line = (label, data, dash) => ({label, data, type: 'line', showLine: true, borderColor: '#555', borderWidth: 1.5,
  borderDash: dash || [], pointRadius: 0, pointHitRadius: 0, fill: false});
const tooltip = {callbacks: {label: c => c.raw.row === undefined ? c.dataset.label :
  [c.raw.row.name, `measured ${digits(c.raw.row.measured)} us, simulated ${digits(c.raw.row.predicted)} us (` +
   `${c.raw.row.error > 0 ? '+' : ''}${digits(c.raw.row.error)} %)`, c.raw.row.place]}};
// One label per decade: between, gridlines only.
const decade = v => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? v.toLocaleString('en') : null;
const log = text => ({type: 'logarithmic', title: {display: true, text}, ticks: {callback: decade}});
const draw = (id, datasets, scales) => new Chart(document.getElementById(id), {type: 'scatter', data: {datasets},
  options: {animation: false, maintainAspectRatio: false, scales, plugins: {tooltip}}});

const kinds = page.kinds.map((_, i) => i);
// Not Math.min(...values): too many values do not fit on the stack.
const smallest = values => values.reduce((a, b) => Math.min(a, b)), largest = values => values.reduce((a, b) => Math.max(a, b));
const all = page.rows.flatMap(r => [r.measured, r.predicted]);
const least = smallest(all) / 1.2, most = largest(all) * 1.2;
const diagonal = f => [{x: least, y: least * f}, {x: most, y: most * f}];
draw('agreement', [...kinds.map(k => points(k, r => r.measured, r => r.predicted)), line('equal', diagonal(1)),
  line('+10 %', diagonal(1.1), [6, 4]), line('-10 %', diagonal(0.9), [6, 4])],
  {x: {...log('measured, us'), min: least, max: most}, y: {...log('simulated, us'), min: least, max: most}});
draw('error', [...kinds.map(k => points(k, r => r.measured, r => r.error))],
  {x: log('measured, us'), y: {title: {display: true, text: 'error, % (below 0: too fast)'}}});
const work = page.rows.filter(r => r.flops > 0);
const intensities = work.map(r => r.flops / r.bytes);
const ridge = page.peak_flops / page.hbm_bytes_per_s;
const low = smallest([...intensities, ridge]) / 2, high = largest([...intensities, ridge]) * 2;
const intensity = r => r.flops / r.bytes;
draw('roofline', [
  line(`HBM, ${digits(page.hbm_bytes_per_s / 1e12)} TB/s`, [{x: low, y: low * page.hbm_bytes_per_s / 1e12},
    {x: ridge, y: page.peak_flops / 1e12}]),
  line(`tensor cores, ${digits(page.peak_flops / 1e12)} TFLOP/s`, [{x: ridge, y: page.peak_flops / 1e12},
    {x: high, y: page.peak_flops / 1e12}], [8, 3]),
  ...kinds.map(k => points(k, intensity, r => r.flops / r.measured / 1e6, {label: page.kinds[k] + ', measured'})),
  ...kinds.map(k => points(k, intensity, r => r.flops / r.predicted / 1e6,
    {label: page.kinds[k] + ', simulated', backgroundColor: 'transparent', pointRadius: 4}))],
  {x: {...log('arithmetic intensity, FLOP per byte of operands'), min: low, max: high}, y: log('achieved, TFLOP/s')});
)";

Json page_data(const Comparison& comparison, const GpuSpec& gpu) {
  Json page;
  page["title"] =
      fmt::format("Tessera against measurements on {}", gpu.product.empty() ? gpu.name : gpu.product);
  page["subtitle"] = fmt::format("{} rows, {} distinct kernels simulated in cycle detail; {}",
                                 comparison.rows.size(), comparison.simulated, gpu.calibration);
  page["peak_flops"] = gpu.sms() * gpu.sm.tensor_flops_per_cycle * gpu.boost_clock_mhz * 1e6;
  page["hbm_bytes_per_s"] = gpu.hbm.peak_bytes_per_us() * 1e6;
  std::map<std::string, std::size_t> kind_index;
  page["kinds"] = Json::array();
  page["errors"] = Json::array();
  const auto add_errors = [&](const Group& g) {
    const Errors e = errors_of(g.rows);
    page["errors"].push_back({g.meaning, std::to_string(e.count), e.mape_percent, e.median_ape_percent,
                              e.p90_ape_percent, e.max_ape_percent, e.bias_percent});
  };
  for (const Group& g : by_kind(comparison)) {
    kind_index[g.name] = page["kinds"].size();
    page["kinds"].push_back(g.name);
    add_errors(g);
  }
  for (const Group& g : quoted_groups(comparison)) add_errors(g);
  page["rows"] = Json::array();
  for (const Compared& c : comparison.rows) {
    page["rows"].push_back({{"kind", kind_index.at(c.row.kind)},
                            {"name", c.row.kind + " " + shape_text(c.row)},
                            {"place", fmt::format("{}:{}", c.row.file.string(), c.row.line)},
                            {"measured", c.row.measured_us},
                            {"predicted", c.predicted_us},
                            {"error", c.error_percent()},
                            {"flops", c.result.flops},
                            {"bytes", models::min_bytes_of(c.row.op)}});
  }
  return page;
}

}  // namespace

std::string in_script(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<')
      text += "\\u003c";
    else
      text += c;
  }
  return text;
}

std::string to_html(const Comparison& comparison, const GpuSpec& gpu, const std::string& library) {
  return fmt::format(
      R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Tessera: validation</title>
<style>{}</style>
<script>{}</script></head>
<body>
<h1 id="title"></h1><p id="subtitle"></p>
<table><thead><tr><th>kind</th><th>rows</th><th>MAPE %</th><th>median APE %</th><th>p90 APE %</th><th>max APE %</th>
<th>bias %</th></tr></thead><tbody id="errors"></tbody></table>
<h2>Simulated against measured</h2><div class="chart"><canvas id="agreement"></canvas></div>
<h2>Error by size</h2><div class="chart"><canvas id="error"></canvas></div>
<h2>Roofline</h2><p>Each kernel twice: filled as measured, hollow as simulated. Points above
the slanted roof have operands that lay in the L2.</p>
<div class="chart"><canvas id="roofline"></canvas></div>
<script>const page = {};
{}</script>
</body></html>
)",
      kStyle, library, in_script(page_data(comparison, gpu)), kScript);
}

}  // namespace tessera::validate
