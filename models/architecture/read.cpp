#include "configs/reader/document.hpp"
#include "models/architecture/fields.hpp"

namespace tessera::models {

using config::Document;
using config::Value;

Architecture read_architecture(const std::filesystem::path& file) {
  return read_architecture(Document::read(file));
}

Architecture read_architecture(const Document& document) {
  const Value root = document.root();
  if (!root.is_map() || !root.find("model_type")) return read_own(document);
  // A config.json does not name itself; its folder does.
  const std::string folder = root.file().parent_path().filename().string();
  return read_hugging_face(root, folder.empty() ? root.file().stem().string() : folder);
}

}  // namespace tessera::models
