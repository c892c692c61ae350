#include "configs/reader/document.hpp"

#include <fmt/format.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

namespace tessera::config {

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

/// Text in a message must stay one printable line.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 60)) out += std::iscntrl(static_cast<unsigned char>(c)) != 0 ? '?' : c;
  if (text.size() > 60) out += "...";
  return out;
}

std::string suggestion(std::string_view name, const std::vector<std::string>& valid) {
  const std::string near = nearest(name, valid);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", near);
}

int line_of_offset(const std::string& text, std::size_t offset) {
  return 1 +
         static_cast<int>(std::count(
             text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(offset, text.size())), '\n'));
}

}  // namespace

std::string nearest(std::string_view name, const std::vector<std::string>& valid) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& v : valid) {
    if (const std::size_t d = edit_distance(name, v); d < best_distance) {
      best_distance = d;
      best = v;
    }
  }
  return best;
}

/// A document's values, never changed once made: copies of a document share what `set` left as it was.
struct Node {
  enum class Kind : std::uint8_t { null, scalar, sequence, map };
  struct Entry {
    std::string key;  // of a sequence's items empty
    int key_line = 0;
    std::shared_ptr<const Node> value;
  };
  Kind kind = Kind::null;
  int line = 0;  // 0: not known
  std::string scalar;
  std::vector<Entry> entries;
};

struct Document::State {
  std::filesystem::path file;
  std::shared_ptr<const Node> root;
  std::set<std::string, std::less<>> overrides;  // dotted paths given by --set
};

struct Value::Impl {
  std::shared_ptr<const Document::State> state;
  std::shared_ptr<const Node> node;
  std::string path;
  int line = 1;
  bool overridden = false;

  /// A value inside this one. Its line is its key's, if it has one: a block map's own mark is a line too
  /// late. What lies inside a value given by --set was given by --set too.
  Value child(const Node::Entry& entry, std::string path_inside) const {
    auto impl = std::make_shared<Impl>();
    impl->state = state;
    impl->node = entry.value;
    impl->overridden = overridden || (!state->overrides.empty() &&
                                      state->overrides.find(path_inside) != state->overrides.end());
    impl->path = std::move(path_inside);
    impl->line = entry.key_line > 0 ? entry.key_line : entry.value->line > 0 ? entry.value->line : line;
    return Value{std::move(impl)};
  }
  Value child(const Node::Entry& entry) const {
    return child(entry, path.empty() ? entry.key : path + "." + entry.key);
  }
  std::vector<std::string> keys() const {
    std::vector<std::string> names;
    for (const Node::Entry& entry : node->entries) names.push_back(entry.key);
    return names;
  }
};

Value::Value(std::shared_ptr<const Impl> impl) : impl_{std::move(impl)} {}

InputError Value::error(std::string_view message) const {
  const std::string where =
      impl_->overridden ? std::string{"--set"} : fmt::format("{}:{}", file().string(), impl_->line);
  if (impl_->path.empty()) return InputError{fmt::format("{}: {}", where, message)};
  return InputError{fmt::format("{}: {}: {}", where, printable(impl_->path), message)};
}

bool Value::is_map() const { return impl_->node->kind == Node::Kind::map; }
bool Value::is_sequence() const { return impl_->node->kind == Node::Kind::sequence; }
bool Value::is_scalar() const { return impl_->node->kind == Node::Kind::scalar; }
const std::string& Value::path() const { return impl_->path; }
int Value::line() const { return impl_->line; }
bool Value::overridden() const { return impl_->overridden; }
const std::filesystem::path& Value::file() const { return impl_->state->file; }

std::optional<Value> Value::find(std::string_view key) const {
  if (!is_map()) throw error("expected a map of keys and values");
  for (const Node::Entry& entry : impl_->node->entries) {
    if (entry.key != key) continue;
    if (entry.value->kind == Node::Kind::null) return std::nullopt;
    return impl_->child(entry);
  }
  return std::nullopt;
}

