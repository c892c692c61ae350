#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "configs/reader/document.hpp"
#include "traces/input/json_pull.hpp"
#include "traces/operators/readers.hpp"

namespace tessera::traces {

namespace {

struct Event {
  std::string phase, category, name;
  double ts_us = 0, duration_us = 0;
  std::int64_t external_id = -1, stream = 0, device = 0;
  OperatorCall call;
  std::string collective, collective_type;
  double elements = -1;
  std::int64_t group = 0;

  void clear() { *this = {}; }
};

struct Kernel {
  std::string name;
  TraceNode::Kind kind = TraceNode::Kind::kernel;
  double ts_us = 0, duration_us = 0;
  std::int64_t external_id = -1;
  std::uint64_t lane = 0;
  std::optional<Collective> collective;
};

double finite(const JsonPull& json, const char* key) {
  const double value = json.number();
  if (value < 0) throw JsonError{fmt::format("{}: {} is negative", key, json.text())};
  if (value > 1e18) throw JsonError{fmt::format("{}: {} us is no time", key, json.text())};
  return value;
}

int bytes_of_type(const std::string& type) {
  static const std::map<std::string, int> known{{"BFloat16", 2}, {"Half", 2}, {"Float", 4}, {"Double", 8},
                                                {"Long", 8},     {"Int", 4},  {"Byte", 1},  {"Char", 1}};
  const auto at = known.find(type);
  return at == known.end() ? 0 : at->second;
}

class Reader {
 public:
  explicit Reader(ByteSource& source) : json_{source} {}

  OperatorTrace read() {
    const JsonToken first = json_.next();
    if (first == JsonToken::begin_array) {
      events();
    } else if (first == JsonToken::begin_object) {
      bool found = false;
      while (json_.next() == JsonToken::key) {
        if (json_.text() != "traceEvents") {
          json_.skip_value();
          continue;
        }
        if (json_.next() != JsonToken::begin_array) throw JsonError{"traceEvents: expected a list"};
        events();
        found = true;
      }
      if (!found) throw JsonError{"key 'traceEvents' is missing: no Chrome trace"};
    } else {
      throw JsonError{"expected an object or a list: no Chrome trace"};
    }
    json_.next();  // nothing may follow
    return assembled();
  }

  std::int64_t line() const { return json_.line(); }

 private:
  void events() {
    for (JsonToken t = json_.next(); t != JsonToken::end_array; t = json_.next()) {
      if (t != JsonToken::begin_object) throw JsonError{"traceEvents: expected objects"};
      event();
    }
  }

  void event() {
    e_.clear();
    bool timed = false;
    while (json_.next() == JsonToken::key) {
      const std::string key{json_.text()};
      const JsonToken value = json_.next();
      const bool text = value == JsonToken::string, number = value == JsonToken::number;
      if (key == "ph" && text) {
        e_.phase = json_.text();
      } else if (key == "cat" && text) {
        e_.category = json_.text();
      } else if (key == "name" && text) {
        e_.name = json_.text();
      } else if (key == "ts" && number) {
        e_.ts_us = finite(json_, "ts");
        timed = true;
      } else if (key == "dur" && number) {
        e_.duration_us = finite(json_, "dur");
      } else if (key == "args" && value == JsonToken::begin_object) {
        arguments();
      } else {
        json_.finish_value(value);
      }
    }
    if (e_.phase != "X") return;
    if (!timed) throw JsonError{fmt::format("event '{}' has no ts", e_.name)};
    keep();
  }

  void arguments() {
    while (json_.next() == JsonToken::key) {
      const std::string key{json_.text()};
      const JsonToken value = json_.next();
      const bool text = value == JsonToken::string, number = value == JsonToken::number;
      if (key == "External id" && number) {
        e_.external_id = json_.integer();
      } else if (key == "stream" && number) {
        e_.stream = json_.integer();
      } else if (key == "device" && number) {
        e_.device = json_.integer();
      } else if (key == "Input Dims" && value == JsonToken::begin_array) {
        dims();
      } else if ((key == "Input type" || key == "Concrete Inputs") && value == JsonToken::begin_array) {
        texts(key == "Input type" ? e_.call.types : e_.call.values);
      } else if (key == "Collective name" && text) {
        e_.collective = json_.text();
      } else if (key == "dtype" && text) {
        e_.collective_type = json_.text();
      } else if (key == "In msg nelems" && number) {
        e_.elements = json_.number();
      } else if (key == "Group size" && number) {
        e_.group = json_.integer();
      } else {
        json_.finish_value(value);
      }
    }
  }

  void dims() {
    for (JsonToken t = json_.next(); t != JsonToken::end_array; t = json_.next()) {
      auto& d = e_.call.dims.emplace_back();
      if (t != JsonToken::begin_array) {
        json_.finish_value(t);
        continue;
      }
      bool deep = false;
      for (JsonToken in = json_.next(); in != JsonToken::end_array; in = json_.next()) {
        if (in == JsonToken::number) {
          d.push_back(json_.integer());
        } else {
          json_.finish_value(in);
          deep = true;
        }
      }
      if (deep) d.clear();  // a list of tensors
    }
  }

  void texts(std::vector<std::string>& list) {
    for (JsonToken t = json_.next(); t != JsonToken::end_array; t = json_.next()) {
      list.emplace_back(t == JsonToken::string ? json_.text() : "");
      json_.finish_value(t);
    }
  }

