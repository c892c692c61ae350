// tessera trace: looks at traces, checks them, and turns one format into another.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/operator_list.hpp"
#include "cli/operator_replay.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/record_choices.hpp"
#include "cli/recorded_traces.hpp"
#include "cli/table.hpp"
#include "configs/reader/hardware.hpp"
#include "traces/operators/readers.hpp"
#include "traces/requests/reader.hpp"
#include "traces/requests/statistics.hpp"
#include "traces/requests/stream.hpp"
#include "traces/requests/writer.hpp"

namespace tessera::cli {

namespace {

struct Options {
  std::string trace, format = "auto", json, to = "csv", out, hardware = "h200_sxm", fabric;
  traces::StreamOptions stream;
  std::int64_t lines = 10;
  bool skip_bad = false;
  Recording recording;
};

constexpr const char* kFooter =
    R"(Traces of requests: Mooncake JSONL, Azure LLM CSV, BurstGPT CSV, our CSV. Traces of operators: MLCommons
Chakra (.et), PyTorch profiler (Kineto) JSON. Recorded choices of blocks (MoBA) and experts. All may be gzip.
Formats: docs/traces.md.

Examples:
  tessera trace stats mooncake_conversation_trace.jsonl
  tessera trace validate azure.csv                      (exit code 2 if a line is bad, with the first ten)
  tessera trace convert azure.csv --to mooncake --out azure.jsonl --until 600
  tessera trace convert selections.jsonl.gz --to binary --out selections.bin
  tessera trace operators kineto.json.gz --hardware h200_sxm --fabric nvlink4_nvswitch)";

traces::RequestReader open(const Options& o) {
  return traces::RequestReader::open(
      o.trace, {.format = traces::parse_request_format(o.format), .skip_bad = o.skip_bad});
}

/// A kind of trace that `stats` knows: tells its own from its content.
struct Family {
  const char* name;
  bool (*is)(const Options&);
  Json (*describe)(const Options&);
};

bool is_operators(const Options& o) { return is_operator_trace(o.trace, o.format); }

Json describe_requests(const Options& o) {
  traces::RequestReader reader = open(o);
  traces::RequestStream stream{[&](traces::Request& r) { return reader.next(r); }, o.stream};
  traces::RequestStatistics s;
  for (traces::Request r; stream.next(r);) s.add(r);
  const auto n = static_cast<double>(std::max<std::int64_t>(1, s.requests));
  const double length_s = static_cast<double>(s.last_ns) * 1e-9;
  Json json{
      {"kind", "requests"},
      {"format", traces::name_of(reader.format())},
      {"requests", s.requests},
      {"skipped_lines", reader.skipped().lines},
      {"length_s", length_s},
      {"requests_per_s", length_s > 0 ? static_cast<double>(s.requests - 1) / length_s : 0},
      {"gap_variation", s.gap_variation()},
      {"input_tokens", {{"mean", s.input_tokens / n}, {"max", s.most_input}, {"sum", s.input_tokens}}},
      {"output_tokens", {{"mean", s.output_tokens / n}, {"max", s.most_output}, {"sum", s.output_tokens}}}};
  if (s.blocks > 0) {
    json["blocks"] = {{"tokens", reader.block_tokens()},
                      {"named", s.blocks},
                      {"named_before", s.blocks_seen},
                      {"exact", s.complete}};
  }
  return json;
}

Json describe_operators(const Options& o) {
  const traces::OperatorTrace trace = traces::read_operators(o.trace);
  std::int64_t counts[4]{}, known = 0, dependencies = 0;
  double recorded_us = 0;
  for (const traces::TraceNode& n : trace.nodes) {
    ++counts[static_cast<std::size_t>(n.kind)];
    known += n.op.has_value() || n.part_of.has_value();
    dependencies += static_cast<std::int64_t>(n.after.size());
    recorded_us += n.recorded_us;
  }
  return {
      {"kind", "operators"},
      {"format", traces::operator_format(o.trace) == traces::OperatorFormat::kineto ? "kineto" : "chakra"},
      {"nodes", trace.nodes.size()},
      {"host", counts[0]},
      {"kernels", counts[1]},
      {"collectives", counts[2]},
      {"copies", counts[3]},
      {"kernels_of_known_operators", known},
      {"dependencies", dependencies},
      {"recorded_us", recorded_us}};
}

bool is_choices(const Options& o) { return is_recorded(o.trace, o.format); }
Json describe_choices(const Options& o) { return describe_recorded(o.trace, o.skip_bad); }

bool any(const Options&) { return true; }

constexpr Family kFamilies[] = {{"selections and routings", is_choices, describe_choices},
                                {"operators", is_operators, describe_operators},
                                {"requests", any, describe_requests}};

void give_out(const Options& o, const Json& json) {
  if (!o.json.empty()) write_json(o.json, json);
  if (o.json != "-") fmt::print("{}:\n{}", o.trace, lines_of(json));
}

void stats(const Options& o) {
  require_writable("--json", o.json);
  for (const Family& family : kFamilies) {
    if (family.is(o)) return give_out(o, family.describe(o));
  }
}

void head(const Options& o) {
  if (is_choices(o)) return fmt::print("{}", head_of_recorded(o.trace, o.lines));
  if (is_operators(o)) return fmt::print("{}", head_of_operators(o.trace, o.lines));
  traces::RequestReader reader = open(o);
  Table table{{"line", "arrival", "input", "output", "blocks"}};
  traces::Request r;
  for (std::int64_t n = 0; n < o.lines && reader.next(r); ++n) {
    table.add({fmt::format("{}", r.line), fmt::format("{:.6f} s", static_cast<double>(r.arrival_ns) * 1e-9),
               count_text(static_cast<double>(r.input_tokens)),
               count_text(static_cast<double>(r.output_tokens)), fmt::format("{}", r.blocks.size())});
  }
  fmt::print("{} ({})\n{}", o.trace, traces::name_of(reader.format()), table.text());
}

void validate(const Options& o) {
  if (is_choices(o)) {
    const RecordedCheck check = check_recorded(o.trace);
    for (const std::string& what : check.first) fmt::print(stderr, "{}\n", what);
    if (check.bad > 0)
      throw UsageError{
          fmt::format("{}: {} of {} records are wrong", o.trace, check.bad, check.bad + check.records)};
    fmt::print("{} ({}): {} records, nothing wrong\n", o.trace, check.kind, check.records);
    return;
  }
  if (is_operators(o)) {
    const traces::OperatorTrace trace = traces::read_operators(o.trace);
    fmt::print("{}: {} nodes, nothing wrong\n", o.trace, trace.nodes.size());
    return;
  }
  Options all = o;
  all.skip_bad = true;
  traces::RequestReader reader = open(all);
  std::int64_t good = 0;
  for (traces::Request r; reader.next(r);) ++good;
  const traces::Skipped& bad = reader.skipped();
  if (bad.lines == 0) {
    fmt::print("{} ({}): {} requests, nothing wrong\n", o.trace, traces::name_of(reader.format()), good);
    return;
  }
  for (const std::string& what : bad.first) fmt::print(stderr, "{}\n", what);
  throw UsageError{fmt::format("{}: {} of {} requests cannot be read", o.trace, bad.lines, bad.lines + good)};
}

using Write = std::function<void(std::string_view)>;

/// Calls fill(write, bad), which returns how many `what` it wrote: to the console, or to a file, whole or not
/// at all.
template <class Fill>
void write_out(const std::string& file, const char* what, Fill fill) {
  const bool console = file.empty() || file == "-";
  const std::string temporary = file + ".tmp";
  std::FILE* out = console ? stdout : std::fopen(temporary.c_str(), "wb");
  if (out == nullptr) throw std::runtime_error{fmt::format("{}: {}", temporary, std::strerror(errno))};
  const Write write = [&](std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), out) != text.size())
      throw std::runtime_error{
          fmt::format("{}: {}", console ? "standard output" : temporary, std::strerror(errno))};
  };
  std::int64_t count = 0, bad = 0;
  try {
    count = fill(write, bad);
  } catch (...) {
    if (!console) {
      std::fclose(out);
      std::remove(temporary.c_str());
    }
    throw;
  }
  if (console) return;
  if (std::fclose(out) != 0) throw std::runtime_error{fmt::format("{}: {}", temporary, std::strerror(errno))};
  std::filesystem::rename(temporary, file);
  fmt::print("{}: {} {}{}\n", file, count, what,
             bad > 0 ? fmt::format(", {} bad lines passed over", bad) : "");
}

