// tessera list: what there is to name on a command line.

#include <fmt/format.h>

#include <memory>

#include "cli/command.hpp"
#include "cli/config_files.hpp"
#include "cli/kernel_arguments.hpp"
#include "cli/options.hpp"
#include "cli/table.hpp"
#include "models/architecture/architecture.hpp"

namespace tessera::cli {

namespace {

/// The line that describes a configuration: its "description" or "product", or what is wrong with it.
std::string describe(const std::filesystem::path& file) {
  try {
    const config::Value root = config::Document::read(file).root();
    for (const char* key : {"description", "product"}) {
      if (const auto value = root.find(key)) {
        const std::string text = value->as_string();
        return text.substr(0, text.find('\n'));
      }
    }
    return "";
  } catch (const config::InputError& e) {
    return fmt::format("(unreadable: {})", e.what());
  }
}

void list_kernels() {
  for (const KernelKind& k : kernel_kinds())
    fmt::print("  {:<18} {}\n  {:<18}   {}\n", k.name, k.summary, "", k.keys);
}

void list_models() {
  struct Row {
    std::string name;
    models::Architecture model;
    std::string layers;
  };
  std::vector<Row> rows;
  std::string unreadable;
  std::size_t width = 0;
  for (const std::string& name : config_names("models")) {
    try {
      models::Architecture m = models::read_architecture(find_config("models", name));
      rows.push_back({name, m, models::layers_text(m)});
      width = std::max(width, rows.back().layers.size());
    } catch (const config::InputError& e) {
      unreadable += fmt::format("  {}  (unreadable: {})\n", name, e.what());
    }
  }
  Table table{{"model", "parameters", "active", "KV bytes/token", "state bytes/sequence",
               fmt::format("{:<{}}", "layers", width)}};
  const auto count = [](std::int64_t n) { return count_text(static_cast<double>(n)); };
  for (const Row& row : rows) {
    const models::Architecture& m = row.model;
    table.add({row.name, count(m.parameters()), count(m.active_parameters()), count(m.kv_bytes_per_token()),
               count(m.state_bytes_per_sequence()), fmt::format("{:<{}}", row.layers, width)});
  }
  fmt::print("{}{}", table.text(), unreadable);
}

void list(const std::string& what) {
  if (what == "kernels") return list_kernels();
  if (what == "models") return list_models();
  std::size_t width = 0;
  const std::vector<std::string> names = config_names(what);
  for (const std::string& name : names) width = std::max(width, name.size());
  for (const std::string& name : names) {
    std::string line = fmt::format("  {:<{}}  {}", name, width, describe(find_config(what, name)));
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

}  // namespace

void add_list(CLI::App& app) {
  const auto what = std::make_shared<std::string>();
  Command command{app, "list", "List the hardware, models, kernels, ... that have names"};
  command.option("WHAT", *what, "hardware, models, kernels, shardings, experiments, fabrics or sweeps")
      .required();
  command.obeyed_by([what] {
    static const std::vector<std::string> kinds{"hardware",    "models",  "kernels", "shardings",
                                                "experiments", "fabrics", "sweeps"};
    if (std::find(kinds.begin(), kinds.end(), *what) == kinds.end()) {
      const std::string near = config::nearest(*what, kinds);
      throw UsageError{fmt::format("list: cannot list '{}'; {}", *what,
                                   near.empty() ? fmt::format("expected {}", fmt::join(kinds, ", "))
                                                : fmt::format("did you mean '{}'?", near))};
    }
    list(*what);
  });
}

}  // namespace tessera::cli