Value Value::at(std::string_view key) const {
  if (auto value = find(key)) return *value;
  for (const Node::Entry& entry : impl_->node->entries) {
    if (entry.key == key) throw impl_->child(entry).error("has no value");
  }
  throw error(fmt::format("key '{}' is missing{}", key, [&] {
    const std::string near = nearest(key, impl_->keys());
    return near.empty() ? std::string{} : fmt::format(" ('{}' is there: is it misspelt?)", printable(near));
  }()));
}

void Value::allow_only(const std::vector<std::string>& known) const {
  if (!is_map()) throw error("expected a map of keys and values");
  for (const Node::Entry& entry : impl_->node->entries) {
    if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
    throw impl_->child(entry).error(fmt::format("unknown key{}", suggestion(entry.key, known)));
  }
}

std::vector<Value> Value::items() const {
  if (!is_sequence()) throw error("expected a list");
  std::vector<Value> values;
  for (const Node::Entry& item : impl_->node->entries)
    values.push_back(impl_->child(item, fmt::format("{}[{}]", impl_->path, values.size())));
  return values;
}

std::vector<std::pair<std::string, Value>> Value::entries() const {
  if (!is_map()) throw error("expected a map of keys and values");
  std::vector<std::pair<std::string, Value>> values;
  for (const Node::Entry& entry : impl_->node->entries) values.emplace_back(entry.key, impl_->child(entry));
  return values;
}

std::string Value::as_string() const {
  if (!is_scalar()) throw error("expected text");
  return impl_->node->scalar;
}

bool Value::as_bool() const {
  if (!is_scalar()) throw error("expected true or false");
  const std::string text = impl_->node->scalar;
  if (text == "true" || text == "True" || text == "yes") return true;
  if (text == "false" || text == "False" || text == "no") return false;
  throw error(fmt::format("expected true or false, not '{}'", printable(text)));
}

std::int64_t Value::as_integer() const {
  if (!is_scalar()) throw error("expected an integer");
  const std::string text = impl_->node->scalar;
  std::int64_t n = 0;
  const char* end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(text.data(), end, n);
  std::string_view suffix{rest, static_cast<std::size_t>(end - rest)};
  int shift = -1;
  if (suffix.empty())
    shift = 0;
  else if (suffix == "K" || suffix == "Ki")
    shift = 10;
  else if (suffix == "M" || suffix == "Mi")
    shift = 20;
  else if (suffix == "G" || suffix == "Gi")
    shift = 30;
  if (status != std::errc{} || shift < 0) {
    throw error(
        fmt::format("expected an integer (K, M, G stand for powers of 1024), not '{}'", printable(text)));
  }
  if (std::abs(static_cast<double>(n)) * static_cast<double>(std::int64_t{1} << shift) > 9e18)
    throw error("integer too large");
  return n * (std::int64_t{1} << shift);
}

std::int64_t Value::as_integer(std::int64_t least, std::int64_t most) const {
  const std::int64_t n = as_integer();
  if (n < least) throw error(fmt::format("must be at least {}, not {}", least, n));
  if (n > most) throw error(fmt::format("must be at most {}, not {}", most, n));
  return n;
}

double Value::as_number() const {
  if (!is_scalar()) throw error("expected a number");
  const std::string text = impl_->node->scalar;
  double x = 0;
  const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (status != std::errc{} || rest != text.data() + text.size() || !std::isfinite(x)) {
    throw error(fmt::format("expected a number, not '{}'", printable(text)));
  }
  return x;
}

double Value::as_number(double least, double most) const {
  const double x = as_number();
  if (x < least) throw error(fmt::format("must be at least {}, not {}", least, x));
  if (x > most) throw error(fmt::format("must be at most {}, not {}", most, x));
  return x;
}

std::string Value::as_one_of(const std::vector<std::string>& names) const {
  const std::string text = as_string();
  if (std::find(names.begin(), names.end(), text) != names.end()) return text;
  throw error(
      fmt::format("'{}' is none of {}{}", printable(text), fmt::join(names, ", "), suggestion(text, names)));
}

