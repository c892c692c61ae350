// Any bytes as a configuration: the reader of documents, and above it those of hardware, fabrics,
// calibrations and models. The first byte says which. What is read, or a complaint; nothing else.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "configs/reader/calibration.hpp"
#include "configs/reader/document.hpp"
#include "configs/reader/hardware.hpp"
#include "models/architecture/architecture.hpp"

namespace {

using namespace tessera;

/// Every value of a document, as everything that it may be asked for.
void walk(const config::Value& value) {
  const auto ask = [](auto read) {
    try {
      read();
    } catch (const config::InputError&) {
    }
  };
  ask([&] { value.as_integer(); });
  ask([&] { value.as_number(); });
  ask([&] { value.as_bool(); });
  ask([&] { value.allow_only({"name", "value", "source"}); });
  if (value.is_map()) {
    for (const auto& [key, inside] : value.entries()) {
      if (const auto found = value.find(key)) walk(*found);
      if (inside.path().empty() && !key.empty()) std::abort();
    }
  } else if (value.is_sequence()) {
    for (const config::Value& item : value.items()) walk(item);
  }
}

void require_sound(const models::Architecture& model) {
  if (model.parameters() < model.active_parameters() || model.active_parameters() <= 0) std::abort();
  if (model.kv_bytes_per_token() < 0 || model.state_bytes_per_sequence() < 0) std::abort();
  if (model.layers.empty() || models::layers_text(model).empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text{reinterpret_cast<const char*>(data) + 1, size - 1};
  try {
    switch (data[0]) {
      case 'c':
        config::read_calibration(config::Document::parse(text, "t.yaml"));
        break;
      case 'f':
        config::read_fabric(config::Document::parse(text, "t.yaml"));
        break;
      case 'g': {
        const config::Document document = config::Document::parse(text, "t.yaml");
        config::read_manufacture(document);
        config::read_gpu(document);
        break;
      }
      case 'h':
        require_sound(models::read_architecture(config::Document::parse(text, "t/config.json")));
        break;
      case 'm': {
        const config::Document document = config::Document::parse(text, "t.yaml");
        // A `base` is another file: not of this input.
        if (const config::Value root = document.root(); root.is_map() && !root.find("base"))
          require_sound(models::read_architecture(document));
        break;
      }
      case 's': {
        // KEY=VALUE, as of --set, on a small document.
        config::Document document = config::Document::parse("a: {b: 1, c: [2, 3]}\n", "t.yaml");
        const std::size_t equals = text.find('=');
        if (equals != std::string::npos) document.set(text.substr(0, equals), text.substr(equals + 1));
        walk(document.root());
        break;
      }
      default:
        walk(config::Document::parse(text, data[0] % 2 == 0 ? "t.yaml" : "t.json").root());
    }
  } catch (const config::InputError&) {
  }
  return 0;
}
