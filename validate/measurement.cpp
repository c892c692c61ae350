#include "validate/measurement.hpp"

#include <algorithm>

namespace tessera::validate {

void Measurements::skip(const std::filesystem::path& file, const std::string& kind,
                        const std::string& reason) {
  const auto same = std::find_if(skipped.begin(), skipped.end(), [&](const Skipped& s) {
    return s.file == file && s.kind == kind && s.reason == reason;
  });
  if (same != skipped.end())
    ++same->count;
  else
    skipped.push_back({file, kind, reason, 1});
}

std::string shape_text(const Measurement& row) {
  std::string text;
  for (const auto& [key, value] : row.arguments) text += (text.empty() ? "" : " ") + key + "=" + value;
  return text;
}

}  // namespace tessera::validate