namespace {

/// yaml-cpp keeps both of two equal keys, and any node can be a key; neither makes sense here. Aliases can
/// make a document refer to itself, or a few lines stand for billions of values. `where` is "FILE:LINE" of a
/// line; `values` counts what was seen.
template <class Where>
void check_keys(const YAML::Node& node, const Where& where, std::size_t& values, int depth = 0) {
  constexpr int kDeepest = 64;
  constexpr std::size_t kMostValues = 10'000'000;
  const int line = node.Mark().line + 1;
  if (depth > kDeepest) throw InputError{fmt::format("{}: nested too deeply", where(line))};
  if (++values > kMostValues)
    throw InputError{fmt::format("{}: more than {} values", where(line), kMostValues)};
  if (node.IsMap()) {
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const YAML::Node& key = entry.first;
      const int key_line = key.Mark().line + 1;
      if (!key.IsScalar()) throw InputError{fmt::format("{}: a key must be text", where(key_line))};
      if (!seen.insert(key.Scalar()).second)
        throw InputError{fmt::format("{}: {}: key given twice", where(key_line), printable(key.Scalar()))};
      check_keys(entry.second, where, values, depth + 1);
    }
  } else if (node.IsSequence()) {
    for (const auto& item : node) check_keys(item, where, values, depth + 1);
  }
}

/// Takes note of where a document begins and of nothing else.
class DocumentStart : public YAML::EventHandler {
 public:
  int line = 0;
  void OnDocumentStart(const YAML::Mark& mark) override { line = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
  }
  void OnMapEnd() override {}
};

/// The line at which a second document of `text` begins, 0 if there is none. Not with YAML::LoadAll, which
/// does not come back from a stray closing bracket.
int second_document(const std::string& text) {
  std::istringstream stream{text};
  YAML::Parser parser{stream};
  DocumentStart start;
  if (!parser.HandleNextDocument(start)) return 0;
  return parser.HandleNextDocument(start) ? start.line : 0;
}

/// Throws what is wrong with a JSON text, and takes note of nothing else.
class JsonCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonCheck(const std::string& file, const std::string& text) : file_{file}, text_{text} {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
    // "[json.exception.NAME.ID] parse error at line ...; what was found", or without the middle part.
    std::string_view what = e.what();
    for (const std::string_view separator : {"; ", "] "}) {
      if (const std::size_t at = what.rfind(separator); at != std::string_view::npos) {
        what.remove_prefix(at + separator.size());
        break;
      }
    }
    throw InputError{fmt::format("{}:{}: not valid JSON: {}", file_,
                                 line_of_offset(text_, position > 0 ? position - 1 : 0), printable(what))};
  }

 private:
  const std::string& file_;
  const std::string& text_;
};