void convert(const Options& o) {
  using Forms = std::vector<std::string_view>;
  const bool choices = is_choices(o), nodes = !choices && is_operators(o);
  const Forms forms = choices ? Forms{"csv", "jsonl", "binary"}
                      : nodes ? Forms{"csv"}
                              : Forms{"csv", "mooncake"};
  if (std::find(forms.begin(), forms.end(), o.to) == forms.end())
    throw UsageError{fmt::format("--to {}: of this trace expected {}", o.to, fmt::join(forms, " or "))};
  require_writable("--out", o.out);
  if (choices) {
    write_out(o.out, "records", [&](const Write& write, std::int64_t& bad) {
      return convert_recorded(o.trace, o.to, write, o.skip_bad ? &bad : nullptr);
    });
    return;
  }
  if (nodes) {
    write_out(o.out, "nodes",
              [&](const Write& write, std::int64_t&) { return convert_operators(o.trace, write); });
    return;
  }
  const traces::RequestFormat to =
      o.to == "csv" ? traces::RequestFormat::csv : traces::RequestFormat::mooncake;
  traces::RequestReader reader = open(o);
  traces::RequestStream stream{[&](traces::Request& r) { return reader.next(r); }, o.stream};
  write_out(o.out, "requests", [&](const Write& write, std::int64_t& bad) {
    const bool blocks = reader.block_tokens() > 0;
    write(traces::header_of(to, blocks));
    std::int64_t count = 0;
    for (traces::Request r; stream.next(r); ++count)
      write(traces::line_of(to, r, blocks && (to == traces::RequestFormat::csv || !r.blocks.empty())));
    bad = reader.skipped().lines;
    return count;
  });
}