  void keep() {
    if (e_.category == "cpu_op") {
      if (e_.external_id < 0) return;
      e_.call.name = e_.name;
      // Of operators within operators the outermost that we know has the whole work; ids are of the
      // innermost.
      if (auto op = operator_of(e_.call)) operators_.try_emplace(e_.external_id, std::move(*op));
      return;
    }
    const bool copy = e_.category == "gpu_memcpy" || e_.category == "gpu_memset";
    if (e_.category != "kernel" && !copy) {
      ++passed_over_;
      return;
    }
    Kernel& k = kernels_.emplace_back();
    k.name = std::move(e_.name);
    k.ts_us = e_.ts_us;
    k.duration_us = e_.duration_us;
    k.external_id = e_.external_id;
    k.lane = (static_cast<std::uint64_t>(e_.device) << 32) ^ static_cast<std::uint64_t>(e_.stream);
    k.kind = copy ? TraceNode::Kind::copy : TraceNode::Kind::kernel;
    if (e_.collective.empty() && !k.name.starts_with("nccl")) return;
    k.kind = TraceNode::Kind::collective;
    static const std::map<std::string, CollectiveKind> kinds{
        {"allreduce", CollectiveKind::all_reduce},
        {"_allgather_base", CollectiveKind::all_gather},
        {"allgather", CollectiveKind::all_gather},
        {"reduce_scatter", CollectiveKind::reduce_scatter},
        {"_reduce_scatter_base", CollectiveKind::reduce_scatter},
        {"all_to_all", CollectiveKind::all_to_all},
        {"all_to_allv", CollectiveKind::all_to_all},
        {"broadcast", CollectiveKind::broadcast},
        {"send", CollectiveKind::send_recv},
        {"recv", CollectiveKind::send_recv}};
    const auto at = kinds.find(e_.collective);
    const int size = bytes_of_type(e_.collective_type);
    if (at != kinds.end() && size > 0 && e_.elements >= 0)
      k.collective = Collective{at->second, e_.elements * size, e_.group};
  }

  OperatorTrace assembled() {
    std::stable_sort(kernels_.begin(), kernels_.end(),
                     [](const Kernel& a, const Kernel& b) { return a.ts_us < b.ts_us; });
    OperatorTrace trace;
    trace.passed_over = passed_over_;
    struct Lane {
      std::vector<std::uint32_t> nodes;  // in order of their starts
    };
    std::map<std::uint64_t, Lane> lanes;
    std::unordered_map<std::int64_t, std::uint32_t> stood_for;  // the node of an operator
    // The trace began when its first kernel did.
    double begin_us = kernels_.empty() ? 0 : kernels_.front().ts_us;
    for (const Kernel& k : kernels_) {
      TraceNode node{
          .name = k.name, .kind = k.kind, .recorded_us = k.duration_us, .collective = k.collective};
      if (k.kind == TraceNode::Kind::kernel && k.external_id >= 0) {
        if (const auto at = operators_.find(k.external_id); at != operators_.end()) {
          const auto [first, added] =
              stood_for.try_emplace(k.external_id, static_cast<std::uint32_t>(trace.nodes.size()));
          if (added) {
            node.op = at->second;
          } else {
            node.part_of = first->second;
          }
        }
      }
      double ready_us = begin_us;
      for (auto& [id, lane] : lanes) {
        // The last that had ended; on its own stream, the last.
        for (std::size_t n = lane.nodes.size(); n-- > 0;) {
          const Kernel& other = kernels_[lane.nodes[n]];
          const double end = other.ts_us + other.duration_us;
          if (id != k.lane && end > k.ts_us) continue;
          node.after.push_back(lane.nodes[n]);
          ready_us = std::max(ready_us, end);
          break;
        }
      }
      node.delay_us = std::max(0.0, k.ts_us - ready_us);
      lanes[k.lane].nodes.push_back(static_cast<std::uint32_t>(trace.nodes.size()));
      trace.nodes.push_back(std::move(node));
    }
    return trace;
  }

  JsonPull json_;
  Event e_;
  std::vector<Kernel> kernels_;
  std::unordered_map<std::int64_t, models::Operator> operators_;
  std::int64_t passed_over_ = 0;
};

}  // namespace

OperatorTrace read_kineto(std::unique_ptr<ByteSource> source, const std::string& name) {
  Reader reader{*source};
  try {
    return reader.read();
  } catch (const JsonError& e) {
    throw config::InputError{fmt::format("{}:{}: {}", name, reader.line(), e.what())};
  }
}

OperatorFormat operator_format(const std::filesystem::path& file) {
  const auto source = open_file(file);  // the bytes are its
  const std::string_view begin = source->read();
  const std::size_t at = begin.find_first_not_of(" \t\r\n");
  return at != std::string_view::npos && (begin[at] == '{' || begin[at] == '[') ? OperatorFormat::kineto
                                                                                : OperatorFormat::chakra;
}

OperatorTrace read_operators(const std::filesystem::path& file) {
  return operator_format(file) == OperatorFormat::kineto ? read_kineto(open_file(file), file.string())
                                                         : read_chakra(open_file(file), file.string());
}

}  // namespace tessera::traces
