#include "cli/config_files.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <set>

#include "cli/command.hpp"

namespace tessera::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::array kExtensions{".yaml", ".yml", ".json"};
constexpr const char* kInFolder = "config.json";  // a Hugging Face model is a folder with this in it

bool has_our_extension(const fs::path& path) {
  for (const char* e : kExtensions) {
    if (path.extension() == e) return true;
  }
  return false;
}

/// A name alone is looked up; anything with a folder or an extension is a path.
bool is_path(const std::string& name) {
  return name.find('/') != std::string::npos || has_our_extension(name);
}

std::string singular(const std::string& kind) {
  return kind == "hardware" || kind.empty() ? kind : kind.substr(0, kind.size() - 1);
}

/// Why `name` was not found: one line, with the nearest name or the names there are.
std::string not_found(const std::string& kind, const std::string& name) {
  const std::vector<std::string> names = config_names(kind);
  std::string text = fmt::format("no {} is called '{}'", singular(kind), name);
  if (const std::string near = config::nearest(name, names); !near.empty()) {
    text += fmt::format("; did you mean '{}'?", near);
  } else if (!names.empty()) {
    text += fmt::format("; there is: {}", fmt::join(names, ", "));
  }
  return text;
}

}  // namespace

std::vector<fs::path> config_roots() {
  std::vector<fs::path> roots;
  const auto add = [&](const fs::path& home) {
    const fs::path configs = home / "configs";
    if (fs::is_directory(configs)) roots.push_back(configs);
  };
  add(".");
  const char* home = std::getenv("TESSERA_HOME");
  add(home != nullptr && *home != '\0' ? fs::path{home} : fs::path{TESSERA_SOURCE_DIR});
  return roots;
}

std::vector<std::string> config_names(const std::string& kind) {
  std::set<std::string> names;
  for (const fs::path& root : config_roots()) {
    std::error_code ignored;
    for (const fs::directory_entry& entry : fs::directory_iterator{root / kind, ignored}) {
      if (entry.is_regular_file() && has_our_extension(entry.path()))
        names.insert(entry.path().stem().string());
      if (fs::is_regular_file(entry.path() / kInFolder)) names.insert(entry.path().filename().string());
    }
  }
  return {names.begin(), names.end()};
}

fs::path find_config(const std::string& kind, const std::string& name) {
  for (const fs::path& root : config_roots()) {
    for (const char* extension : kExtensions) {
      if (fs::path file = root / kind / (name + extension); fs::is_regular_file(file)) return file;
    }
    if (fs::path file = root / kind / name / kInFolder; fs::is_regular_file(file)) return file;
  }
  return {};
}

fs::path resolve_config(const std::string& kind, const config::Value& value) {
  const std::string name = value.as_string();
  if (is_path(name)) {
    for (const fs::path& file : {fs::path{name}, value.file().parent_path() / name}) {
      if (fs::is_regular_file(file / kInFolder)) return file / kInFolder;
      if (fs::is_directory(file))
        throw value.error(fmt::format("{} is a directory{}, not a file", name,
                                      kind == "models" ? fmt::format(" without a {}", kInFolder) : ""));
      if (fs::exists(file)) return file;
    }
    throw value.error(fmt::format("no file {}", name));
  }
  if (fs::path file = find_config(kind, name); !file.empty()) return file;
  throw value.error(not_found(kind, name));
}

fs::path resolve_config(const std::string& kind, const std::string& name, const std::string& what) {
  // "published/moba": in a folder of its kind. A path that is missing, or a folder, is left to Document::read
  // to complain about.
  if (is_path(name) && (fs::exists(name) || has_our_extension(name))) return name;
  if (fs::path file = find_config(kind, name); !file.empty()) return file;
  if (is_path(name)) return name;
  throw UsageError{what + ": " + not_found(kind, name)};
}

}  // namespace tessera::cli