/// Results repeat names and texts in JSON, which is UTF-8.
bool is_utf8(std::string_view text) {
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

/// The one document in `text`, checked. A null node if there is none.
template <class Where>
YAML::Node load(const std::string& text, const Where& where) {
  if (!is_utf8(text)) {
    int line = 1;
    std::istringstream lines{text};
    for (std::string one; std::getline(lines, one) && is_utf8(one);) ++line;
    throw InputError{fmt::format("{}: not valid UTF-8 text", where(line))};
  }
  try {
    YAML::Node document = YAML::Load(text);
    if (const int line = second_document(text); line != 0)
      throw InputError{fmt::format("{}: a second document begins here, only one is expected", where(line))};
    std::size_t values = 0;
    check_keys(document, where, values);
    return document;
  } catch (const YAML::DeepRecursion& e) {
    throw InputError{fmt::format("{}: nested too deeply", where(e.mark.line + 1))};
  } catch (const YAML::Exception& e) {
    throw InputError{fmt::format("{}: {}", where(std::max(1, e.mark.line + 1)), printable(e.msg))};
  }
}

std::shared_ptr<const Node> tree_of(const YAML::Node& yaml) {
  auto node = std::make_shared<Node>();
  node->line = yaml.Mark().line + 1;
  if (yaml.IsScalar()) {
    node->kind = Node::Kind::scalar;
    node->scalar = yaml.Scalar();
  } else if (yaml.IsSequence()) {
    node->kind = Node::Kind::sequence;
    for (const auto& item : yaml) node->entries.push_back({{}, 0, tree_of(item)});
  } else if (yaml.IsMap()) {
    node->kind = Node::Kind::map;
    for (const auto& entry : yaml)
      node->entries.push_back({entry.first.Scalar(), entry.first.Mark().line + 1, tree_of(entry.second)});
  }
  return node;
}

/// `map` with the value at the dotted path `rest` replaced.
std::shared_ptr<const Node> replaced(const std::shared_ptr<const Node>& map, std::string_view rest,
                                     const std::shared_ptr<const Node>& value, std::string_view whole_path) {
  const std::size_t dot = rest.find('.');
  const std::string key{rest.substr(0, dot)};
  if (key.empty())
    throw InputError{fmt::format("--set: '{}' is no dotted path of keys", printable(whole_path))};
  if (map->kind != Node::Kind::null && map->kind != Node::Kind::map) {
    throw InputError{fmt::format("--set: {}: '{}' is inside a value that has no keys", printable(whole_path),
                                 printable(key))};
  }
  const auto inside = [&](const std::shared_ptr<const Node>& old) {
    return dot == std::string_view::npos ? value : replaced(old, rest.substr(dot + 1), value, whole_path);
  };
  auto copy = std::make_shared<Node>(*map);
  copy->kind = Node::Kind::map;
  for (Node::Entry& entry : copy->entries) {
    if (entry.key != key) continue;
    entry.value = inside(entry.value);
    return copy;
  }
  copy->entries.push_back({key, 0, inside(std::make_shared<Node>())});
  return copy;
}

}  // namespace

Document Document::parse(const std::string& text, const std::filesystem::path& name) {
  const std::string file = name.string();
  if (name.extension() == ".json") {
    JsonCheck check{file, text};
    nlohmann::json::sax_parse(text, &check);
  }
  Document document;
  document.state_ = std::make_shared<State>();
  document.state_->file = name;
  document.state_->root = tree_of(load(text, [&](int line) { return fmt::format("{}:{}", file, line); }));
  if (document.state_->root->kind == Node::Kind::null)
    throw InputError{fmt::format("{}:1: the file is empty", file)};
  return document;
}

Document Document::read(const std::filesystem::path& file) {
  std::error_code status;
  if (std::filesystem::is_directory(file, status))
    throw InputError{fmt::format("{}:1: is a directory, not a file", file.string())};
  std::ifstream in{file, std::ios::binary};
  if (!in)
    throw InputError{fmt::format("{}:1: cannot be read (no such file, or no permission)", file.string())};
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str(), file);
}

namespace {

/// Text that is a scalar whatever YAML makes of it: a sweep sets thousands of numbers and names.
bool is_plain_scalar(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !(letter(text.front()) || digit(text.front()))) return false;
  if (text == "null" || text == "Null" || text == "NULL") return false;
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return letter(c) || digit(c) || c == '_' || c == '.'; });
}

}  // namespace

void Document::set(std::string_view dotted_path, std::string_view value) {
  std::shared_ptr<const Node> parsed;
  if (is_plain_scalar(value)) {
    auto node = std::make_shared<Node>();
    node->kind = Node::Kind::scalar;
    node->scalar = value;
    node->line = 1;
    parsed = std::move(node);
  } else {
    parsed = tree_of(
        load(std::string{value}, [&](int) { return fmt::format("--set: {}", printable(dotted_path)); }));
  }
  state_->root = replaced(state_->root, dotted_path, parsed, dotted_path);
  state_->overrides.insert(std::string{dotted_path});
}

Document Document::copy() const {
  Document document;
  document.state_ = std::make_shared<State>(*state_);
  return document;
}

Value Document::root() const {
  auto impl = std::make_shared<Value::Impl>();
  impl->state = state_;
  impl->node = state_->root;
  impl->line = std::max(1, state_->root->line);
  return Value{std::move(impl)};
}

}  // namespace tessera::config