void record(const Options& o) {
  require_writable("--out", o.out);
  write_out(o.out, "records",
            [&](const Write& write, std::int64_t&) { return record_choices(o.recording, write); });
}

void operators(const Options& o) {
  require_writable("--json", o.json);
  const GpuSpec gpu =
      config::read_gpu(config::Document::read(resolve_config("hardware", o.hardware, "--hardware")));
  FabricSpec fabric;
  if (!o.fabric.empty())
    fabric = config::read_fabric(config::Document::read(resolve_config("fabrics", o.fabric, "--fabric")));
  give_out(o, operator_replay(o.trace, gpu, o.fabric.empty() ? nullptr : &fabric));
}

}  // namespace

void add_trace(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  Command command{app, "trace", "Look at a trace, check it, convert it"};
  command.require_subcommand();
  command.footer(kFooter);
  const auto add = [&](const char* name, const char* what, void (*run)(const Options&)) {
    Command sub = command.subcommand(name, what);
    sub.option("TRACE", o->trace, "A file").required();
    sub.obeyed_by([o, run] { run(*o); });
    return sub;
  };
  const auto requests = [&](Command sub) {
    sub.option("--format", o->format,
               "auto, mooncake, azure, burstgpt, csv, chakra, kineto, selection or routing")
        .default_shown();
    sub.flag("--skip-bad", o->skip_bad, "Count lines that cannot be read, and go on");
  };
  const auto window = [&](Command sub) {
    sub.option("--from", o->stream.from_s, "Only requests from this second on").not_negative();
    sub.option("--until", o->stream.until_s, "and before this one").positive();
    sub.option("--limit", o->stream.limit, "At most so many requests").positive();
    sub.option("--time-scale", o->stream.time_scale, "Multiply the times between arrivals").within(1e-6, 1e6);
    sub.option("--rate-scale", o->stream.rate_scale, "So many times the requests").within(1e-6, 1e4);
    sub.option("--seed", o->stream.seed, "Seed of what is random in that").default_shown();
  };
  Command sub = add("stats", "What a trace is like", stats);
  requests(sub);
  window(sub);
  sub.option("--json", o->json, "Write the result as JSON to a file, or - for standard output");
  sub = add("head", "The first requests, nodes of operators, or records", head);
  requests(sub);
  sub.option("-n", o->lines, "How many").positive().default_shown();
  requests(add("validate", "Read all of a trace and name what is wrong", validate));
  sub = add("convert", "Write requests, nodes of operators, or records in another format", convert);
  requests(sub);
  window(sub);
  sub.option("--to", o->to,
             "Requests: csv or mooncake; operators: csv; choices of blocks or experts: csv, jsonl or binary")
      .default_shown();
  sub.option("--out", o->out, "The file to write; standard output without it");
  sub = command.subcommand("record", "Choices of our float64 reference on random input, as a trace");
  sub.obeyed_by([o] { record(*o); });
  Recording& r = o->recording;
  sub.option("KIND", r.what, "selection or routing").required().one_of({"selection", "routing"});
  const auto number = [&](const char* name, std::int64_t& value, const char* what) {
    sub.option(name, value, what).within(1, 1 << 24).default_shown();
  };
  number("--tokens", r.tokens, "Of the prompt");
  number("--layers", r.layers, "Recorded");
  number("--topk", r.topk, "Blocks, the own one among them, or experts of a token");
  number("--heads", r.heads, "Query heads (selection)");
  number("--kv-heads", r.kv_heads, "Key heads (selection)");
  number("--head-dim", r.head_dim, "Of a head (selection)");
  number("--block", r.block, "Tokens of a block (selection)");
  number("--experts", r.experts, "To choose from (routing)");
  sub.option("--seed", r.seed, "Of keys, queries and scores").default_shown();
  sub.option("--to", r.to, "jsonl or binary").one_of({"jsonl", "binary"}).default_shown();
  sub.option("--out", o->out, "The file to write; standard output without it");
  sub = add("operators", "Run a trace of operators again at our prices", operators);
  sub.option("--hardware", o->hardware, "A GPU of configs/hardware, or a file").default_shown();
  sub.option("--fabric", o->fabric, "A network of configs/fabrics for collectives; as recorded without it");
  sub.option("--json", o->json, "Write the result as JSON to a file, or - for standard output");
}

}  // namespace tessera::cli
